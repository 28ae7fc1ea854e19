"""From rows to what a network takes: columns and target fitted on the training rows, all rows brought into shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from maas_magics.api.errors import DataError, OptionError, did_you_mean
from maas_magics.core.batches.decoded import Seen
from maas_magics.core.batches.leaking import leaking
from maas_magics.core.batches.rows import Rows, taken
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.data.target_values import Beside
from maas_magics.core.features.fitting import FitConfig, Layout
from maas_magics.core.features.module import Preprocessing, entered, entered_ready
from maas_magics.core.features.notes import tell_labels
from maas_magics.core.features.processor import Processor
from maas_magics.core.features.profile import TableProfile, check_image
from maas_magics.core.losses.check import Families
from maas_magics.core.losses.heads import Forms
from maas_magics.core.losses.own import UNKNOWN, Form, TargetForm, given_by
from maas_magics.core.store.sample import TARGET, digest
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.fit import fit_heads, fit_task, respelled
from maas_magics.core.tasks.several import columns_of, heads_of

SAMPLE_ROWS = 1_000
"""Held-out rows kept with the model, to verify exports on."""

FIRST, FIRST_BYTES = 32, 64 * 2**20
"""Rows with files that are encoded before the first epoch, at least, and bytes of them where others stand beside."""

LEAST, KEPT_BYTES = 64, 16 * 2**20
"""Rows with files that are read and kept with a model at once, at least, and bytes of those that are kept."""

CHUNK = 100_000

WEIGHTS = "__weights__"
"""Column of the weights where rows are digested."""


class Counts(Protocol):
    """What puts weights beside targets."""

    def joined(self, target: Tensor, weights: Tensor | None, *, held: bool = False) -> Tensor:
        """Target with the weights of its rows beside it."""


class Ready(NamedTuple):
    """What is kept of rows that are encoded as they are requested.

    Attributes
    ----------
    processor : Processor
        The columns that it was made by.
    table : pyarrow.Table
        See `Processor.ready`.
    seen : mapping of str to Seen
        By column, rows that are decoded already.
    """

    processor: Processor
    table: pa.Table
    seen: Mapping[str, Seen]


@dataclass(frozen=True)
class Prepared:
    """Everything fitted on the training rows.

    Attributes
    ----------
    train, validation : tuple of (inputs of the network, encoded target)
        ``validation`` has no rows when nothing was held out.
    sample : pyarrow.Table
        Some held-out rows as they came, the encoded target in the columns `TARGET`.
    digest : str
        Of the training rows and their target.
    counts : Tensor or None
        Training rows of each class, int64 (classes,), where ``train`` is but a sample of the rows.
    form : Form or None
        How a loss of the user's gets its arguments.
    given : TargetForm
        How the target came.
    """

    processor: Processor
    answers: Task
    transform: Preprocessing
    train: tuple[tuple[Tensor, ...], Tensor]
    validation: tuple[tuple[Tensor, ...], Tensor] | None
    sample: pa.Table
    digest: str
    counts: Tensor | None = None
    form: Form | Forms | None = None
    given: TargetForm = UNKNOWN
    givens: tuple[TargetForm, ...] = ()
    """How each of several targets came."""
    weights: tuple[Tensor, Tensor | None] | None = None
    """Of the training rows and the held-out ones, float64; those of the sample where ``train`` is one."""
    mean_weight: float | None = None
    """Of the training rows, classes included; None where all rows count alike."""
    notes: tuple[str, ...] = ()
    """Sentences that belong to the result."""
    doubts: tuple[str, ...] = ()
    """Warnings about the rows, which belong to the result."""
    ready: Ready | None = None
    """What is kept of the training rows that are encoded as they are requested."""
    taught: Tensor | None = None
    """A teacher's answers to the training rows, as `Task.taught` makes them; None where there is no teacher."""


def prepare(
    train: Rows,
    validation: Rows | None,
    names: Sequence[str],
    *,
    layout: Layout,
    scale: bool,
    task: Families | None,
    standardise: Callable[[str], bool],
    notify: Callable[[str], None],
    asked_target: Any = None,
    labels: bool = False,
    beside: Beside | None = None,
    given: Mapping[str, Mapping[str, Any]] | None = None,
    lazy: bool = False,
) -> Prepared:
    """Fit preprocessing and answers on the training rows, and apply them to all.

    Parameters
    ----------
    train, validation, names
        As `read` gives them.
    layout : Layout
        What the network takes.
    scale : bool
        Whether numbers are scaled.
    task : TaskName, Family, dict of them by head, or None
    standardise : callable
        Whether regression targets are learnt in units of their standard deviation, by the name of the head.
    notify : callable
        Gets a sentence about everything left out.
    asked_target : Any
        The target as it was requested.
    labels : bool
        Whether labels of held-out rows alone are labels as well: where a column decides which rows are held out, a
        label may be new in them, and no network should be measured without those rows. So are tags, of which some are
        rare.
    beside : Beside, optional
        The notes on the target.
    given : mapping of str to mapping, optional
        What a pretrained network requires of columns; see `FitConfig`.
    lazy : bool
        Whether rows are encoded as an epoch requests them, whatever the columns are.
    """
    beside = beside or Beside()
    ignored = beside.no_target if train.target.ndim > 1 else None
    answers = _fitted(train.target, names, asked_target, task, standardise, ignored)
    counted = _counted(train)
    if counted is not train:
        answers = _of_those(answers, _fitted_or_none(counted.target, names, asked_target, task, standardise, ignored))
    if validation is not None and ((labels and answers.one_label) or answers.of_words):
        both = np.concatenate([train.target, validation.target])
        answers = _fitted(both, names, asked_target, task, standardise, None)
    answers = respelled(answers, beside.spelled)
    tell_labels(names, answers.classes, notify)
    check_image(train.table.schema, layout)
    profile = TableProfile(train.table.schema, FitConfig(layout, scale, given or {}))
    profile.add(counted.table)
    processor = profile.finish(counted.table, notify, beside.counting)
    transform = Preprocessing(processor)
    lazy = lazy or processor.lazy
    counts = _label_counts(answers, train.target) if lazy else None
    ready, first = None, len(train.target)
    inputs: tuple[Tensor, ...]
    if lazy:
        seen = profile.seen if counted is train else {}
        ready = Ready(processor, processor.ready(train.table), _seen_by(processor, seen))
        first = min(first, first_rows_of(processor))
        inputs = transformed_ready(transform, ready, range(first))
    else:
        raw = processor.encode(train.table)
        processor.check(raw)
        inputs = transformed(transform, processor, raw)
    target = torch.from_numpy(answers.encode(train.target[:first]))
    held = None
    sample = train
    if validation is not None and len(validation):
        for text in processor.cautions(validation.table):
            notify(text)
        if not lazy:
            held_raw = processor.encode(validation.table)
            processor.check(held_raw)
            held = transformed(transform, processor, held_raw), torch.from_numpy(answers.encode(validation.target))
        sample = validation
    few = min(SAMPLE_ROWS, len(sample))
    kept = _kept(processor, sample.table.slice(0, few).select(processor.names))
    kept = kept.append_column(TARGET, column(answers.encode(sample.target[: len(kept)]), TARGET))
    return Prepared(
        processor,
        answers,
        transform,
        (inputs, target),
        held,
        kept,
        _digest(train),
        counts,
        given=UNKNOWN if answers.parts else given_by(asked_target, train.target),
        givens=_givens(asked_target, train.target) if answers.parts else (),
        weights=None if lazy else _weights(train, validation if held is not None else None),
        notes=beside.notes,
        doubts=leaking(processor, names, train, validation),
        ready=ready,
    )


def _seen_by(processor: Processor, seen: Mapping[str, Mapping[int, Array]]) -> dict[str, Seen]:
    """What keeps decoded rows, for each column that it is worth it for."""
    return {
        feature.name: Seen(seen.get(feature.name, {})) for feature in processor.features if feature.costly is not None
    }


def first_rows_of(processor: Processor) -> int:
    """How many rows are encoded before the first epoch: few where that is expensive, and no numbers are among them."""
    each = [0 if feature.costly is None else feature.costly.nbytes for feature in processor.features]
    if not any(each):
        return SAMPLE_ROWS
    return FIRST if all(each) else max(FIRST, min(SAMPLE_ROWS, FIRST_BYTES // sum(each)))


def _kept(processor: Processor, table: pa.Table) -> pa.Table:
    """Rows as they are kept with a model; of large files, those of the first ones."""
    if all(feature.costly is None for feature in processor.features):
        return processor.kept(table)
    parts: list[pa.Table] = []
    for start in range(0, max(len(table), 1), LEAST):
        parts.append(processor.kept(table.slice(start, LEAST)))
        if sum(part.nbytes for part in parts) > KEPT_BYTES:
            break
    return pa.concat_tables(parts).combine_chunks()


def _counted(rows: Rows) -> Rows:
    """Rows whose weight is more than 0, which alone say what is usual; all where none has."""
    if rows.weights is None or not (rows.weights == 0).any() or not rows.weights.any():
        return rows
    return taken(rows, np.flatnonzero(rows.weights > 0))


def _of_those(answers: Task, counted: Task | None) -> Task:
    """A task of all rows, with the statistics of quantities of those that count; labels are those of all."""
    if counted is None:
        return answers
    if answers.parts:
        pairs = zip(answers.parts, counted.parts, strict=True)
        return answers.with_parts([_of_those(*pair) for pair in pairs], (), answers.part_weights)
    return counted if answers.numeric and counted.numeric else answers


def _fitted_or_none(*given: Any) -> Task | None:
    """As `_fitted`; None where those rows alone are not a target, as of one value."""
    try:
        return _fitted(*given)
    except (DataError, OptionError):
        return None


def _fitted(
    values: Array,
    names: Sequence[str],
    asked: Any,
    task: Families | None,
    standardise: Callable[[str], bool],
    ignored: int | None,
) -> Task:
    """The task of a target, or of each of several."""
    heads = values.dtype.names or ()
    if not heads:
        if isinstance(task, Mapping):
            raise OptionError("The losses or tasks are of several targets; there is one.", "--target a,b, or name one.")
        return fit_task(values, names, task, standardise(names[0]), ignored)
    strange = next((name for name in task if name not in heads), "") if isinstance(task, Mapping) else ""
    if strange:
        raise OptionError(f"There is no target {strange!r} for a loss or a task.", did_you_mean(strange, heads))
    tasks = {name: task.get(name) if isinstance(task, Mapping) else task for name in heads}
    columns = columns_of(heads_of(asked, several=True) or dict.fromkeys(heads))
    return fit_heads(values, columns, tasks, {name: standardise(name) for name in heads})


def _givens(asked: Any, values: Array) -> tuple[TargetForm, ...]:
    """How each of several targets came."""
    heads = heads_of(asked, several=True)
    return tuple(given_by(heads.get(name), values[name]) for name in values.dtype.names or ())


def _digest(rows: Rows) -> str:
    """Of rows and their targets; several of them count as columns."""
    table = _weighed(rows)
    heads = rows.target.dtype.names or ()
    for name in heads:
        table = table.append_column(f"{TARGET}{name}", column(rows.target[name], name))
    return digest(table, None if heads else rows.target)


def _label_counts(answers: Task, target: Array) -> Tensor | None:
    """Rows of each class, of several heads side by side; None where a row has not one label."""
    if answers.parts:
        parts = [_label_counts(head, target[name]) for name, head in zip(answers.names, answers.parts, strict=True)]
        found = [part for part, head in zip(parts, answers.parts, strict=True) if part is not None and head.one_label]
        return torch.cat(found) if found else None
    if not answers.one_label and not (answers.exclusive and answers.row):
        return None
    known, classes = answers.known(target).reshape(-1), len(answers.classes)
    return torch.from_numpy(np.bincount(known[(known >= 0) & (known < classes)], minlength=classes))


def _weighed(rows: Rows) -> pa.Table:
    return rows.table if rows.weights is None else rows.table.append_column(WEIGHTS, pa.array(rows.weights))


def _weights(train: Rows, held: Rows | None) -> tuple[Tensor, Tensor | None] | None:
    if train.weights is None:
        return None
    other = None if held is None or held.weights is None else torch.from_numpy(in_range(held.weights))
    return torch.from_numpy(in_range(train.weights)), other


def in_range(weights: Array, largest: float | None = None) -> Array:
    """Weights over a power of two that is about the largest: only their proportions count, and float32 holds those."""
    most = weights.max(initial=0.0) if largest is None else largest
    return np.ldexp(weights, -int(np.frexp(most)[1]))


def joined(target: Tensor, weights: Tensor) -> Tensor:
    """Target and weights of rows, or several numbers of each, side by side in floats that hold the target exactly."""
    dtype = target.dtype if target.is_floating_point() else torch.float32  # exact for 16 million labels
    flat = target.flatten(1) if target.dim() > 1 else target[:, None]
    beside = weights[:, None] if weights.dim() == 1 else weights
    return torch.cat([flat.to(dtype), beside.to(dtype)], dim=1)


@torch.inference_mode()
def _transformed(transform: Preprocessing, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return transform(*inputs)  # type: ignore[no-any-return]


def transformed(transform: Preprocessing, processor: Processor, raw: list[Array]) -> tuple[Tensor, ...]:
    """What the network takes of raw rows, made in chunks to keep memory low."""
    if not transform.parts and transform.alone:
        return entered(processor, raw)
    rows = len(raw[0])
    parts = [
        _transformed(transform, entered(processor, [values[start : start + CHUNK] for values in raw]))
        for start in range(0, max(rows, 1), CHUNK)
    ]
    return tuple(torch.cat(pieces).clone() for pieces in zip(*parts, strict=True))


def transformed_ready(transform: Preprocessing, ready: Ready, rows: Sequence[int]) -> tuple[Tensor, ...]:
    """What the network takes of some rows of what is ready."""
    entering = entered_ready(ready.processor, ready.table, rows, ready.seen)
    return tuple(made.clone() for made in _transformed(transform, entering))
