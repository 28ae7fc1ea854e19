"""torch.optim behind one flat buffer: one kernel a step instead of one for each parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.core.training.adam import direct_step

ELEMENTWISE = {"SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta"}
"""Optimizers that treat every weight by itself, so that flattening changes nothing."""


def optimizer_names() -> list[str]:
    """Every optimizer of ``torch.optim``."""
    base = torch.optim.Optimizer
    return sorted(
        name
        for name, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, base) and kind is not base
    )


def find_optimizer(name: str) -> type[torch.optim.Optimizer]:
    """Class of ``torch.optim`` by name, in any case.

    Raises
    ------
    OptionError
        If there is none of that name.
    """
    names = optimizer_names()
    exact = next((known for known in names if known.lower() == name.lower()), None)
    if exact is None:
        raise OptionError(f"torch.optim has no optimizer {name!r}.", did_you_mean(name, names))
    found: type[torch.optim.Optimizer] = getattr(torch.optim, exact)
    return found


class Optimizer:
    """A ``torch.optim`` optimizer over the parameters of a module.

    Where the optimizer works weight by weight, each group's parameters become views of one flat
    tensor and their gradients views of another, so a step is one kernel however many layers there are.
    Adam and AdamW on a CPU call that kernel directly; see `direct_step`.

    Parameters
    ----------
    net : nn.Module
        May define ``parameter_groups()``; see `maas_magics.core.architectures.Architecture`.
    name : str
    lr, weight_decay : float
    params : mapping
        Further arguments of the optimizer.
    flat : bool
        Whether parameters may become views of one tensor; sharded ones may not.
    """

    def __init__(
        self,
        net: nn.Module,
        name: str,
        lr: float | None,
        weight_decay: float | None,
        params: Mapping[str, Any],
        flat: bool = True,
    ) -> None:
        kind = find_optimizer(name)
        if kind is torch.optim.SparseAdam:
            raise OptionError("SparseAdam is for sparse gradients, which no network here has.", "--optimizer Adam")
        accepted = inspect.signature(kind).parameters
        unknown = next((key for key in params if key not in accepted or key == "params"), None)
        if unknown is not None:
            raise OptionError(
                f"{kind.__name__} has no argument {unknown!r}.", did_you_mean(unknown, set(accepted) - {"params"})
            )
        options = dict(params)
        if lr is not None:
            options["lr"] = lr
        if weight_decay is not None and "weight_decay" in accepted:
            options["weight_decay"] = weight_decay
        groups = []
        self._grads: list[Tensor] = []
        for group in _groups(net):
            members = [parameter for parameter in group["params"] if parameter.requires_grad]
            if not members:
                continue
            if flat and kind.__name__ in ELEMENTWISE:
                members = self._flatten(members)
            entry: dict[str, Any] = {"params": members}
            if "lr" in options:
                entry["lr"] = options["lr"] * group.get("lr_factor", 1.0)
            if "weight_decay" in options:
                entry["weight_decay"] = options["weight_decay"] * group.get("weight_decay_factor", 1.0)
            groups.append(entry)
        if not groups:
            raise OptionError("The network has no trainable parameter.", "Set requires_grad on some of them.")
        if (
            "fused" in accepted
            and not options.keys() & {"fused", "foreach", "capturable", "differentiable"}
            and all(p.is_floating_point() for g in groups for p in g["params"])
        ):
            options["fused"] = True
        # An optimizer that searches along a line knows no groups.
        whole = [p for group in groups for p in group["params"]] if kind is torch.optim.LBFGS else groups
        try:
            self.inner = kind(whole, **options)
        except (TypeError, ValueError) as error:
            raise OptionError(f"{kind.__name__} cannot be made: {error}", "--optimizer AdamW") from None
        self._base = [group["lr"] for group in self.inner.param_groups]
        self.needs_closure = bool(accepted.keys() & {"line_search_fn"})
        self.step: Callable[[], Any] = direct_step(self.inner)
        """Update the weights by their gradients."""

    def _flatten(self, members: list[Tensor]) -> list[Tensor]:
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for parameter in members:
            kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        flats = []
        for same in kinds.values():
            flat = torch.cat([parameter.detach().reshape(-1) for parameter in same]).requires_grad_()
            flat.grad = torch.zeros_like(flat)
            start = 0
            for parameter in same:
                stop = start + parameter.numel()
                parameter.data = flat.detach()[start:stop].view(parameter.shape)
                parameter.grad = flat.grad[start:stop].view(parameter.shape)
                start = stop
            flats.append(flat)
            self._grads.append(flat.grad)
        return flats

    def zero(self) -> None:
        """Set every gradient to zero."""
        for grad in self._grads:
            grad.zero_()
        if not self._grads:
            self.inner.zero_grad()

    def gradients(self) -> list[Tensor]:
        """Every gradient, as few tensors as there are; zeros for a parameter that has none."""
        if not self._grads:
            for group in self.inner.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is None:
                        parameter.grad = torch.zeros_like(parameter)
        return self._grads or [p.grad for group in self.inner.param_groups for p in group["params"]]

    def scale_lr(self, factor: float) -> None:
        """Set every group's learning rate to ``factor`` times its first one."""
        for group, base in zip(self.inner.param_groups, self._base, strict=True):
            group["lr"] = base * factor

    @property
    def lr(self) -> float:
        """Present learning rate of the first group."""
        return float(self.inner.param_groups[0]["lr"])


def _groups(net: nn.Module) -> Iterable[dict[str, Any]]:
    groups: Any = getattr(net, "parameter_groups", None)
    return groups() if callable(groups) else [{"params": list(net.parameters())}]
