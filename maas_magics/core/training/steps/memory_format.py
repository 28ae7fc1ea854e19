"""Weights of convolutions, and gradients, in the order that their kernels are fastest in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.core.networks.modules import copied
from maas_magics.core.training.steps.optimizers import channels_last_stride
from maas_magics.core.training.steps.precision import trial
from maas_magics.core.training.steps.random_numbers import random_state, restore_random

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
LAST = torch.channels_last

EXACT, LEAST = 3.0, (3e-6, 5e-3)
"""Times as far from fp64 as the usual order that channels-last may be, and how far outputs and gradients may be in any
case. A gradient jumps where an activation has a kink: by a thousandth when a last digit tips one of many."""

FEW = 16
"""Channels from which a convolution of single points with a stride is safe in this order."""

ROWS, NUMBERS = 18, 2**15
"""Rows, and numbers of them, that the order is checked on at most; four in any case."""


class Arrangement:
    """A network in channels-last order, until `undo`.

    Parameters
    ----------
    net : nn.Module
        Its weights are in that order already.
    turned : set of str
        Layers whose gradient comes in the usual order, as behind a flatten, and is put into theirs. Some kernels,
        as that of a max-pooling, else go back and forth between the two several times.
    """

    def __init__(self, net: nn.Module, turned: set[str]) -> None:
        self.turned = turned
        self._net = net
        self._hooks = [net.get_submodule(name).register_forward_hook(_turn) for name in sorted(turned)]

    def undo(self) -> None:
        """Put the weights into the usual order, and leave the gradients as they come. May be called twice."""
        for hook in self._hooks:
            hook.remove()
        self._net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def arrange(net: nn.Module, example: tuple[Tensor, ...], device: torch.device, precision: str) -> Arrangement | None:
    """Put the weights of a network with 2-D convolutions into channels-last order, where that is faster.

    Convolutions, batch-norms and poolings hand the order on from the weights, so inputs need no conversion. A network
    that cannot work in it, as one that calls ``.view`` on the output of a convolution, is left as it is, and so is one
    that it makes less exact: in that order torch sums the statistics of a batch-norm in fp32 on a CPU, which loses
    digits where a channel's level is large against its spread.

    Parameters
    ----------
    net : nn.Module
    example : tuple of Tensor
        Two rows or more that it takes, on its device: some of those that it learns from, by which the order is checked.
    device : torch.device
        A CPU gains in any precision; of CUDA's kernels only those for 16 bits are made for this order.
    precision : str

    Returns
    -------
    Arrangement or None
        None where it was not done.
    """
    if device.type != "cpu" and not (device.type == "cuda" and precision != "fp32"):
        return None
    if not any(isinstance(module, CONVOLUTIONS) for module in net.modules()):
        return None
    if device.type == "cpu" and any(_writes_too_far(module) for module in net.modules()):
        return None
    try:
        twin = copied(net).to(memory_format=LAST)  # type: ignore[call-overload]
    except (TypeError, RuntimeError):
        return None
    turned = _watch(twin)
    if trial(twin, tuple(x[:2] for x in example), spare=True) is not None:
        return None
    del twin  # the copies that follow are to stand beside the network alone
    if precision == "fp32" and not _is_exact(net, example):
        return None
    net.to(memory_format=LAST)  # type: ignore[call-overload]
    for module in net.modules():
        if isinstance(module, CONVOLUTIONS):
            weight = module.weight.data  # of one channel it is in either order, and torch takes it for the other
            module.weight.data = weight.as_strided(weight.shape, channels_last_stride(weight.shape))
    return Arrangement(net, turned)


def _writes_too_far(module: nn.Module) -> bool:
    """Whether a layer is one whose backward pass in this order ends the process on a CPU, seen with torch 2.13."""
    if not isinstance(module, nn.Conv2d):
        return False
    pointwise = set(module.kernel_size) == {1} and set(module.stride) != {1}
    return pointwise and module.in_channels // module.groups < FEW


def _is_exact(net: nn.Module, example: tuple[Tensor, ...]) -> bool:
    """Whether outputs and gradients for some rows are as near to those in fp64 as they are in the usual order."""
    rows = max(4, min(ROWS, NUMBERS // max(1, sum(x[:1].numel() for x in example))))
    example = tuple(x[:rows] for x in example)
    try:
        exact = _step(copied(net).double(), tuple(x.double() if x.is_floating_point() else x for x in example))
        plain = _step(copied(net), example)
        last = _step(copied(net).to(memory_format=LAST), example)  # type: ignore[call-overload]
    except (RuntimeError, TypeError, ValueError):
        return False
    return all(
        _apart(found, true) <= EXACT * _apart(usual, true) + least
        for found, usual, true, least in zip(last, plain, exact, LEAST, strict=True)
    )


def _step(net: nn.Module, example: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Outputs about their mean, and the gradients of all weights concatenated, of a step in training mode, in fp64."""
    kept = random_state()
    try:
        with torch.enable_grad():
            outputs = net.train()(*example)
            outputs.double().square().mean().backward()
    finally:
        restore_random(kept)
    gradients = [p.grad.double().reshape(-1) for p in net.parameters() if p.grad is not None]
    told = outputs.detach().double()
    return told - told.mean(dim=0), torch.cat([*gradients, told.new_zeros(1)])


def _apart(found: Tensor, true: Tensor) -> float:
    """Distance in times of the length of what is true."""
    return float((found - true).norm() / true.norm().clamp(min=1e-30))


def _watch(net: nn.Module) -> set[str]:
    """Names, once steps were taken, of the layers that answer in channels-last order and get gradients in the usual."""
    found: set[str] = set()

    def see(name: str, outputs: Any) -> None:
        def arrive(gradient: Tensor) -> Tensor:
            if gradient.is_contiguous() and not gradient.is_contiguous(memory_format=LAST):
                found.add(name)
            return gradient.contiguous(memory_format=LAST)

        if _learns(outputs) and outputs.is_contiguous(memory_format=LAST) and not outputs.is_contiguous():
            outputs.register_hook(arrive)

    for name, module in net.named_modules():
        if not any(module.children()):
            module.register_forward_hook(lambda module, inputs, outputs, name=name: see(name, outputs))
    return found


def _turn(module: nn.Module, inputs: Any, outputs: Any) -> None:
    if _learns(outputs):
        outputs.register_hook(_turned)


def _turned(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=LAST)


def _learns(outputs: Any) -> bool:
    return isinstance(outputs, Tensor) and outputs.requires_grad and outputs.dim() == 4
