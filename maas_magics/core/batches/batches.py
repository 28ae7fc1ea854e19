"""Rows to train on, a batch at a time: from memory, or from a torch loader as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from maas_magics.core.batches.ahead import on_device
from maas_magics.core.batches.items import Items
from maas_magics.core.batches.loader_workers import read_loader

Batch = tuple[tuple[Tensor, ...], Tensor]
"""Inputs of the network, and the encoded target."""


class FusedBatch(tuple[Tensor, ...]):
    """Inputs of several batches, concatenated, and the group of steps that takes them."""

    group: Any


COPY_LIMIT = 512 * 2**20
"""Bytes up to which an epoch's rows are put in order as a whole, which costs a second copy of them."""

MEASURE_LIMIT = 4096
"""Most rows of one evaluation batch: larger ones leave the cache and are slower."""


MEASURE_ROWS, MEASURE_NUMBERS = 512, 2**16
"""Rows of an evaluation batch; and numbers of it, where a row is an array that a CPU works on in its cache."""


class Batches(Protocol):
    """What the loop trains on."""

    rows: int
    steps: int

    def epoch(self, generator: torch.Generator, start: int = 0) -> Iterator[Batch]:
        """Every row once, in an order drawn from ``generator``; the batches before ``start`` are left out."""

    def whole(self) -> Iterator[Batch]:
        """Every row once, in order."""


@runtime_checkable
class Resizable(Batches, Protocol):
    """Batches whose size may be found by trying."""

    batch_size: int

    def sized(self, batch_size: int) -> Resizable:
        """The same rows in batches of another size."""


class InMemory:
    """Tensors of all rows.

    Parameters
    ----------
    inputs : tuple of Tensor
        First axis: rows.
    target : Tensor
    batch_size : int
        Rows of a step; a last batch of a single row is left out where batch statistics need two.
    measure : int
        Rows of an evaluation batch.
    draw : callable, optional
        From a generator to the indices of an epoch's rows; every row once when None.
    """

    def __init__(
        self,
        inputs: tuple[Tensor, ...],
        target: Tensor,
        batch_size: int,
        measure: int = MEASURE_ROWS,
        draw: Callable[[torch.Generator], Tensor] | None = None,
    ) -> None:
        self.inputs = inputs
        self.target = target
        self.rows = len(target)
        self.batch_size = batch_size
        self._draw = draw or self._shuffle
        self.measure = min(max(measure, batch_size), MEASURE_LIMIT)
        self.steps = -(-self.rows // batch_size)
        self._copies = sum(t.numel() * t.element_size() for t in (*inputs, target)) <= COPY_LIMIT
        if self.rows > batch_size and self.rows % batch_size == 1:
            self.steps -= 1

    def sized(self, batch_size: int) -> InMemory:
        """The same rows in batches of another size."""
        return InMemory(self.inputs, self.target, batch_size, draw=self._draw)

    def epoch(self, generator: torch.Generator, start: int = 0) -> Iterator[Batch]:
        """Every row once, in an order drawn from ``generator``; the batches before ``start`` are left out."""
        return islice(self._epoch(generator), start, None)

    def _epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        order = self._draw(generator).to(self.target.device)
        size, stop = self.batch_size, min(self.rows, self.steps * self.batch_size)
        if not self._copies:
            for start in range(0, stop, size):
                index = order[start : start + size]
                yield tuple(t.index_select(0, index) for t in self.inputs), self.target.index_select(0, index)
            return
        inputs = zip(*(torch.split(t.index_select(0, order), size) for t in self.inputs), strict=True)
        target = torch.split(self.target.index_select(0, order), size)
        yield from islice(zip(inputs, target, strict=True), self.steps)

    def by_length(self, numbers: int) -> Iterator[tuple[Tensor, Batch]]:
        """Every row once, with its place; rows have one length here, and come as `whole` gives them."""
        yield from zip(torch.split(torch.arange(self.rows), self.measure), self.whole(), strict=True)

    def drawn(self, generator: torch.Generator) -> Callable[[int, int], Batch]:
        """An epoch's rows in an order drawn from ``generator``: from two places in it to the rows between them."""
        order = self._draw(generator).to(self.target.device)
        if not self._copies:
            return lambda start, stop: self._at(order[start:stop])
        inputs, target = self._at(order)
        return lambda start, stop: (tuple(x[start:stop] for x in inputs), target[start:stop])

    def _at(self, index: Tensor) -> Batch:
        return tuple(t.index_select(0, index) for t in self.inputs), self.target.index_select(0, index)

    def _shuffle(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(self.rows, generator=generator)

    def whole(self) -> Iterator[Batch]:
        """Every row once, in order."""
        for start in range(0, self.rows, self.measure):
            stop = start + self.measure
            yield tuple(t[start:stop] for t in self.inputs), self.target[start:stop]


class FromLoader:
    """A torch ``DataLoader``, used as it is.

    Parameters
    ----------
    loader : torch.utils.data.DataLoader
    encode : callable
        Turns a batch's target into the tensor the loss takes.
    device : torch.device
    pace : float
        Seconds that a batch was seen to take.
    items : Items
        How its batches are laid out.
    """

    def __init__(
        self, loader: Any, encode: Any, device: torch.device, pace: float = 0.0, items: Items | None = None
    ) -> None:
        self.loader = loader
        self.items = items or Items()
        self.encode = encode
        self.device = device
        self.pace = pace
        self.steps = _length(loader)
        self.rows = _length(getattr(loader, "dataset", None)) or self.steps * (getattr(loader, "batch_size", None) or 1)

    def epoch(self, generator: torch.Generator, start: int = 0) -> Iterator[Batch]:
        """Every row once, in the loader's own order; the batches before ``start`` are read now, and left out."""
        batches = self.whole()
        for _ in range(start):
            next(batches, None)
        return batches

    def whole(self) -> Iterator[Batch]:
        """Every row once, in the loader's own order."""
        return on_device(map(self.items.tensors, read_loader(self.loader)), self.device, self._finish)

    def _finish(self, tensors: list[Tensor]) -> Batch:
        inputs, target = self.items.finished(tensors)
        return tuple(single(x) for x in inputs), self.encode(target)


def single(values: Tensor) -> Tensor:
    """Numbers of 64 bits as the 32 that networks have; anything else as it is."""
    return values.float() if values.dtype == torch.float64 else values


def _length(thing: Any) -> int:
    try:
        return len(thing)
    except TypeError:
        return 0


def rows_at_once(inputs: tuple[Tensor, ...]) -> int:
    """Rows of an evaluation batch of such inputs, unless a training batch has more.

    What a network makes of an image or a series is larger than what it gets: 512 of them leave the cache of a CPU,
    and the memory that they take comes anew from the system each time.
    """
    wide = [x[0].numel() for x in inputs if x.dim() > 2 and len(x) and x.device.type == "cpu"]
    return max(1, min(MEASURE_ROWS, MEASURE_NUMBERS // max(1, *wide))) if wide else MEASURE_ROWS
