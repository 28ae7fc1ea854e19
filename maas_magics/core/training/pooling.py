"""A max-pooling before the ReLU that it follows: the same numbers, and the ReLU has fewer of them to work on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from maas_magics.core.training.checkpoint import random_state, restore_random

POOLINGS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)

Place = tuple[nn.Sequential, str, str]
"""A row of layers, and the names in it of a ReLU and of the pooling that follows."""


class Poolings:
    """Max-poolings that were put before the ReLU that they follow.

    Parameters
    ----------
    places : list of Place
    """

    def __init__(self, places: list[Place]) -> None:
        self._places, self._first = places, False
        self.first()

    def first(self) -> None:
        """Let them go before; may be called twice."""
        if not self._first:
            self._turn()

    def undo(self) -> None:
        """Put the layers into the order that they had; may be called twice."""
        if self._first:
            self._turn()

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Within it the layers are in the order that they had: a compiler makes more of that."""
        self.undo()
        try:
            yield
        finally:
            self.first()

    def _turn(self) -> None:
        for place in self._places:
            _swap(place)
        self._first = not self._first


def pool_first(net: nn.Module, example: tuple[Tensor, ...]) -> Poolings:
    """Let each max-pooling that follows a ReLU in an ``nn.Sequential`` go before it.

    The largest number of a window is the same before and after a ReLU, or becomes 0 either way; a gradient goes to the
    same number, or is 0 either way: outputs and gradients are the same to the bit. A network may read the layers of its
    ``nn.Sequential`` one by one, so a copy is asked first, in both orders.

    Parameters
    ----------
    net : nn.Module
        Gets its layers in the new order, where it answers the same in it.
    example : tuple of Tensor
        Two rows that it takes, on its device.

    Returns
    -------
    Poolings
        None of them where it was not done.
    """
    places = list(_places(net))
    return Poolings(places if places and _equal(net, example) else [])


def _equal(net: nn.Module, example: tuple[Tensor, ...]) -> bool:
    """Whether a network answers and learns the same in both orders."""
    try:
        twins = [copy.deepcopy(net) for _ in range(2)]
        Poolings(list(_places(twins[1])))
        usual, swapped = (_answers(twin, example) for twin in twins)
    except Exception:  # whatever the network raises, which the training will tell
        return False
    return len(usual) == len(swapped) and all(map(_same, usual, swapped))


def _places(net: nn.Module) -> Iterator[Place]:
    for row in net.modules():
        if type(row) is not nn.Sequential:
            continue
        names, last = list(row._modules), len(row) - 1
        for k in range(last):
            before, one, other = row[k - 1] if k else None, row[k], row[k + 1]
            if type(one) is not nn.ReLU or type(other) not in POOLINGS or not (_plain(one) and _plain(other)):
                continue
            # A ReLU that works in place changes what it is given: nobody else may have that.
            alone = not one.inplace or (isinstance(before, (_ConvNd, _BatchNorm)) and _plain(before))
            if alone and _whole(other):
                yield row, names[k], names[k + 1]


def _swap(place: Place) -> None:
    row, one, other = place
    row._modules[one], row._modules[other] = row._modules[other], row._modules[one]


def _plain(module: nn.Module) -> bool:
    """Whether nobody looks at what goes in and out of it."""
    return not any(
        (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    )


def _whole(pooling: nn.Module) -> bool:
    """Whether it answers the largest numbers alone, and each window has one that is no padding."""
    dilation = pooling.dilation
    return not pooling.return_indices and set(dilation if isinstance(dilation, tuple) else (dilation,)) == {1}


def _answers(net: nn.Module, example: tuple[Tensor, ...]) -> list[Tensor | None]:
    """Outputs, and the gradient of each weight of the sum of their squares, in training mode."""
    kept = random_state()
    try:
        with torch.enable_grad():
            outputs = net.train()(*example)
            outputs.float().square().sum().backward()
    finally:
        restore_random(kept)
    return [outputs.detach(), *(parameter.grad for parameter in net.parameters())]


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True)
