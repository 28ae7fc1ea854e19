"""Arithmetic in 16 bits around weights that stay in 32."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.core.networks.modules import copied
from maas_magics.core.training.steps.random_numbers import random_state, restore_random

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("fp32", *DTYPES)


def computes_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bf16, so that it is faster than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(has.get("amx_bf16") or has.get("avx512_bf16"))


class Precision:
    """Automatic mixed precision of a training: which arithmetic, and for fp16 a scale of the loss.

    Small gradients vanish in fp16, so the loss is multiplied by a number that adapts, and a step whose gradients
    overflow is left out (`torch.amp.GradScaler`).

    Parameters
    ----------
    name : {"bf16", "fp16"}
    device : torch.device
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = name
        self.autocast = torch.autocast(device.type, DTYPES[name])
        self.scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state)


def make_precision(name: str, net: nn.Module, example: tuple[Tensor, ...], device: torch.device) -> Precision | None:
    """How a network's steps are computed; None for fp32.

    Parameters
    ----------
    name : {"fp32", "bf16", "fp16"}
    net : nn.Module
        Is left as it is.
    example : tuple of Tensor
        Two rows that it takes, on its device.
    device : torch.device

    Raises
    ------
    OptionError
        If this device, or a layer of the network on it, has no such arithmetic.
    """
    if name == "fp32":
        return None
    if name not in DTYPES:
        raise OptionError(f"There is no precision {name!r}.", did_you_mean(name, PRECISIONS))
    other = "--precision bf16" if name == "fp16" else "--precision fp32"
    try:
        made = Precision(name, device)
    except RuntimeError as error:
        raise OptionError(f"{device} has no {name}: {_first(error)}", other) from None
    # A device may lack a kernel for one layer only, so the network itself is run, in fp32 as well:
    # what fails there too is not a matter of precision, and is reported by the training.
    found = trial(net, example, made.autocast)
    if found is not None and trial(net, example) is None:
        if name == "fp16" and trial(net, example, torch.autocast(device.type, torch.bfloat16)) is not None:
            other = "--precision fp32"
        raise OptionError(f"The network cannot be trained in {name} on {device}: {_first(found)}", other)
    return made


def trial(net: nn.Module, example: tuple[Tensor, ...], context: Any = None, *, spare: bool = False) -> Exception | None:
    """What a copy of a network raises in a forward and a backward pass in training mode; None if nothing.

    Parameters
    ----------
    net : nn.Module
        Is left as it is, as are all random numbers, unless it is ``spare``: a copy already.
    example : tuple of Tensor
    context : context manager, optional
        Around the forward pass.
    """
    kept = random_state()
    try:
        twin = (net if spare else copied(net)).train()
        with torch.enable_grad():
            with context or nullcontext():
                outputs = twin(*example)
            loss = outputs.float().square().mean()
            if loss.requires_grad:
                loss.backward()
    except Exception as error:  # whatever the network raises
        return error.with_traceback(None)
    finally:
        restore_random(kept)
    return None


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
