"""Weights of convolutions, and gradients, in the order that their kernels are fastest in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.core.training.own.modules import copied
from maas_magics.core.training.steps.optimizers import channels_last_stride
from maas_magics.core.training.steps.precision import trial

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
LAST = torch.channels_last


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
    that cannot work in it, as one that calls ``.view`` on what a convolution answers, is left as it is.

    Parameters
    ----------
    net : nn.Module
    example : tuple of Tensor
        Two rows that it takes, on its device.
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
    try:
        twin = copied(net).to(memory_format=LAST)  # type: ignore[call-overload]
    except (TypeError, RuntimeError):
        return None
    turned = _watch(twin)
    if trial(twin, example) is not None:
        return None
    net.to(memory_format=LAST)  # type: ignore[call-overload]
    for module in net.modules():
        if isinstance(module, CONVOLUTIONS):
            weight = module.weight.data  # of one channel it is in either order, and torch takes it for the other
            module.weight.data = weight.as_strided(weight.shape, channels_last_stride(weight.shape))
    return Arrangement(net, turned)


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
