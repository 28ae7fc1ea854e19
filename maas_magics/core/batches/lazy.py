"""Rows in memory that are encoded as an epoch requests them, by loader workers where there are any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from maas_magics.core.batches.batches import Batches
from maas_magics.core.batches.from_dataset import FromDataset
from maas_magics.core.batches.loader_workers import Readers
from maas_magics.core.batches.prepare import Counts, Prepared, Rows, in_range
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.media import OPENS, opening, shuffled
from maas_magics.core.features.augment import Augmentation
from maas_magics.core.features.module import Preprocessing, entered_ready
from maas_magics.core.features.processor import Processor


class EncodedRows(Dataset[Any]):
    """Rows of a table, and their target, by batches.

    Parameters
    ----------
    table : pyarrow.Table
        What is kept of the features; see `Processor.ready`.
    target : Tensor
        Encoded, with the weights of its rows beside it.
    processor : Processor
    transform : Preprocessing
    augment : mapping of str to float
        How training rows are varied; see `maas_magics.core.features.augment.parsed`.
    group : int
        Rows that always come together, which count as one: two of a pair.
    """

    def __init__(
        self,
        table: pa.Table,
        target: Tensor,
        processor: Processor,
        transform: Preprocessing,
        augment: Mapping[str, float] | None = None,
        group: int = 1,
    ) -> None:
        self.table, self.target, self.processor, self.transform = table, target, processor, transform
        self._augmentation = Augmentation(processor, augment) if augment else None
        self.group = group
        self._opens = OPENS.get()

    def __len__(self) -> int:
        return len(self.target) // self.group

    def __getitems__(self, rows: list[int]) -> tuple[Tensor, ...]:
        """What the network takes of some rows, and their target."""
        return self.in_epoch(rows, None)

    def in_epoch(self, rows: list[int], seed: int | None) -> tuple[Tensor, ...]:
        """The same, varied by the seed of an epoch where rows are."""
        if self.group > 1:
            rows = [row * self.group + place for row in rows for place in range(self.group)]
        with opening(self._opens), shuffled():  # a loader worker gets it
            entered = entered_ready(self.processor, self.table.take(pa.array(rows)))
        vary = self._augmentation if seed is not None else None
        with torch.inference_mode():
            if vary is not None and seed is not None:
                entered = vary.entering(entered, seed, rows)
            made = self.transform(*entered)
            if vary is not None and seed is not None:
                made = vary.made(made, seed, rows)
        return *(x.clone() for x in made), self.target[rows]


class Lazy:
    """Training rows and held-out ones of which only some are prepared.

    Parameters
    ----------
    train : Rows
    held : Rows or None
    workers : int
        Processes that encode; with 0 this one does.
    seed : int
    augment : mapping of str to float
        How training rows are varied.
    group : int
        Rows that always come together; see `EncodedRows`.
    """

    why_one_process: ClassVar[str] = "Rows that are encoded as they are requested go to one process."
    why_in_order: ClassVar[str] = "Rows that are encoded as they are requested come in an order of their own."

    def __init__(
        self,
        train: Rows,
        held: Rows | None,
        workers: int,
        seed: int,
        augment: Mapping[str, float] | None = None,
        group: int = 1,
    ) -> None:
        self._train, self._held, self._workers, self._seed = train, held, workers, seed
        self._augment, self._group = augment, group

    @contextmanager
    def written(
        self, prepared: Prepared, folder: Path, batch_size: int, device: torch.device, counting: Counts
    ) -> Iterator[tuple[Batches, Batches | None]]:
        """Batches of training and validation rows, for as long as the block lasts.

        Parameters
        ----------
        prepared : Prepared
            With the target that the network learns.
        folder : Path
            Where there is room for files; none are written.
        batch_size, device
        counting : Counts
            Puts the weights of rows beside their target.
        """
        held = self._held if self._held is not None and len(self._held) else None
        parts = [self._encoded(prepared, self._train, counting, held=False)]
        if held is not None:
            parts.append(self._encoded(prepared, held, counting, held=True))
        readers = Readers(parts, _as_it_is, self._workers, pin=device.type == "cuda")
        try:
            made = [
                FromDataset(
                    readers, number, torch.arange(len(part)), batch_size, _as_it_is, device, seed=self._seed,
                    lengths=self._lengths(prepared, part), as_made=True,
                )
                for number, part in enumerate(parts)
            ]  # fmt: skip
            yield made[0], made[1] if held is not None else None
        finally:
            readers.close()

    def _encoded(self, prepared: Prepared, rows: Rows, counting: Counts, *, held: bool) -> EncodedRows:
        weights = None if rows.weights is None else torch.from_numpy(in_range(rows.weights))
        target = counting.joined(torch.from_numpy(prepared.answers.encode(rows.target)), weights, held=held)
        made_by, ready = prepared.ready if prepared.ready is not None and not held else (None, None)
        if ready is None or made_by is not prepared.processor:
            ready = prepared.processor.ready(rows.table)
        augment = None if held else self._augment
        return EncodedRows(ready, target, prepared.processor, prepared.transform, augment, self._group)

    def _lengths(self, prepared: Prepared, part: EncodedRows) -> Array | None:
        """Length of each row, or of the longest of a group."""
        found = prepared.processor.lengths(part.table)
        return found if found is None or self._group == 1 else found.reshape(-1, self._group).max(axis=1)


def _as_it_is(made: Any) -> Any:
    return made
