"""Rows in memory that are encoded as an epoch requests them, by loader workers where there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from maas_magics.core.batches.batches import Batches
from maas_magics.core.batches.decoded import ON_DISK, DecodedRows, keeps_of
from maas_magics.core.batches.from_dataset import FromDataset
from maas_magics.core.batches.loader_workers import Readers
from maas_magics.core.batches.prepare import Counts, Prepared, in_range
from maas_magics.core.batches.rows import Rows
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.media import OPENS, opening, shuffled
from maas_magics.core.features.augment import Augmentation
from maas_magics.core.features.module import entered_ready
from maas_magics.core.features.processor import Processor
from maas_magics.core.tasks.base import Task


class Entering(Protocol):
    """Rows that are encoded as they are requested."""

    @property
    def keeps(self) -> Mapping[str, DecodedRows]:
        """By column, what keeps what files hold."""

    def __call__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        """What enters the graph, of some rows."""


class Targets(Protocol):
    """Encoded targets, with the weights of their rows beside them: a tensor, or what reads some of it."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: list[int]) -> Tensor: ...


@dataclass(frozen=True)
class EncodedLater:
    """Targets that are encoded as they are asked for: a class for each pixel takes eight times what came.

    Attributes
    ----------
    answers : Task
        Encodes them.
    values : ndarray, shape (n, …)
        As they came.
    """

    answers: Task
    values: Array

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: list[int]) -> Tensor:
        return torch.from_numpy(self.answers.encode(self.values[rows]))


@dataclass(frozen=True)
class InTable:
    """Rows of a table in memory.

    Attributes
    ----------
    processor : Processor
    table : pyarrow.Table
        What is kept of the features; see `Processor.ready`.
    keeps : mapping of str to DecodedRows
        By column, what keeps what files hold.
    """

    processor: Processor
    table: pa.Table
    keeps: Mapping[str, DecodedRows]

    def __call__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        """What enters the graph, of some rows."""
        return entered_ready(self.processor, self.table, rows, self.keeps)


class EncodedRows(Dataset[Any]):
    """Rows and their target, by batches.

    Parameters
    ----------
    entering : Entering
    target : Targets
    prepared : Prepared
        Has the columns, and what the network takes of them.
    augment : mapping of str to float
        How training rows are varied; see `maas_magics.core.features.augment.parsed`.
    group : int
        Rows that always come together, which count as one: two of a pair.
    masks : bool
        Whether the target is a class for each pixel of a picture, which is varied as the picture is.
    """

    def __init__(
        self,
        entering: Entering,
        target: Targets,
        prepared: Prepared,
        augment: Mapping[str, float] | None = None,
        group: int = 1,
        masks: bool = False,
    ) -> None:
        self._masks = masks
        self.entering, self.target, self.transform = entering, target, prepared.transform
        self._augmentation = Augmentation(prepared.processor, augment) if augment else None
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
            entered = self.entering(rows)
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


@contextmanager
def given_out(
    parts: Sequence[EncodedRows],
    workers: int,
    seed: int,
    batch_size: int,
    device: torch.device,
    folder: Path,
    notify: Callable[[str], None],
    lengths: Callable[[EncodedRows], Array | None] = lambda part: None,
) -> Iterator[list[FromDataset]]:
    """Batches of rows that are encoded as they are requested, for as long as the block lasts.

    Parameters
    ----------
    parts : sequence of EncodedRows
    workers : int
        Processes that encode; with 0 this one does.
    seed : int
    batch_size : int
    device : torch.device
    folder : Path
        Of the disk that keeps what files hold.
    notify : callable
        Gets a sentence where it has less room.
    lengths : callable
        Length of each row, where rows differ in it.
    """
    keeps = [keep for part in parts for keep in part.entering.keeps.values()]

    def say_where_full() -> bool:
        full = any(keep.full for keep in keeps)
        if full:
            notify(f"{str(folder)!r} has no room for all that the files hold: some are decoded in each epoch.")
        return full

    full = say_where_full()
    readers = Readers(parts, _as_it_is, workers, pin=device.type == "cuda")
    try:
        yield [
            FromDataset(
                readers, number, torch.arange(len(part)), batch_size, _as_it_is, device, seed=seed,
                lengths=lengths(part), as_made=True,
            )
            for number, part in enumerate(parts)
        ]  # fmt: skip
    finally:
        readers.close()
        if not full:
            say_where_full()
        for keep in keeps:
            keep.close()


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
            left = self._cache - sum(keep.disk for keep in parts[0].entering.keeps.values())
            parts.append(self._encoded(prepared, held, counting, folder, left, held=True))
        lengths = partial(self._lengths, prepared)
        with given_out(parts, self._workers, self._seed, batch_size, device, folder, self._notify, lengths) as made:
            yield made[0], made[1] if held is not None else None

    def _encoded(
        self, prepared: Prepared, rows: Rows, counting: Counts, folder: Path, disk: int, *, held: bool
    ) -> EncodedRows:
        weights = None if rows.weights is None else torch.from_numpy(in_range(rows.weights))
        target: Targets
        if self._masks and weights is None:
            target = EncodedLater(prepared.answers, rows.target)
        else:
            target = counting.joined(torch.from_numpy(prepared.answers.encode(rows.target)), weights, held=held)
        ready = None if held else prepared.ready
        same = ready is not None and ready.processor is prepared.processor
        table = ready.table if ready is not None and same else prepared.processor.ready(rows.table)
        keeps = keeps_of(prepared.processor, len(table), disk, folder)
        seen = ready.seen if ready is not None and same else {}
        for name, keep in keeps.items():
            for row, values in seen.get(name, {}).items():
                keep.keep(row, values)
        augment = None if held else self._augment
        entering = InTable(prepared.processor, table, keeps)
        return EncodedRows(entering, target, prepared, augment, self._group, self._masks)

    def _lengths(self, prepared: Prepared, part: EncodedRows) -> Array | None:
        """Length of each row, or of the longest of a group."""
        assert isinstance(part.entering, InTable)
        found = prepared.processor.lengths(part.entering.table)
        return found if found is None or self._group == 1 else found.reshape(-1, self._group).max(axis=1)


def _as_it_is(made: Any) -> Any:
    return made
