"""From data to rows ready for the loop: features and target separated, split, profiled, scaled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from maas_magics.api.errors import DataError, OptionError, did_you_mean
from maas_magics.api.specs import DataSpec
from maas_magics.core.architectures import architectures
from maas_magics.core.batches.decoded import Seen
from maas_magics.core.data.arrow import Array, is_number, is_text
from maas_magics.core.data.nested import is_listed
from maas_magics.core.data.origin import came_from
from maas_magics.core.data.roles import SHARE, held_by, roles_of
from maas_magics.core.data.sources import is_files, notes_of
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.data.split import split
from maas_magics.core.data.target import part, target_names
from maas_magics.core.data.target_values import Beside
from maas_magics.core.features.declared import has_ports
from maas_magics.core.features.fitting import FitConfig, Layout
from maas_magics.core.features.module import Preprocessing, entered, entered_ready
from maas_magics.core.features.notes import tell_labels
from maas_magics.core.features.processor import Processor
from maas_magics.core.features.profile import TableProfile, check_image, image_like
from maas_magics.core.features.unreadable import checks_of, readable, share_of
from maas_magics.core.losses.check import Families
from maas_magics.core.losses.heads import Forms
from maas_magics.core.losses.known import known
from maas_magics.core.losses.own import UNKNOWN, Form, TargetForm, given_by
from maas_magics.core.networks.arguments import takes_by_name
from maas_magics.core.networks.modules import title_of
from maas_magics.core.store.sample import TARGET, digest
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.fit import fit_heads, fit_task, infer_task, is_of_labels, is_of_one_label, respelled
from maas_magics.core.tasks.several import add_notes, columns_of, heads_of, held_heads, part_heads

VALIDATION_SHARE = SHARE
SAMPLE_ROWS = 1_000
"""Held-out rows kept with the model, to verify exports on."""

FIRST, FIRST_BYTES = 32, 64 * 2**20
"""Rows with files that are encoded before the first epoch, at least, and bytes of them where others stand beside."""

LEAST, KEPT_BYTES = 64, 16 * 2**20
"""Rows with files that are read and kept with a model at once, at least, and bytes of those that are kept."""

CHUNK = 100_000

CONVOLVED = 6
"""Numbers on each side of a picture from which a convolution is worth it."""

WEIGHTS = "__weights__"
"""Column of the weights where rows are digested."""


@dataclass(frozen=True)
class Rows:
    """Features and target of some rows."""

    table: pa.Table
    target: Array
    weights: Array | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)


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
    ready: Ready | None = None
    """What is kept of the training rows that are encoded as they are requested."""


def read(
    data: DataSpec,
    seed: int,
    task: Families | None,
    notify: Callable[[str], None],
    beside: Beside | None = None,
    several: bool = False,
) -> tuple[Rows, Rows | None, tuple[str, ...], bool]:
    """Training and validation rows as they came, names of the target, and whether they are arrays.

    ``beside`` gets the notes on the target; ``several`` says that each column of it is one of its own.
    """
    roles, beside = roles_of(data), beside or Beside()
    beside.labels = is_of_labels(task)
    features, target = data.data, data.target
    if target is None and isinstance(features, tuple) and len(features) == 2:
        features, target = features
    heads = heads_of(target, several)
    if heads:
        source, table, values = part_heads(features, heads, data.csv, notify=partial(add_notes, beside))
        names = tuple(heads)
    else:
        source, table, values, names = part(features, target, data.csv, beside=beside)
    table, values, beside.bad = _readable(table, values, data)
    beside.counting = {name: ends for name, ends in beside.counting.items() if name not in roles.features}
    for note in (*notes_of(source), *beside.notes):
        notify(note)
    if values.ndim == 1 and table.num_rows < 2:
        raise DataError("The data has one row only.", "Give at least a few rows to learn from.")
    whole = table
    table, weights, key = roles.parted(table)
    rows = Rows(table, values, weights)
    held = data.validation
    if roles.split is not None:
        assert key is not None
        out = held_by(roles.split, key, seed)
        draw = np.random.default_rng(seed).permutation(len(rows))
        return _take(rows, draw[~out[draw]]), _take(rows, draw[out[draw]]), names, source.arrays
    if held is None or isinstance(held, (int, float)):
        share = held_share(held)
        labels = values if values.ndim == 1 and not heads and _labels(values, task) else None
        train, validation = split(len(rows), share, seed, labels)
        if not len(validation):
            if share:
                notify("There are too few rows to hold any out: the training rows choose the best epoch.")
            return rows, None, names, source.arrays
        return _take(rows, train), _take(rows, validation), names, source.arrays
    csv = data.csv if is_files(held) else None
    held_beside = Beside(ignored=lambda: beside.no_target)
    if heads:
        other, answers = held_heads(held, heads, csv, texts_of(whole, ()))
    else:
        target = target if target_names(target, names, len(rows)) else None
        if target is None and not (isinstance(held, tuple) and len(held) == 2):
            raise DataError("The validation data needs its answers too.", "--validation (Xv,yv)")
        labels_of = texts_of(whole, names if values.dtype == object else ())
        _, other, answers, _ = part(held, target, csv, labels_of, held_beside)
    other, answers, bad = _readable(other, answers, data)
    if bad:
        notify(f"Of the validation data, {bad}")
    if held_beside.left:
        notify(f"Of the validation data, {held_beside.left}")
    other, weights, _ = roles.parted(other, held=True)
    came_from(source)  # messages from here on are about the training rows
    return rows, Rows(other, answers, weights), names, source.arrays


def _readable(table: pa.Table, values: Array, data: DataSpec) -> tuple[pa.Table, Array, str]:
    """Rows and their target without those whose files cannot be read, where that was requested, with a sentence."""
    if not share_of(data.max_bad):
        return table, values, ""
    kept, told = readable(table, values, checks_of(table, data.feature), data.max_bad)
    return (table, values, told) if kept is None else (table.filter(pa.array(kept)), values[kept], told)


def texts_of(table: pa.Table, labels: Sequence[str]) -> list[str]:
    """Columns of rows that are read as text, so that other files are read alike."""
    return [field.name for field in table.schema if is_text(field.type)] + list(labels)


def held_share(asked: float | None) -> float:
    """Share of the rows to hold out.

    Raises
    ------
    DataError
        If it is none, or would leave no row to learn from.
    """
    share = VALIDATION_SHARE if asked is None else float(asked)
    if not 0 <= share < 1:
        raise DataError(f"A share of {share:g} cannot be held out.", "--validation 0.2, or the name of another table")
    return share


def _take(rows: Rows, index: Array) -> Rows:
    weights = None if rows.weights is None else rows.weights[index]
    return Rows(rows.table.take(pa.array(index)), rows.target[index], weights)


def one_by_name(model: Any, data: Any, table: pa.Table) -> bool:
    """Whether the features are one number a row that has a name in a dict, or that a module says it takes.

    A module gets them as it gets an array: not scaled.
    """
    if isinstance(model, str) or table.num_columns != 1 or not is_number(table.schema.types[0]):
        return False
    data = data[0] if isinstance(data, tuple) and len(data) == 2 else data
    return isinstance(data, Mapping) or takes_by_name(model, table.column_names)


def as_array(rows: Rows) -> Rows:
    """The same rows, with the one number of each as an array has it."""
    name = rows.table.column_names[0]
    made = column(rows.table.column(0).to_numpy()[:, None], name)
    return replace(rows, table=pa.table({name: made}))


def by_ports(model: Any) -> bool:
    """Whether columns may reach a network by themselves: one by name that takes them, or one that is chosen."""
    return isinstance(model, str) and (model == "auto" or architectures.get(model).layout == "ports")


def layout_of(model: Any, table: pa.Table, arrays: bool) -> tuple[str, Layout]:
    """Name of the architecture for some features, or of the module's class, and what it takes.

    Columns that are arguments of a module go to them one by one, also those of a table, and so do lists of several
    lengths, which have no place beside numbers.
    """
    if isinstance(model, str):
        usual = "fusion" if has_ports(table.schema) else "cnn" if image_like(table.schema, CONVOLVED) else "tabm"
        chosen = usual if model == "auto" else model
        architecture = architectures.get(chosen)
        pictures = architecture.arrays if image_like(table.schema, 1) else None
        return chosen, pictures or architecture.layout
    uneven = any(is_listed(kind) for kind in table.schema.types)
    one_by_one = arrays or uneven or takes_by_name(model, table.column_names)
    return title_of(model), "raw" if one_by_one else "flat"


def standardises(loss: Any, named: bool, raw: bool) -> bool:
    """Whether quantities are learnt in units of their standard deviation.

    A module that gets its features as they are (``raw``) gets the target so too, and so does a loss of the user's own,
    or one that is not the same in other units.
    """
    if raw and not named:
        return False
    takes = known(loss) if callable(loss) else None
    if takes is None:
        return named or not callable(loss)
    return takes.in_any_units


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
    return _take(rows, np.flatnonzero(rows.weights > 0))


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


def _labels(values: Array, task: Families | None) -> bool:
    """Whether a target is one label a row."""
    return not isinstance(task, Mapping) and is_of_one_label(infer_task(values, task))


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
    """Target and weights of rows, (n, k + 1), in floats that hold the target exactly."""
    dtype = target.dtype if target.is_floating_point() else torch.float32  # exact for 16 million labels
    flat = target.flatten(1) if target.dim() > 1 else target[:, None]
    return torch.cat([flat.to(dtype), weights.reshape(-1, 1).to(dtype)], dim=1)


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
