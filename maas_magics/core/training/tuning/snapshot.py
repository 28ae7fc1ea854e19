"""The state of a training in memory, so that steps can be tried and undone to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.random_numbers import random_state, restore_random


@contextmanager
def taken_back(net: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Whatever steps do within it to network, optimizer and random numbers is undone, in the same tensors."""
    inner, random = optimizer.inner, random_state()
    modes = [(module, module.training) for module in net.modules()]
    tensors = [*net.parameters(), *net.buffers(), *(p for group in inner.param_groups for p in group["params"])]
    kept = [(tensor, tensor.detach().clone()) for tensor in _own(tensors)]
    gradients = [(tensor, None if tensor.grad is None else tensor.grad.clone()) for tensor in tensors]
    state = {
        parameter: {name: value.clone() if isinstance(value, Tensor) else value for name, value in own.items()}
        for parameter, own in inner.state.items()
    }
    rates = [dict(group) for group in inner.param_groups]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)
            for tensor, gradient in gradients:
                if gradient is None:
                    tensor.grad = None
                elif tensor.grad is not None:
                    tensor.grad.copy_(gradient)
            for parameter in list(inner.state):
                _put_back(inner.state, parameter, state)
        for group, before in zip(inner.param_groups, rates, strict=True):
            group.update(before)
        for module, training in modes:
            module.training = training
        restore_random(random)


def _own(tensors: list[Tensor]) -> list[Tensor]:
    """Each tensor once."""
    return list({id(tensor): tensor.detach() for tensor in tensors}.values())


def _put_back(states: Any, parameter: Tensor, before: dict[Tensor, dict[str, Any]]) -> None:
    """The state of a parameter as it was; that of one that had none goes."""
    if parameter not in before:
        del states[parameter]
        return
    own = states[parameter]
    for name, value in before[parameter].items():
        if isinstance(value, Tensor) and isinstance(own.get(name), Tensor):
            own[name].copy_(value)
        else:
            own[name] = value
    for name in own.keys() - before[parameter].keys():
        del own[name]
