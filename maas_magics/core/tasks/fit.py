"""Which task a target speaks for, and the task fitted to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import msgspec
import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array, dates
from maas_magics.core.data.labels import DECIMAL, TEXT, is_decimal, is_text, kind_of, kind_of_holding, plain
from maas_magics.core.data.running import figures
from maas_magics.core.tasks.base import Family, Task, TaskName, floats
from maas_magics.core.tasks.binary import Binary
from maas_magics.core.tasks.dense import Dense, fit_dense
from maas_magics.core.tasks.heads import Head, Heads
from maas_magics.core.tasks.labels import shares_of
from maas_magics.core.tasks.multiclass import Multiclass
from maas_magics.core.tasks.multilabel import Multilabel
from maas_magics.core.tasks.regression import Regression

AnyTask: TypeAlias = Regression | Binary | Multiclass | Multilabel | Dense | Heads
"""Every kind of task, as what is written down of one is read."""

OF_ONE_LABEL = ("binary", "multiclass", "labels", "classes", "choice")
OF_LABELS = (*OF_ONE_LABEL, "multilabel")
OF_QUANTITIES = ("regression", "quantities")
"""Tasks, and families of tasks, whose target is one label a row, labels, or quantities."""

MOST_CLASSES = 20
"""Whole numbers with more different values than this are quantities, not labels."""


def fit_task(
    values: Array,
    names: Sequence[str],
    task: TaskName | Family | None,
    standardise: bool,
    ignored: int | None = None,
) -> Task:
    """Fit a task to a target.

    Parameters
    ----------
    values : ndarray, shape (n,) or (n, k)
        Without missing values.
    names : sequence of str
    task : TaskName, Family or None
        Inferred when it is no task: text, booleans and whole numbers of at most 20 different values are labels, other
        numbers quantities; several columns are labels where each holds nothing but 0 and 1.
    standardise : bool
        Whether a regression target is learnt in units of its standard deviation.
    ignored : int, optional
        Label of positions that the loss ignores.

    Raises
    ------
    DataError
        If there is one class or one value only, or the task does not fit the values.
    """
    asked, task = task, infer_task(values, task)
    flat = values.ndim == 1
    if values.ndim == 2 and len(names) < values.shape[1]:
        names = [f"{names[0]}{i}" for i in range(values.shape[1])]
    if task == "dense":
        return _dense(values, names, ignored)
    if task == "regression":
        return _regression(values, names, flat, standardise)
    if task == "multilabel":
        return _multilabel(values, names, flat)
    if not flat:
        raise DataError(
            f"A {task} target is one column of labels; this one has {values.shape[1]}.", "--task multilabel"
        )
    return _one_label(values, names[0], task, asked)


def _regression(values: Array, names: Sequence[str], flat: bool, standardise: bool) -> Task:
    axes = values.shape[1:] if values.ndim > 2 else ()
    numbers = floats(values, names).reshape((-1, 1) if axes else (len(values), -1))
    if (numbers == numbers[0]).all():
        raise DataError(
            f"The target {', '.join(map(repr, names))} has the value {numbers[0, 0]:g} in every row.",
            "Give rows in which it varies.",
        )
    return Regression(tuple(names), flat=flat, axes=axes).counted(figures(numbers), np.zeros(0), standardise)


def _dense(values: Array, names: Sequence[str], ignored: int | None) -> Task:
    if values.ndim < 2:
        raise DataError("A dense target has a label at each position of a row, (n, …); this one has one a row.", "")
    return fit_dense(values, tuple(names), ignored)


def _multilabel(values: Array, names: Sequence[str], flat: bool) -> Task:
    if values.ndim != 2 or not set(np.unique(floats(values, names)).tolist()) <= {0.0, 1.0}:
        raise DataError("A multilabel target is several columns of 0 and 1.", "Name them: --target a,b,c")
    shares = tuple(floats(values, names).mean(axis=0).tolist())
    return Multilabel(tuple(names), (False, True), flat=False, kind=kind_of_holding(values), usual=shares)


def _one_label(values: Array, name: str, task: TaskName, asked: TaskName | Family | None) -> Task:
    kind, counts = kind_of(values), Counter(values.tolist())
    if kind == TEXT and not asked and len(counts) > MOST_CLASSES:
        _refuse_dates(name, list(counts))
    classes = tuple(plain(label, kind) for label in sorted(counts))
    if len(classes) < 2:
        raise DataError(
            f"The target {name!r} has one class only: {classes[0]!r}.", "Give rows of at least two classes."
        )
    if task == "binary" and len(classes) > 2:
        raise DataError(f"The target {name!r} has {len(classes)} classes, not two.", "--task multiclass")
    fitted = Binary if task == "binary" else Multiclass
    return fitted((name,), classes, kind=kind, usual=shares_of(counts[label] for label in sorted(counts)))


def fit_heads(
    values: Array,
    columns: Mapping[str, Sequence[str]],
    tasks: Mapping[str, TaskName | Family | None],
    standardise: Mapping[str, bool],
) -> Heads:
    """Fit a task to each of several targets.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Records: a field for each head.
    columns : mapping of str to sequence of str
        Names of each head's target.
    tasks, standardise : mapping
        What `fit_task` is handed for each head.

    Raises
    ------
    DataError
        As `fit_task` does.
    """
    for name in columns:
        other = next(
            (other for other in columns if other.startswith((f"{name}_probabilities", f"{name}_probability_"))), ""
        )
        if other:
            raise DataError(
                f"A target is called {other!r}, as the probabilities of the target {name!r} are.",
                "Give it another name.",
            )
    heads = tuple(cast(Head, fit_task(values[name], columns[name], tasks[name], standardise[name])) for name in columns)
    return Heads(tuple(columns), heads=heads, loss_weights=(1.0,) * len(heads))


def respelled(task: Task, spelled: Mapping[str, str]) -> Task:
    """The same task, with decimals as they came: ``spelled`` by how they are written with the digits of others."""
    if task.kind != DECIMAL or not spelled:
        return task
    return msgspec.structs.replace(task, classes=tuple(spelled.get(str(label), label) for label in task.classes))


def infer_task(values: Array, asked: TaskName | Family | None = None) -> TaskName:
    """Task that a target's values speak for, as far as it was not asked for; see `fit_task`."""
    values = values.astype(np.float64) if is_decimal(values) else values
    match asked:
        case "binary" | "multiclass" | "multilabel" | "regression" | "dense":
            return asked
        case "quantities":
            return "regression"
        case "labels" | "classes" | "choice":
            return _labels_of(values, asked)
    kind = values.dtype.kind
    if values.ndim > 2:
        return "regression" if kind == "f" else "dense"
    if values.ndim > 1:
        return "multilabel" if kind in "biuf" and set(np.unique(values[:10_000]).tolist()) <= {0, 1} else "regression"
    if is_text(values) or kind == "b":
        return "binary" if len(set(values.tolist())) <= 2 else "multiclass"
    different = np.unique(values)
    if kind == "f" and not np.all(different == np.floor(different)):
        return "regression"
    if len(different) <= 2:
        return "binary" if kind in "iu" or set(different.tolist()) <= {0.0, 1.0} else "regression"
    few = len(different) <= MOST_CLASSES and len(different) * 2 <= len(values)
    return "multiclass" if few else "regression"


def _labels_of(values: Array, family: Family) -> TaskName:
    """Task of a loss for labels. Shares between 0 and 1 stand for labels that are not certain, and are quantities."""
    if values.ndim > 1:
        return _of_positions(values) if family == "classes" else infer_task(values)
    different = np.unique(values.astype(str) if values.dtype.kind == "O" else values)
    if values.dtype.kind == "f" and not np.all(different == np.floor(different)):
        return "regression"
    return "binary" if family == "labels" or (family == "choice" and len(different) <= 2) else "multiclass"


def _of_positions(values: Array) -> TaskName:
    """Task of a loss for classes, and a target of several numbers a row: whole ones are labels, if not one-hot."""
    if values.dtype.kind not in "iu":
        return "regression"
    hot = values.ndim == 2 and bool(((values == 0) | (values == 1)).all()) and bool((values.sum(axis=1) == 1).all())
    return "regression" if hot else "dense"


def _refuse_dates(name: str, texts: list[str]) -> None:
    if dates(pa.chunked_array([pa.array(texts, pa.string())])) is not None:
        raise DataError(
            f"The target {name!r} holds {len(texts):,} different dates, which are neither labels nor quantities.",
            "Turn them into numbers, such as days since the first, or --task multiclass takes each for a label.",
        )
