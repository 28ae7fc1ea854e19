"""Rows in memory that are encoded as an epoch requests them, by loader workers where there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from maas_magics.core.batches.batches import Batches
from maas_magics.core.batches.decoded import ON_DISK, DecodedRows
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
    keeps : mapping of str to DecodedRows
        By column, what keeps what files hold.
    masks : bool
        Whether the target is a class for each pixel of a picture, which is varied as the picture is.
    """

    def __init__(
        self,
        table: pa.Table,
        target: Tensor,
        processor: Processor,
        transform: Preprocessing,
        augment: Mapping[str, float] | None = None,
        group: int = 1,
        keeps: Mapping[str, DecodedRows] | None = None,
        masks: bool = False,
    ) -> None:
        self._masks = masks
        self.keeps = dict(keeps or {})
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
            entered = entered_ready(self.processor, self.table, rows, self.keeps)
        vary = self._augmentation if seed is not None else None
        with torch.inference_mode():
            if vary is not None and seed is not None:
                entered = vary.entering(entered, seed, rows)
            made = self.transform(*entered)
            if vary is not None and seed is not None:
                made = vary.made(made, seed, rows)
            target = self.target[rows]
            if vary is not None and seed is not None and self._masks:
                target = vary.masks(target, seed, rows)
        return *(x.clone() for x in made), target.clone()


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
    cache : int
        Bytes of what files hold that may be kept on disk.
    notify : callable
        Gets a sentence where the disk has less room.
    masks : bool
        Whether the target is a class for each pixel of a picture.
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
        cache: int = ON_DISK,
        notify: Callable[[str], None] = lambda text: None,
        masks: bool = False,
    ) -> None:
        self._masks = masks
        self._cache, self._notify = cache, notify
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
            Where there is room for what files hold.
        batch_size, device
        counting : Counts
            Puts the weights of rows beside their target.
        """
        held = self._held if self._held is not None and len(self._held) else None
        parts = [self._encoded(prepared, self._train, counting, folder, self._cache, held=False)]
        if held is not None:
            left = self._cache - sum(keep.disk for keep in parts[0].keeps.values())
            parts.append(self._encoded(prepared, held, counting, folder, left, held=True))
        keeps = [keep for part in parts for keep in part.keeps.values()]
        full = self._say_where_full(keeps, folder)
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
            if not full:
                self._say_where_full(keeps, folder)
            for keep in keeps:
                keep.close()

    def _say_where_full(self, keeps: list[DecodedRows], folder: Path) -> bool:
        full = any(keep.full for keep in keeps)
        if full:
            self._notify(f"{str(folder)!r} has no room for all that the files hold: some are decoded in each epoch.")
        return full

    def _encoded(
        self, prepared: Prepared, rows: Rows, counting: Counts, folder: Path, disk: int, *, held: bool
    ) -> EncodedRows:
        weights = None if rows.weights is None else torch.from_numpy(in_range(rows.weights))
        target = counting.joined(torch.from_numpy(prepared.answers.encode(rows.target)), weights, held=held)
        ready = None if held else prepared.ready
        same = ready is not None and ready.processor is prepared.processor
        table = ready.table if ready is not None and same else prepared.processor.ready(rows.table)
        keeps: dict[str, DecodedRows] = {}
        for feature in prepared.processor.features:
            if feature.costly is not None:
                keep = keeps[feature.name] = DecodedRows(len(table), feature.costly, disk, folder)
                disk -= keep.disk
                for row, values in ready.seen.get(feature.name, {}).items() if ready is not None and same else ():
                    keep.keep(row, values)
        augment = None if held else self._augment
        return EncodedRows(
            table, target, prepared.processor, prepared.transform, augment, self._group, keeps, self._masks
        )

    def _lengths(self, prepared: Prepared, part: EncodedRows) -> Array | None:
        """Length of each row, or of the longest of a group."""
        found = prepared.processor.lengths(part.table)
        return found if found is None or self._group == 1 else found.reshape(-1, self._group).max(axis=1)


def _as_it_is(made: Any) -> Any:
    return made
