"""Low-rank adapters beside the layers of pretrained networks, which stay as they are (Hu et al. 2021)."""

from __future__ import annotations

from typing import Any

import msgspec
from torch import nn

from maas_magics.api.errors import OptionError, did_you_mean, require

EXAMPLE = "--lora r=8 or --lora r=8,alpha=16"


class LoRA(msgspec.Struct, frozen=True):
    """Size of adapters.

    Attributes
    ----------
    r : int
        Rank: an adapter of a layer from ``a`` to ``b`` numbers has ``r * (a + b)`` weights.
    alpha : float
        What it answers is multiplied by ``alpha / r``.
    """

    r: int
    alpha: float

    @classmethod
    def parse(cls, given: Any) -> LoRA:
        """Adapters of a rank, or of ``r=8,alpha=16``; alpha is twice the rank where it is not given.

        Raises
        ------
        OptionError
            If it is neither.
        """
        parts = dict(_part(part) for part in str(given).split(","))
        unknown = next((name for name in parts if name not in ("r", "alpha")), None)
        if unknown is not None:
            raise OptionError(f"--lora has no {unknown!r}.", did_you_mean(unknown, ("r", "alpha")))
        rank = parts.get("r", 8.0)
        if rank < 1 or rank != int(rank):
            raise OptionError(f"The rank of --lora is {rank:g}; a whole number from 1 was expected.", EXAMPLE)
        alpha = parts.get("alpha", 2 * rank)
        if not 0 < alpha < float("inf"):
            raise OptionError(f"alpha of --lora is {alpha:g}; a number above 0 was expected.", EXAMPLE)
        return cls(int(rank), alpha)

    def __str__(self) -> str:
        return f"r={self.r},alpha={self.alpha:g}"


def _part(text: str) -> tuple[str, float]:
    name, sign, value = text.strip().partition("=")
    if not sign:
        name, value = "r", name
    try:
        return name.strip(), float(value)
    except ValueError:
        raise OptionError(f"--lora {text!r} is not valid.", EXAMPLE) from None


def adapt(net: nn.Module, lora: LoRA) -> None:
    """Put adapters beside every linear layer of the pretrained parts of a network, whose own weights stay.

    Each part is the ``pretrained`` module of one of the network's modules. The network's ``unchanged`` are then the
    names of what stays.

    Parameters
    ----------
    net : nn.Module
        With the weights of its pretrained parts.
    lora : LoRA

    Raises
    ------
    MissingDependency
        If peft is not installed.
    OptionError
        If there is no such layer.
    """
    require("peft", "peft", "--lora", "maas-magics[text]")
    from peft import LoraConfig, inject_adapter_in_model

    make: Any = LoraConfig  # its alpha may be any number, whatever its type says
    found = 0
    for module in list(net.modules()):
        part = getattr(module, "pretrained", None)
        if not isinstance(part, nn.Module):
            continue
        names = [name for name, layer in part.named_modules() if isinstance(layer, nn.Linear)]
        found += len(names)
        if names:
            config = make(r=lora.r, lora_alpha=lora.alpha, target_modules=names, lora_dropout=0.0)
            inject_adapter_in_model(config, part)
    if not found:
        raise OptionError("--lora adapts linear layers of a pretrained network; there are none.", "Drop --lora.")
    every = net.named_parameters(remove_duplicate=False)  # what two columns share has two names
    net.unchanged = frozenset(name for name, one in every if not one.requires_grad)  # type: ignore[assignment]


def merged(net: nn.Module) -> nn.Module:
    """The network with its adapters added to the weights of the layers that they stood beside.

    Parameters
    ----------
    net : nn.Module
        What `adapt` changed; it is changed back.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(net.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            net.set_submodule(name, module.get_base_layer())
    for module in net.modules():
        vars(module).pop("peft_config", None)
    del net.unchanged
    return net.requires_grad_()
