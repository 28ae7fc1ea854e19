"""A map-style torch ``Dataset`` as batches: our order of rows, our worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from maas_magics.core.batches.ahead import on_device
from maas_magics.core.batches.batches import Batch, single
from maas_magics.core.batches.items import Items
from maas_magics.core.batches.loader_rows import BatchIndices, ReadBatch, in_order
from maas_magics.core.batches.loader_workers import Readers
from maas_magics.core.data.arrow import Array

WINDOW = 64
"""Batches among whose rows those of about one length are put together."""


def by_length(order: Tensor, lengths: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Rows in a random order whose batches hold rows of about one length, so that little is padded.

    Parameters
    ----------
    order : Tensor
        Places of all rows in a random order, int64 (n,).
    lengths : Tensor
        Of each row, (n,).
    size : int
        Rows of a batch.
    generator : torch.Generator
        Draws the order of the batches.
    """
    parts: list[Tensor] = []
    for window in torch.split(order, WINDOW * size):
        by = window[torch.argsort(lengths[window], stable=True)]
        batches = torch.split(by, size)
        whole = len(batches) - (len(batches[-1]) < size)
        turns = torch.randperm(whole, generator=generator).tolist()
        parts += [batches[at] for at in turns] + list(batches[whole:])
    return torch.cat(parts)


def in_parts(lengths: Array, numbers: int) -> Iterator[Tensor]:
    """Places of rows of about one length, the longest first, as many together as have so many numbers padded."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(1, numbers // max(1, int(lengths[order[start]])))
        yield torch.from_numpy(order[start:stop])
        start = stop


class FromDataset:
    """Rows of a dataset in an order of ours, so that an epoch continues at any batch without reading those before.

    Parameters
    ----------
    readers : Readers
        Of the dataset, and of others; shared with who validates.
    part : int
        Which of their datasets.
    rows : Tensor
        Indices of the rows, (n,) int64.
    batch_size : int
        Rows of a step; a last batch of a single row is left out where batch statistics need two.
    encode : callable
        Turns a batch's target into the tensor the loss takes.
    device : torch.device
    seed : int
        Of the random numbers that the dataset draws where no epoch has a seed of its own.
    pace : float
        Seconds that a batch was seen to take.
    items : Items
        How a batch is laid out.
    lengths : ndarray of int64, shape (n,), optional
        Length of each row, where rows differ in it: those of about one length share a batch.
    as_made : bool
        Whether inputs stay what they are, and do not become float32 where they are float64.
    """

    def __init__(
        self,
        readers: Readers,
        part: int,
        rows: Tensor,
        batch_size: int,
        encode: Callable[[Tensor], Tensor],
        device: torch.device,
        seed: int = 0,
        pace: float = 0.0,
        items: Items | None = None,
        lengths: Array | None = None,
        as_made: bool = False,
    ) -> None:
        self.items = items or Items()
        self.readers, self.batch_size, self.device, self.pace = readers, batch_size, device, pace
        self.rows = len(rows)
        self.steps = -(-self.rows // batch_size)
        if self.rows > batch_size and self.rows % batch_size == 1:
            self.steps -= 1
        self._lengths, self._as_made = lengths, as_made
        self._part, self._rows, self._encode, self._seed = part, rows, encode, seed

    def sized(self, batch_size: int) -> FromDataset:
        """The same rows in batches of another size."""
        return FromDataset(
            self.readers, self._part, self._rows, batch_size, self._encode, self.device, self._seed, self.pace,
            self.items, self._lengths, self._as_made,
        )  # fmt: skip

    def epoch(self, generator: torch.Generator, start: int = 0) -> Iterator[Batch]:
        """Every row once, in an order drawn from ``generator``; the batches before ``start`` are not read."""
        return self._batches(self.asked(generator, start))

    def whole(self) -> Iterator[Batch]:
        """Every row once, in order, with the same random numbers each time."""
        size = max(self.batch_size, 256)
        return self._batches(in_order(self._part, self._rows, size, self._seed))

    def by_length(self, numbers: int) -> Iterator[tuple[Tensor, Batch]]:
        """Every row once, those of about one length together, the longest first; each batch with its rows' places.

        Parameters
        ----------
        numbers : int
            Rows times length of a batch, at most, unless it is one row.
        """
        if self._lengths is None:
            parts = torch.split(torch.arange(self.rows), max(self.batch_size, 256))
        else:
            parts = tuple(in_parts(self._lengths, numbers))
        asked = (
            BatchIndices(self._part, self._rows[part].tolist(), self._seed, number) for number, part in enumerate(parts)
        )
        yield from zip(parts, self._batches(asked), strict=True)

    def asked(self, generator: torch.Generator, start: int = 0) -> Iterator[BatchIndices]:
        """The batches of an epoch, from ``start`` on."""
        drawn = torch.randperm(self.rows, generator=generator)
        if self._lengths is not None:
            drawn = by_length(drawn, torch.from_numpy(self._lengths), self.batch_size, generator)
        order = self._rows[drawn]
        seed = int(torch.randint(2**62, (), generator=generator))
        size = self.batch_size
        return (
            BatchIndices(self._part, order[k * size : (k + 1) * size].tolist(), seed, k)
            for k in range(start, self.steps)
        )

    def made(self, read: ReadBatch) -> Batch:
        """A batch that was read, on the device."""
        return self._finish([x.to(self.device) for x in self.items.tensors(read.item)])

    def _batches(self, asked: Iterator[BatchIndices]) -> Iterator[Batch]:
        batches = (self.items.tensors(read.item) for read in self.readers.read(asked))
        return on_device(batches, self.device, self._finish)

    def _finish(self, tensors: list[Tensor]) -> Batch:
        inputs, target = self.items.finished(tensors)
        return tuple(inputs if self._as_made else map(single, inputs)), self._encode(target)
