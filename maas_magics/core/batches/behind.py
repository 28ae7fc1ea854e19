"""Rows as a part of a network made them that stays as it is: kept in memory, or made as an epoch requests them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from maas_magics.core.batches.batches import Batch, Batches, InMemory

KEPT = 2**30
"""Bytes of what is kept of training and held-out rows, at most. A training that continues must come to the same."""

TOGETHER = {"cpu": 2**11}
"""Rows times length of a batch of what is computed once: more are padded further, and leave the cache of a CPU. MiniLM
made vectors of 640 sentences in 0.76 of the time that it took with 2**13."""

ELSEWHERE = 2**16
"""The same on other devices."""


class OfOneLength(Batches, Protocol):
    """Batches whose rows can be read some of about one length at a time."""

    def by_length(self, numbers: int) -> Iterator[tuple[Tensor, Batch]]:
        """Every row once, those of about one length together, with their places."""


class Fixed:
    """A part of a network that stays as it is, and how it is computed.

    Parameters
    ----------
    part : nn.Module
        In eval mode, on the device of the rows.
    context : callable
        Makes a context that it is computed in, such as one of another precision.
    """

    def __init__(self, part: nn.Module, context: Callable[[], AbstractContextManager[object]]) -> None:
        self._part, self._context = part.eval(), context

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What it makes of some rows, in fp32 where it is numbers in 16 bits."""
        with torch.no_grad(), self._context():
            found = self._part(*inputs)
        return tuple(x.float() if x.dtype in (torch.bfloat16, torch.float16) else x for x in found)


class Computed:
    """Batches behind a part that is computed each time.

    Parameters
    ----------
    batches : Batches
    fixed : Fixed
    """

    def __init__(self, batches: Batches, fixed: Fixed) -> None:
        self._batches, self._fixed = batches, fixed
        self.rows, self.steps = batches.rows, batches.steps
        self.batch_size = getattr(batches, "batch_size", 0)

    def epoch(self, generator: torch.Generator, start: int = 0) -> Iterator[Batch]:
        """Every row once, in the order of what it is behind."""
        return self._made(self._batches.epoch(generator, start))

    def whole(self) -> Iterator[Batch]:
        """Every row once, in order."""
        return self._made(self._batches.whole())

    def _made(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        return ((self._fixed(inputs), target) for inputs, target in batches)


def kept(
    batches: OfOneLength, fixed: Fixed, size: int, device: torch.device, most: int, progress: Callable[[int], None]
) -> tuple[InMemory | None, int]:
    """Rows behind a part, each computed once, and their bytes; None where they are too many bytes, or differ in length.

    Parameters
    ----------
    batches : Batches
    fixed : Fixed
    size : int
        Rows of a batch.
    device : torch.device
    most : int
        Bytes that may be kept.
    progress : callable
        Gets how many rows more are done; may raise to end it.
    """
    found: list[Tensor] = []
    target = None
    total = 0
    for places, (inputs, wanted) in batches.by_length(TOGETHER.get(device.type, ELSEWHERE)):
        made = fixed(inputs)
        if not found:
            total = batches.rows * sum(x[0].numel() * x.element_size() for x in made if len(x))
            if total > most:
                return None, total
            found = [x.new_empty(batches.rows, *x.shape[1:]) for x in made]
            target = wanted.new_empty(batches.rows, *wanted.shape[1:])
        assert target is not None
        if any(x.shape[1:] != whole.shape[1:] for x, whole in zip(made, found, strict=True)):
            return None, 0
        for x, whole in zip(made, found, strict=True):
            whole[places] = x
        target[places] = wanted
        progress(len(places))
    assert target is not None
    return InMemory(tuple(found), target, size), total
