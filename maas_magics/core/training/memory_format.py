"""Weights of convolutions in the order that their kernels are fastest in."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from maas_magics.core.training.optimizers import channels_last_stride
from maas_magics.core.training.precision import trial

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def arrange(net: nn.Module, example: tuple[Tensor, ...], device: torch.device, precision: str) -> bool:
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
    bool
        Whether it was done.
    """
    if device.type != "cpu" and not (device.type == "cuda" and precision != "fp32"):
        return False
    if not any(isinstance(module, CONVOLUTIONS) for module in net.modules()):
        return False
    try:
        twin = copy.deepcopy(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    except (TypeError, RuntimeError):
        return False
    if trial(twin, example) is not None:
        return False
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in net.modules():
        if isinstance(module, CONVOLUTIONS):
            weight = module.weight.data  # of one channel it is in either order, and torch takes it for the other
            module.weight.data = weight.as_strided(weight.shape, channels_last_stride(weight.shape))
    return True
