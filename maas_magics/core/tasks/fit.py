"""Which task a target implies, and the task fitted to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError, NotFound
from maas_magics.core.data.arrow import Array, dates
from maas_magics.core.data.labels import DECIMAL, TEXT, is_decimal, is_text, kind_of
from maas_magics.core.data.tagged import is_tagged
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import Family, Task, TaskName
from maas_magics.core.tasks.heads import Heads

OF_ONE_LABEL = ("labels", "classes", "choice")
OF_QUANTITIES = ("quantities",)
FAMILIES = (*OF_ONE_LABEL, *OF_QUANTITIES)
"""Families of tasks whose target is one label a row, or quantities."""

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
        Names of the target's columns.
    task : TaskName, Family or None
        Inferred when it is not a task: text, booleans and whole numbers of at most 20 different values are labels,
        other numbers quantities; several columns are labels where each holds nothing but 0 and 1; lists of texts are
        tags of words.
    standardise : bool
        Whether a regression target is learnt in units of its standard deviation.
    ignored : int, optional
        Label of positions that the loss ignores.

    Raises
    ------
    DataError
        If there is one class or one value only, or the task does not fit the values.
    """
    kind = tasks.get(infer_task(values, task))
    if task is None and kind.one_label and kind_of(values) == TEXT:
        _refuse_dates(names[0], values.tolist())
    if values.ndim == 2 and len(names) < values.shape[1]:
        names = [f"{names[0]}{i}" for i in range(values.shape[1])]
    return kind.fit(values, tuple(names), standardise=standardise, ignored=ignored)


def is_of_one_label(asked: Any) -> bool:
    """Whether a requested task or family has one label a row; not where there are several heads, or none."""
    return asked in OF_ONE_LABEL or (_is_kind(asked) and tasks.get(asked).one_label)


def is_of_labels(asked: Any) -> bool:
    """The same of one label a row or several."""
    return is_of_one_label(asked) or (_is_kind(asked) and tasks.get(asked).decision == "each")


def is_of_quantities(asked: Any) -> bool:
    """The same of quantities."""
    return asked in OF_QUANTITIES or (_is_kind(asked) and tasks.get(asked).numeric)


def _is_kind(asked: Any) -> bool:
    return isinstance(asked, str) and asked not in FAMILIES


def fit_heads(
    values: Array,
    columns: Mapping[str, Sequence[str]],
    kinds: Mapping[str, TaskName | Family | None],
    standardise: Mapping[str, bool],
) -> Heads:
    """Fit a task to each of several targets.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Records: a field for each head.
    columns : mapping of str to sequence of str
        Names of each head's target.
    kinds, standardise : mapping
        What `fit_task` is handed for each head.

    Raises
    ------
    DataError
        As `fit_task` does.
    """
    tasks = {name: fit_task(values[name], columns[name], kinds[name], standardise[name]) for name in columns}
    return heads_of_tasks(tasks)


def heads_of_tasks(fitted: Mapping[str, Task]) -> Heads:
    """Several fitted targets as one.

    Parameters
    ----------
    fitted : mapping of str to Task
        The task of each head by its name.

    Raises
    ------
    DataError
        If outputs of two heads have the same name.
    """
    for name in fitted:
        other = next(
            (other for other in fitted if other.startswith((f"{name}_probabilities", f"{name}_probability_"))), ""
        )
        if other:
            raise DataError(
                f"A target is called {other!r}, as the probabilities of the target {name!r} are.",
                "Give it another name.",
            )
    return Heads(tuple(fitted), heads=tuple(fitted.values()), loss_weights=(1.0,) * len(fitted))


def respelled(task: Task, spelled: Mapping[str, str]) -> Task:
    """The same task, with decimals as they came: ``spelled`` by how they are written with the digits of others."""
    if task.kind != DECIMAL or not spelled:
        return task
    return msgspec.structs.replace(task, classes=tuple(spelled.get(str(label), label) for label in task.classes))


def infer_task(values: Array, asked: TaskName | Family | None = None) -> TaskName:
    """Task that a target's values imply, as far as it was not requested; see `fit_task`."""
    if is_tagged(values):
        return _of_tags(asked)
    values = values.astype(np.float64) if is_decimal(values) else values
    match asked:
        case "quantities":
            return "regression"
        case "labels" | "classes" | "choice":
            return _labels_of(values, asked)
        case str():
            return asked
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


def _of_tags(asked: TaskName | Family | None) -> TaskName:
    """Task of a list of tags a row."""
    if asked not in (None, "choice", "classes", "entities"):
        raise DataError(f"Lists of tags are not a target of {asked}.", "--task entities, or another target.")
    return "entities"


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


def _refuse_dates(name: str, values: list[str]) -> None:
    texts = sorted(set(values))
    if len(texts) > MOST_CLASSES and dates(pa.chunked_array([pa.array(texts, pa.string())])) is not None:
        raise DataError(
            f"The target {name!r} holds {len(texts):,} different dates, which are neither labels nor quantities.",
            "Turn them into numbers, such as days since the first, or --task multiclass takes each for a label.",
        )


def restored(saved: Mapping[str, Any]) -> Task:
    """A task of plain values, as they were written down.

    Raises
    ------
    ValueError
        If they are none, or of a kind that is not installed.
    """
    name = str(saved.get("task"))
    if name == Heads.task:
        heads = tuple(map(restored, saved.get("heads", ())))
        return msgspec.structs.replace(Heads.restored({**saved, "heads": ()}), heads=heads)
    try:
        return tasks.get(name).restored(saved)
    except NotFound as error:
        raise ValueError(f"{error.message} The package that has it is not installed.") from None
