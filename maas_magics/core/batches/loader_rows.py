"""Batches of map-style torch datasets, the same whichever process reads them.

The random numbers of torch, numpy and Python that a dataset draws are seeded for each batch, from the order of the
epoch and the place of the batch in it. So neither the number of workers nor a resumed training changes a row. A
generator that a dataset keeps for itself is copied into each worker, as with any ``DataLoader``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from maas_magics.core.batches.loader_errors import failure


class BatchIndices(NamedTuple):
    """One batch.

    Attributes
    ----------
    part : int
        Which of the datasets.
    rows : list of int
    seed, number : int
        What the random numbers of the batch are drawn from: one of an epoch, and its place in it.
    """

    part: int
    rows: list[int]
    seed: int
    number: int


def in_order(part: int, rows: Tensor, size: int, seed: int) -> Iterator[BatchIndices]:
    """Batches of rows as they stand."""
    return (BatchIndices(part, few.tolist(), seed, number) for number, few in enumerate(torch.split(rows, size)))


class ReadBatch(NamedTuple):
    """A batch, or what kept it from being read, and the seconds that took in the process that did it."""

    item: Any
    seconds: float


class BatchDataset(Dataset[Any]):
    """Datasets, by batches rather than by rows.

    Parameters
    ----------
    parts : sequence of Dataset
    collate : callable
        From a list of items to a batch.
    """

    def __init__(self, parts: Sequence[Any], collate: Callable[[list[Any]], Any]) -> None:
        self.parts, self.collate = tuple(parts), collate

    def __getitems__(self, asked: BatchIndices) -> ReadBatch:
        """A batch, where no one else draws random numbers."""
        begun = time.perf_counter()
        _seed(asked.seed, asked.number)
        return ReadBatch(self._batch(asked), time.perf_counter() - begun)

    def here(self, asked: Iterable[BatchIndices]) -> list[ReadBatch]:
        """Batches, with the random numbers of this process as they were."""
        kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
        try:
            return [self.__getitems__(batch) for batch in asked]
        finally:
            torch.set_rng_state(kept[0])
            np.random.set_state(kept[1])
            random.setstate(kept[2])

    def _batch(self, asked: BatchIndices) -> Any:
        dataset = self.parts[asked.part]
        row: Any = ""
        try:
            in_epoch = getattr(dataset, "in_epoch", None)
            together = getattr(dataset, "__getitems__", None)
            if in_epoch is not None:
                items = in_epoch(asked.rows, asked.seed)
            elif together is not None:
                items = together(asked.rows)
            else:
                items = []
                for row in asked.rows:
                    items.append(dataset[row])
            row = ""
            return self.collate(items)
        except Exception as error:
            return failure(dataset, error, row)


def _seed(seed: int, number: int) -> None:
    """Seed what a dataset may draw from; Python's generator mixes the words well, so it seeds the others."""
    random.seed((seed << 64) + number)
    np.random.seed(random.getrandbits(32))
    torch.default_generator.manual_seed(random.getrandbits(63))
