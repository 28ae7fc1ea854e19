"""Rows as a part of a network made them that stays as it is: kept in memory, or made as an epoch requests them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from maas_magics.core.batches.batches import Batch, Batches, InMemory
from maas_magics.core.batches.from_dataset import by_length

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


class Uneven:
    """Rows that differ in length, those of about one length in a batch.

    Parameters
    ----------
    rows : list of tuple of Tensor
        Of each row, tensors of one length.
    target : Tensor
        First axis: rows.
    batch_size : int
        Rows of a step; a last batch of a single row is left out where batch statistics need two.
    padding : sequence of float
        What each tensor is padded with.
    """

    def __init__(
        self, rows: list[tuple[Tensor, ...]], target: Tensor, batch_size: int, padding: Sequence[float]
    ) -> None:
        self._each, self._target, self._padding = rows, target, padding
        self._lengths = torch.tensor([len(row[0]) for row in rows])
        self.rows, self.batch_size = len(rows), batch_size
        self.steps = -(-self.rows // batch_size)
        if self.rows > batch_size and self.rows % batch_size == 1:
            self.steps -= 1

    def epoch(self, generator: torch.Generator, start: int = 0) -> Iterator[Batch]:
        """Every row once, in an order drawn from ``generator``; the batches before ``start`` are not made."""
        size = self.batch_size
        order = by_length(torch.randperm(self.rows, generator=generator), self._lengths, size, generator)
        return (self._made(order[k * size : (k + 1) * size]) for k in range(start, self.steps))

    def whole(self) -> Iterator[Batch]:
        """Every row once, in order."""
        return map(self._made, torch.split(torch.arange(self.rows), max(self.batch_size, 256)))

    def _made(self, places: Tensor) -> Batch:
        few = [self._each[place] for place in places.tolist()]
        columns = zip(zip(*few, strict=True), self._padding, strict=True)
        inputs = tuple(pad_sequence(list(rows), batch_first=True, padding_value=value) for rows, value in columns)
        return inputs, self._target[places.to(self._target.device)]


def kept(
    batches: OfOneLength, fixed: Fixed, size: int, device: torch.device, most: int, progress: Callable[[int], None]
) -> tuple[InMemory | None, int]:
    """Rows behind a part, each computed once, and their bytes; None where they are too many bytes.

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
        for x, whole in zip(made, found, strict=True):
            whole[places] = x
        target[places] = wanted
        progress(len(places))
    assert target is not None
    return InMemory(tuple(found), target, size), total


def kept_uneven(
    batches: OfOneLength,
    fixed: Fixed,
    size: int,
    device: torch.device,
    most: int,
    progress: Callable[[int], None],
    padding: Sequence[float],
) -> tuple[Uneven | None, int]:
    """As `kept`, of rows that differ in length, each padded as the batch that it was computed in.

    Parameters
    ----------
    batches, fixed, size, device, most, progress
        See `kept`.
    padding : sequence of float
        See `maas_magics.core.networks.parted.Parted`.
    """
    rows: list[tuple[Tensor, ...]] = [()] * batches.rows
    target, total = None, 0
    for places, (inputs, wanted) in batches.by_length(TOGETHER.get(device.type, ELSEWHERE)):
        made = fixed(inputs)
        total += sum(x.numel() * x.element_size() for x in made)
        if total > most:
            return None, total
        if target is None:
            target = wanted.new_empty(batches.rows, *wanted.shape[1:])
        target[places] = wanted
        for place, *row in zip(places.tolist(), *made, strict=True):
            rows[place] = tuple(row)
        progress(len(places))
    assert target is not None
    return Uneven(rows, target, size, padding), total
