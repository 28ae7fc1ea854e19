"""State of a network that is not in its ``state_dict``, and that a training needs to continue to the same weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def learnt_state(net: nn.Module) -> dict[str, Any]:
    """The ``state_dict`` of a network, but for parameters that are ``unchanged`` since it was made.

    Parameters
    ----------
    net : nn.Module
        May have ``unchanged``, names of parameters that are the same however it is trained.
    """
    same: Any = getattr(net, "unchanged", ())
    return {name: value for name, value in net.state_dict().items() if name not in same}


def load_learnt(net: nn.Module, state: dict[str, Any]) -> None:
    """Put back what `learnt_state` gave.

    Raises
    ------
    RuntimeError
        If it is of another network.
    """
    same: Any = getattr(net, "unchanged", ())
    now = net.state_dict()
    net.load_state_dict({name: now[name] for name in same if name in now} | state)


def own_state(net: nn.Module) -> dict[str, Any]:
    """Buffers that are not persistent, and the states of random generators that modules hold.

    Parameters
    ----------
    net : nn.Module

    Returns
    -------
    dict of str to Any
        ``"buffers"`` and ``"generators"``, each by the name of the module and of its attribute.
    """
    kept = net.state_dict().keys()
    buffers = {name: tensor for name, tensor in net.named_buffers() if name not in kept}
    return {"buffers": buffers, "generators": {name: own.get_state() for name, own in _generators(net).items()}}


def load_own_state(net: nn.Module, state: dict[str, Any]) -> None:
    """Put back what `own_state` gave; what is not there any more is left out."""
    with torch.no_grad():
        for name, tensor in net.named_buffers():
            before: Tensor | None = state["buffers"].get(name)
            if before is not None and before.shape == tensor.shape:
                tensor.copy_(before)
            elif before is not None:
                owner, _, attribute = name.rpartition(".")
                setattr(net.get_submodule(owner), attribute, before.to(tensor.device))
    for name, own in _generators(net).items():
        if name in state["generators"]:
            own.set_state(state["generators"][name])


def _generators(net: nn.Module) -> dict[str, torch.Generator]:
    return {
        f"{name}.{attribute}": value
        for name, module in net.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, torch.Generator)
    }
