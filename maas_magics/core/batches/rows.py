"""Rows of a training as they came: features and target, read and parted into those that train and those held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.api.specs import DataSpec
from maas_magics.core.data.arrow import Array, is_text
from maas_magics.core.data.origin import came_from
from maas_magics.core.data.roles import SHARE, held_by, roles_of
from maas_magics.core.data.sources import is_files, notes_of
from maas_magics.core.data.split import split
from maas_magics.core.data.target import part, target_names
from maas_magics.core.data.target_values import Beside
from maas_magics.core.features.unreadable import checks_of, readable, share_of
from maas_magics.core.losses.check import Families
from maas_magics.core.tasks.fit import infer_task, is_of_labels, is_of_one_label
from maas_magics.core.tasks.several import add_notes, heads_of, held_heads, part_heads

VALIDATION_SHARE = SHARE


@dataclass(frozen=True)
class Rows:
    """Features and target of some rows; every column but the target's as it came where a teacher is asked."""

    table: pa.Table
    target: Array
    weights: Array | None = None
    whole: pa.Table | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)


def read(
    data: DataSpec,
    seed: int,
    task: Families | None,
    notify: Callable[[str], None],
    beside: Beside | None = None,
    several: bool = False,
    whole: bool = False,
) -> tuple[Rows, Rows | None, tuple[str, ...], bool]:
    """Training and validation rows as they came, names of the target, and whether they are arrays.

    ``beside`` gets the notes on the target; ``several`` says that each column of it is one of its own, ``whole`` that
    columns are kept that are no features.
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
    all_columns = table
    table, weights, key = roles.parted(table)
    rows = Rows(table, values, weights, all_columns if whole else None)
    held = data.validation
    if roles.split is not None:
        assert key is not None
        out = held_by(roles.split, key, seed)
        draw = np.random.default_rng(seed).permutation(len(rows))
        return taken(rows, draw[~out[draw]]), taken(rows, draw[out[draw]]), names, source.arrays
    if held is None or isinstance(held, (int, float)):
        share = held_share(held)
        labels = values if values.ndim == 1 and not heads and _labels(values, task) else None
        train, validation = split(len(rows), share, seed, labels)
        if not len(validation):
            if share:
                notify("There are too few rows to hold any out: the training rows choose the best epoch.")
            return rows, None, names, source.arrays
        return taken(rows, train), taken(rows, validation), names, source.arrays
    csv = data.csv if is_files(held) else None
    held_beside = Beside(ignored=lambda: beside.no_target)
    if heads:
        other, answers = held_heads(held, heads, csv, texts_of(all_columns, ()))
    else:
        target = target if target_names(target, names, len(rows)) else None
        if target is None and not (isinstance(held, tuple) and len(held) == 2):
            raise DataError("The validation data needs its answers too.", "--validation (Xv,yv)")
        labels_of = texts_of(all_columns, names if values.dtype == object else ())
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


def taken(rows: Rows, index: Array) -> Rows:
    """Some rows, by their places."""
    weights = None if rows.weights is None else rows.weights[index]
    whole = None if rows.whole is None else rows.whole.take(pa.array(index))
    return Rows(rows.table.take(pa.array(index)), rows.target[index], weights, whole)


def _labels(values: Array, task: Families | None) -> bool:
    """Whether a target is one label a row."""
    return not isinstance(task, Mapping) and is_of_one_label(infer_task(values, task))
