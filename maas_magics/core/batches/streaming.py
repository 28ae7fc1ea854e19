"""Training on rows that memory does not hold: profiled in one reading of them, encoded to disk in a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.specs import DataSpec
from maas_magics.core.architectures import architectures
from maas_magics.core.batches.batches import Batches
from maas_magics.core.batches.blocks import Blocks, Spill, TensorLayout, check_room
from maas_magics.core.batches.decoded import ON_DISK, keeps_of
from maas_magics.core.batches.layout import by_ports, layout_of, standardises
from maas_magics.core.batches.lazy import EncodedRows, given_out
from maas_magics.core.batches.leaking import leaking
from maas_magics.core.batches.masks import mask_layout, not_of_pixels
from maas_magics.core.batches.prepare import (
    KEPT_BYTES,
    LEAST,
    SAMPLE_ROWS,
    WEIGHTS,
    Counts,
    Prepared,
    Ready,
    first_rows_of,
    in_range,
    joined,
    transformed,
    transformed_ready,
)
from maas_magics.core.batches.rows import VALIDATION_SHARE, Rows, held_share, texts_of
from maas_magics.core.batches.rows_on_disk import RowsOnDisk
from maas_magics.core.batches.streamed_target import MaskTarget, OneTarget, SeveralTargets, StreamedTarget
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.cut import Cut
from maas_magics.core.data.masked import may_hold_masks
from maas_magics.core.data.media import holds_files
from maas_magics.core.data.nested import Lists
from maas_magics.core.data.numbering import ConsecutiveRuns
from maas_magics.core.data.origin import came_from
from maas_magics.core.data.reservoir import Reservoir, draws
from maas_magics.core.data.roles import roles_of
from maas_magics.core.data.sources import Rereadable, is_files, notes_of, open_source, typed
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.data.target import named, target_names
from maas_magics.core.features.declared import declared, has_ports
from maas_magics.core.features.fitting import FitConfig
from maas_magics.core.features.module import Preprocessing, entered_ready
from maas_magics.core.features.notes import tell_labels
from maas_magics.core.features.profile import TableProfile, check_image
from maas_magics.core.features.unreadable import UnreadableRows, checks_of_schema, share_of
from maas_magics.core.losses.check import Families
from maas_magics.core.losses.ignored import ignored_by
from maas_magics.core.memory import free_memory, in_words
from maas_magics.core.store.sample import TARGET, Digest
from maas_magics.core.tasks.profile import Profile as TargetReading

MEMORY_SHARE = 0.2
"""Data that takes more than this share of the free memory is streamed: training in memory holds it some five times,
as it came, parted, as raw arrays, and as what the network takes."""

IN_MEMORY = 64 * 2**20
"""Bytes of what the files of a column hold that are kept in memory, of the first rows; others are kept on disk."""

LOOKED_AT = 1_000
"""Rows that are looked at for what a source holds."""

SPLIT, SAMPLE = 0, 1
"""Streams of draws: which rows are held out, and which are in the sample."""


class RowChunk(NamedTuple):
    """Rows that are read together: ``start`` is the place of the first, ``key`` what they are split by."""

    features: pa.Table
    target: Array
    start: int
    weights: Array | None
    key: pa.ChunkedArray | None

    def only(self, kept: Array) -> RowChunk:
        """Those of them that are kept, bool (n,)."""
        mask = pa.array(kept)
        return RowChunk(
            self.features.filter(mask),
            self.target[kept],
            self.start,
            None if self.weights is None else self.weights[kept],
            None if self.key is None else self.key.filter(mask),
        )


@dataclass(frozen=True)
class Sizes:
    """How much is in memory at a time.

    Attributes
    ----------
    chunk : int
        Bytes of the rows that are read from the source at a time.
    sample, sample_rows : int
        Bytes and rows, whichever are fewer, of the sample of training rows that is kept while the rest is read.
    block : int
        Bytes of encoded rows that are read from one place of the disk.
    window : int
        Blocks that are mixed: with them 16 MiB, larger ones leave the cache and are up to three times slower.
    held : int
        Rows that are held out at most where no share was requested, since the outputs of all are in memory.
    """

    chunk: int = 4 * 2**20
    sample: int = 64 * 2**20
    sample_rows: int = 100_000
    block: int = 2**18
    window: int = 64
    held: int = 200_000


def first_rows(source: Rereadable) -> int:
    """How many rows are looked at for what a source holds: few where they are files, which may be large."""
    first = next(iter(source.chunks(1)), None)
    return LOOKED_AT if first is None or not any(map(holds_files, first.schema.types)) else LEAST


def streamed_source(said: DataSpec, notify: Callable[[str], None], several: bool = False) -> Rereadable | None:
    """The data to stream; None where it is trained on in memory.

    ``several`` says that there are several targets, all of them columns.

    Raises
    ------
    OptionError
        If streaming was requested and the data is not a file, or the target is not one of its columns.
    """
    data, asked = said.data, said.stream
    if asked is False:
        return None
    source = open_source(data, said.csv) if isinstance(data, Rereadable) or is_files(data) else None
    if not isinstance(source, Rereadable):
        if asked:
            raise OptionError("Only files are streamed; this data is in memory already.", "Give a path, or no --stream")
        return None
    size, free = source.size(), free_memory()
    if not asked and size <= MEMORY_SHARE * free:
        return None
    if said.target is None:
        first = next(iter(source.chunks(1)), None)
        shown = ", ".join(first.column_names[:12]) if first is not None else ""
        raise DataError("No target was named.", f"--target COLUMN, one of: {shown}")
    if not several and not target_names(said.target, (), -1):
        if asked:
            raise OptionError("The target of rows that are streamed is a column of them.", "--target COLUMN")
        return None
    notify(
        f"The rows take {in_words(size)} in memory, of which {in_words(free)} are free: they are streamed from disk."
    )
    for note in notes_of(source):
        notify(note)
    return source


class Stream:
    """Rows of a file, read a chunk at a time.

    The first reading fits what `maas_magics.core.features.profile` describes, on the training rows only, and
    counts them. Rows are held out by a draw for each row, the same at each reading; the first row of each label is
    always trained on. Unlike in memory, shares of labels in both parts are alike by chance only.

    Parameters
    ----------
    data : DataSpec
    model : Any
        A module, or an architecture's name.
    loss : Any
    seed : int
    source : Rereadable
    task : TaskName, Family, dict of them by head, or None
    notify : callable
        Gets a sentence about everything left out.
    pause : callable
        Called after each chunk; may raise to end the reading.
    sizes : Sizes
    heads : mapping, optional
        Columns of each target, by its name, where there are several.
    params : mapping, optional
        Hyperparameters of an architecture by name.
    augment : mapping of str to float, optional
        How training rows are varied.
    workers : int
        Processes that decode files; with 0 this one does.
    cache : int
        Bytes of what files hold that may be kept on disk, beside the files.
    """

    why_one_process: ClassVar[str] = "Rows that are read from disk go to one process."
    why_in_order: ClassVar[str] = "Rows that are read from disk come in an order of their own."

    def __init__(
        self,
        data: DataSpec,
        model: Any,
        loss: Any,
        seed: int,
        source: Rereadable,
        task: Families | None,
        notify: Callable[[str], None],
        pause: Callable[[], None] = lambda: None,
        sizes: Sizes | None = None,
        heads: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        augment: Mapping[str, float] | None = None,
        workers: int = 0,
        cache: int = ON_DISK,
    ) -> None:
        self._augment, self._workers, self._cache = dict(augment or {}), workers, cache
        self._data, self._loss, self._seed, self._source = data, loss, seed, source
        self._named = isinstance(model, str)
        self._notify, self._pause, self._sizes = notify, pause, sizes or Sizes()
        came_from(source)
        first = next(iter(source.chunks(first_rows(source))), None)
        if first is None or not first.num_rows:
            raise DataError("The data has no rows.", "Give at least a few rows to learn from.")
        if heads:
            self._target: StreamedTarget = SeveralTargets(heads, task)
        else:
            assert not isinstance(task, Mapping)  # a dict of tasks is of several targets
            self._target = OneTarget(data.target, first.column_names, task, lambda: ignored_by(loss))
        self._roles = roles_of(data)
        self._lists = Lists()
        first = self._lists(first)
        features, _, _ = self._roles.parted(named(first, self._target.columns)[0])
        self._fields: dict[str, pa.Field] = {}
        if by_ports(model):
            kinds = {name: kind for name, kind in data.feature.items() if name in features.column_names}
            features = declared(features, kinds, notify)
            self._fields = {field.name: field for field in features.schema}
        features = self._masked(first, features, model, task)
        checks = checks_of_schema(features.schema) if share_of(data.max_bad) else None
        self._unreadable = [None if checks is None else UnreadableRows(checks, data.max_bad) for _ in range(2)]
        """Of the data, and of validation data of its own."""
        wanted = "unet" if self._masks and model == "auto" else model
        self.chosen, self.layout = layout_of(wanted, features, source.arrays)
        if self._masks and not architectures.get(self.chosen).of_pixels:
            raise not_of_pixels(self.chosen)
        given = architectures.get(self.chosen).given if self._named else None
        self._fit = FitConfig(
            self.layout, data.preprocess == "auto", given(dict(params or {})) if given is not None else {}
        )
        wide = max(1, first.nbytes // first.num_rows) + self._target.width
        self._chunk = max(1, self._sizes.chunk // wide)
        files = has_ports(features.schema)
        self._most = max(LEAST if files else SAMPLE_ROWS, min(self._sizes.sample // wide, self._sizes.sample_rows))
        self._shown = max(LEAST, min(SAMPLE_ROWS, KEPT_BYTES // wide)) if files else SAMPLE_ROWS
        self._share = self._held_share(source.size() / wide)
        self._first: Array = np.empty(0, dtype=np.int64)
        self._cut = Cut(self._roles.split, seed, self._sizes.sample_rows) if self._roles.split else None
        if self._cut is not None:
            while not self._cut.find(key for _, _, _, _, key in self._parts(source) if key is not None):
                pass  # as below
        self.rows = self.held = self._bytes = 0
        self._heaviest = 0.0
        self._texts: list[str] = []
        while (found := self._survey()) is None:
            pass  # a type of the file's columns turned out to be wider, or pictures larger, and is known now
        self.prepared, self.extremes = found
        if isinstance(self._target, MaskTarget):
            self._target.layout.tell(notify)

    def _masked(self, first: pa.Table, features: pa.Table, model: Any, task: Any) -> pa.Table:
        """Features of the first rows: those that masks are of alone, where the target is masks."""
        self._masks = False
        name, seen = self._target.names[0], features if self._fields else declared(features, {}, lambda text: None)
        if len(self._target.columns) > 1 or not has_ports(seen.schema) or not may_hold_masks(first.column(name)):
            return features
        layout, ignored = mask_layout(self._data, model, features, name, self._notify), partial(ignored_by, self._loss)
        self._target = MaskTarget(self._data.target, first.column_names, task, ignored, layout)
        self._masks = True
        return features.select([layout.column])

    def _held_share(self, rows: float) -> float:
        asked = self._data.validation
        if asked is None:
            return min(VALIDATION_SHARE, self._sizes.held / max(rows, 1))
        return held_share(asked) if isinstance(asked, (int, float)) else 0.0

    def _parts(self, source: Any, *, held: bool = False, runs: ConsecutiveRuns | None = None) -> Iterator[RowChunk]:
        """The rows whose target is there, a part of them at a time."""
        start = rows = there = 0
        unreadable = self._unreadable[held]
        for table in source.chunks(self._chunk):
            self._pause()
            rows += table.num_rows
            if runs is not None:
                runs.add(table)
            table = self._lists(table)
            features, values = self._target.parted(table, held=held)
            if len(values):
                features, weights, key = self._roles.parted(features, held=held)
                features = self._declared(features)
                kept = None if unreadable is None else unreadable.kept(features, values, there)
                part = RowChunk(features, values, start, weights, key)
                part = self._laid(part if kept is None else part.only(kept), rows - table.num_rows)
                if len(part.target):
                    yield part
                start += len(part.target)
            there += len(values)
        bad = "" if unreadable is None else unreadable.told
        left = self._target.beside.left_out(rows, there, self._target.names)
        if not held:
            self._target.beside.left, self._target.beside.bad = left, bad
        for told in filter(None, (left, bad) if held else ()):
            self._notify(f"Of the validation data, {told}")

    def _laid(self, part: RowChunk, first: int) -> RowChunk:
        if not len(part.target):
            return part
        features, target = self._target.laid(part.features, part.target, first)
        return part._replace(features=features, target=target)

    def _declared(self, features: pa.Table) -> pa.Table:
        """Rows with what was found of their columns when the first ones were looked at."""
        if not self._fields:
            return features
        fields = [
            field.with_metadata(self._fields[field.name].metadata) if field.name in self._fields else field
            for field in features.schema
        ]
        return pa.Table.from_arrays(features.columns, schema=pa.schema(fields))

    def _held_out(self, part: RowChunk) -> Array:
        start, rows = part.start, len(part.target)
        if self._cut is not None:
            assert part.key is not None
            return self._cut(part.key)
        held = draws(start, rows, self._seed, SPLIT) < self._share
        always = self._first[(self._first >= start) & (self._first < start + rows)]
        held[always - start] = False
        return np.asarray(held)

    def _survey(self) -> tuple[Prepared, Array] | None:
        """What the rows are; None where a column's type became another one half-way, or masks another size."""
        target, digest = self._target.profile(), Digest()
        sample, kept = Reservoir(self._most), Reservoir(self._shown)
        profile: TableProfile | None = None
        schema, dtype = None, None
        self.rows = self.held = self._bytes = 0
        self._runs = ConsecutiveRuns()
        for rows in self._parts(self._source, runs=self._runs):
            features, values, start, weights, _ = rows
            if profile is None:
                schema, dtype = features.schema, values.dtype
                self._texts = texts_of(features, self._target.texts(values))
                check_image(features.schema, self.layout)
                profile = TableProfile(features.schema, self._fit)
            elif not features.schema.equals(schema) or values.dtype != dtype:
                return None
            self._bytes += features.nbytes
            target.meet(values, start)
            if self._cut is None:
                self._first = target.first
            held = self._held_out(rows)
            drawn = draws(start, len(values), self._seed, SAMPLE)
            whole = self._target.beside_features(features, values)
            if held.any():
                kept.add(whole.filter(pa.array(held)), drawn[held])
                whole, values, drawn = whole.filter(pa.array(~held)), values[~held], drawn[~held]
                weights = None if weights is None else weights[~held]
            used = whole
            if weights is not None and weights.any() and not weights.all():  # rows of weight 0 say nothing
                used, drawn = whole.filter(pa.array(weights > 0)), drawn[weights > 0]
            target.add(values, weights)
            profile.add(used)
            sample.add(used, drawn)
            digest.add(whole if weights is None else whole.append_column(WEIGHTS, pa.array(weights)))
            if weights is not None:
                self._heaviest = max(self._heaviest, float(weights.max(initial=0.0)))
            self.rows += len(values)
            self.held += int(held.sum())
        if profile is None:
            raise DataError(
                f"The target {', '.join(self._target.names)!r} is missing in every row.", "Give rows with the answers."
            )
        if self.rows + self.held < 2:
            raise DataError("The data has one row only.", "Give at least a few rows to learn from.")
        if not self.rows:
            raise DataError("Every row is held out; there is none to learn from.", "--validation 0.2")
        if self._share and not self.held:
            self._notify("There are too few rows to hold any out: the training rows choose the best epoch.")
        prepared = self._understood(profile, target, sample, kept, str(digest))
        if not self._target.is_laid_for(prepared.processor):
            return None
        return prepared, target.extremes if prepared.answers.numeric or prepared.answers.parts else np.zeros((0, 1))

    def _understood(
        self, profile: TableProfile, target: TargetReading, sample: Reservoir, kept: Reservoir, digest: str
    ) -> Prepared:
        rows, values = self._target.apart(sample.table())
        answers = self._target.fitted(target, self._standardise)
        for note in self._target.beside.notes:
            self._notify(note)
        tell_labels(self._target.names, answers.classes, self._notify)
        counting = {name: ends for name, ends in self._runs.found.items() if name not in self._roles.features}
        processor = profile.finish(rows, self._notify, counting)
        ragged = next((feature.name for feature in processor.features if feature.ragged), "")
        if ragged:
            raise DataError(
                f"Column {ragged!r} holds lists of several lengths, which are not read from disk.",
                "Give the rows in memory: a table, or no --stream.",
            )
        transform = Preprocessing(processor)
        if processor.lazy:  # a few: what files hold may be large
            ready = Ready(processor, processor.ready(rows), {})
            entered = first_rows_of(processor)
            inputs = transformed_ready(transform, ready, range(min(len(values), entered)))
            known_values = values[: len(inputs[0])]
        else:
            raw = processor.encode(rows)
            processor.check(raw)
            inputs, known_values = transformed(transform, processor, raw), values
        others = next(self._validation(), None)
        shown = kept.table()
        few, known = others[:2] if others else (self._target.apart(shown) if shown is not None else (rows, values))
        few = few.slice(0, self._shown).select(processor.names)
        few = processor.kept(few) if processor.lazy else few
        known = known[: self._shown]
        given, givens = self._target.forms(values)
        return Prepared(
            processor,
            answers,
            transform,
            (inputs, torch.from_numpy(answers.encode(known_values))),
            None,
            few.append_column(TARGET, column(answers.encode(known), TARGET)),
            digest,
            torch.from_numpy(target.counts(answers)),
            given=given,
            givens=givens,
            notes=self._target.beside.notes,
            doubts=leaking(processor, self._target.names, Rows(rows, values), None),
        )

    def _standardise(self, head: str) -> bool:
        loss = self._loss.get(head, "auto") if isinstance(self._loss, Mapping) else self._loss
        return standardises(loss, self._named, self.layout == "raw")

    def _validation(self) -> Iterator[RowChunk]:
        """Rows of the validation data, where it is data of its own."""
        held = self._data.validation
        if held is None or isinstance(held, (int, float)) or self._cut is not None:
            return
        if isinstance(held, tuple) and len(held) == 2:
            table, values = self._target.validation(held, self._data.csv)
            table, weights, key = self._roles.parted(table, held=True)
            part = RowChunk(self._declared(table), values, 0, weights, key)
            unreadable = self._unreadable[True]
            kept = None if unreadable is None else unreadable.kept(part.features, values)
            bad = "" if unreadable is None else unreadable.told
            yield self._laid(part if kept is None else part.only(kept), 0)
            if bad:  # said once, where all are read
                self._notify(f"Of the validation data, {bad}")
            return
        csv = self._data.csv if is_files(held) else None
        yield from self._parts(typed(open_source(held, csv), self._texts), held=True)

    def _encoded(self, prepared: Prepared, features: pa.Table, values: Array) -> list[Tensor]:
        raw = prepared.processor.encode(features)
        prepared.processor.check(raw)
        inputs = transformed(prepared.transform, prepared.processor, raw)
        return [*inputs, torch.from_numpy(prepared.answers.encode(values))]

    @contextmanager
    def written(
        self, prepared: Prepared, folder: Path, batch_size: int, device: torch.device, counting: Counts
    ) -> Iterator[tuple[Batches, Batches | None]]:
        """Training and validation rows on disk, for as long as the block lasts.

        Parameters
        ----------
        prepared : Prepared
            `prepared` of this stream, with the answers that the network gives.
        folder : Path
            Where the disk is that takes them.
        batch_size, device
        counting : Counts
            Puts the weights of rows beside their target.

        Raises
        ------
        StoreError
            If the disk is too small for them.
        DataError
            If the file is not what it was when it was read before.
        """
        if prepared.processor.lazy:
            with self._with_files(prepared, folder, batch_size, device, counting) as made:
                yield made
            return
        kinds = self._kinds(prepared)
        width = sum(kind.width for kind in kinds)
        check_room(folder, (self.rows + self.held) * width)
        with Spill(folder, kinds) as train, Spill(folder, kinds) as held:
            for part in self._parts(self._source):
                rows = self._encoded(prepared, part.features, part.target)
                out = torch.from_numpy(self._held_out(part))
                weights = self._weights(part)
                for spill, mask in ((held, out), (train, ~out)):
                    *inputs, target = (tensor[mask] for tensor in rows)
                    beside = None if weights is None else weights[mask]
                    spill.append([*inputs, counting.joined(target, beside, held=spill is held)])
            self._check_same(train.rows, held.rows)
            for part in self._validation():
                *inputs, target = self._encoded(prepared, part.features, part.target)
                beside = self._weights(part)
                held.append([*inputs, counting.joined(target, beside, held=True)])
            block = max(1, self._sizes.block // max(width, 1))
            blocks = [Blocks(rows, batch_size, device, block, self._sizes.window) for rows in (train, held)]
            yield blocks[0], blocks[1] if held.rows else None

    @contextmanager
    def _with_files(
        self, prepared: Prepared, folder: Path, batch_size: int, device: torch.device, counting: Counts
    ) -> Iterator[tuple[Batches, Batches | None]]:
        """The same of rows with files, which are decoded as an epoch requests them, as those in memory are."""
        processor = prepared.processor
        row = entered_ready(processor, processor.ready(prepared.sample.slice(0, 1)))
        kind = self._target_kind(prepared)
        check_room(folder, self._bytes + (self.rows + self.held) * kind.width)

        def written(rows: RowsOnDisk, part: RowChunk, mask: Array) -> None:
            if not mask.any():
                return
            target = torch.from_numpy(prepared.answers.encode(part.target[mask]))
            weights = self._weights(part)
            beside = None if weights is None else weights[torch.from_numpy(mask)]
            rows.append(part.features.filter(pa.array(mask)), counting.joined(target, beside, held=rows is held))

        with RowsOnDisk(folder, processor, row, kind) as train, RowsOnDisk(folder, processor, row, kind) as held:
            for part in self._parts(self._source):
                out = self._held_out(part)
                written(held, part, out)
                written(train, part, ~out)
            self._check_same(len(train), len(held))
            for part in self._validation():
                written(held, part, np.ones(len(part.target), dtype=bool))
            disk, parts = self._cache, []
            for rows, augment in ((train, self._augment), (held, None)):
                rows.keeps = keeps_of(processor, len(rows), disk, folder, IN_MEMORY)
                disk -= sum(keep.disk for keep in rows.keeps.values())
                if len(rows) or rows is train:
                    parts.append(EncodedRows(rows, rows.target, prepared, augment, masks=self._masks))
            with given_out(parts, self._workers, self._seed, batch_size, device, folder, self._notify) as made:
                yield made[0], made[1] if len(held) else None

    def _check_same(self, train: int, held: int) -> None:
        if (train, held) != (self.rows, self.held):
            raise DataError("The data changed while it was read.", "Train again once it stays as it is.")

    def _weights(self, part: RowChunk) -> Tensor | None:
        return None if part.weights is None else torch.from_numpy(in_range(part.weights, self._heaviest))

    def _kinds(self, prepared: Prepared) -> list[TensorLayout]:
        """Tensors of a row; codes of categories and labels are narrower on disk."""
        kinds = [TensorLayout(values.dtype, values.dtype, tuple(values.shape[1:])) for values in prepared.train[0]]
        if self.layout == "tabular":
            kinds[1] = replace(kinds[1], disk=torch.int16)
        return [*kinds, self._target_kind(prepared)]

    def _target_kind(self, prepared: Prepared) -> TensorLayout:
        target = prepared.train[1]
        if self._roles.weights is not None:
            target = joined(target[:0], torch.empty(0))
        whole = torch.int16 if self._masks else torch.int32
        narrow = whole if target.dtype == torch.int64 else target.dtype
        return TensorLayout(narrow, target.dtype, tuple(target.shape[1:]))
