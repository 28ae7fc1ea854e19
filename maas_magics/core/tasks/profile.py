"""What the target is, inferred from one reading of its rows in memory that does not grow with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Protocol

import numpy as np

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import is_text
from maas_magics.core.data.running import RunningStatistics
from maas_magics.core.tasks.base import Family, Task, TaskName, floats
from maas_magics.core.tasks.fit import MOST_CLASSES, fit_task, is_of_one_label, is_of_quantities

MOST_LABELS = 100_000
"""Different labels that a target may have."""

HEAD = 10_000
"""First rows that decide whether several targets are labels or quantities."""


class Profile(Protocol):
    """What a target is, from one reading of its rows: of one target, or of several."""

    def meet(self, values: Array, start: int) -> Array:
        """Rows, by place, that are the first of their label and therefore trained on."""
        ...

    @property
    def first(self) -> Array:
        """Places of the rows that `meet` returned."""
        ...

    def add(self, values: Array, weights: Array | None = None) -> None:
        """Take in the target of some training rows; those of weight 0 do not say how large quantities are."""
        ...

    def fitted(self, standardise: Callable[[str], bool]) -> Task:
        """The fitted task."""
        ...

    @property
    def extremes(self) -> Array:
        """Smallest and largest of each quantity, float64 (2, k)."""
        ...

    def counts(self, task: Task) -> Array:
        """Training rows of each class, int64 (classes,)."""
        ...


class TargetProfile:
    """What the target is: every label, or the exact statistics of quantities.

    Parameters
    ----------
    names : sequence of str
        Names of the target's columns.
    task : TaskName, Family or None
        As requested.
    """

    def __init__(self, names: Sequence[str], task: TaskName | Family | None) -> None:
        self.names, self.task = tuple(names), task
        self.figures = RunningStatistics()
        self.rows = 0
        self._labels: Counter[object] = Counter()
        """How often each value occurs in the training rows; complete while `_counts`."""
        self._counts = True
        self._first: dict[object, int] = {}
        self._head: list[Array] = []
        self._odd: Array | None = None
        self._dtype = np.dtype(object)

    def meet(self, values: Array, start: int) -> Array:
        """Rows, by place, that are the first of their label and therefore trained on.

        Parameters
        ----------
        values : ndarray, shape (n,) or (n, k)
            Target of the next rows, as it came.
        start : int
            Place of the first row.
        """
        if values.ndim > 1 or not self._counts:
            return np.empty(0, dtype=np.int64)
        places = dict(zip(values[::-1].tolist(), range(len(values) - 1, -1, -1), strict=True))
        fresh = sorted(
            ((place, label) for label, place in places.items() if label not in self._first), key=itemgetter(0)
        )
        most = self._most(values)
        for place, label in fresh[: most + 1 - len(self._first)]:
            self._first[label] = start + place
        self._counts = len(self._first) <= most
        if most == MOST_LABELS and not self._counts:
            raise DataError(
                f"The target {self.names[0]!r} has more than {MOST_LABELS:,} different labels.",
                "Name a column of fewer labels, or of numbers.",
            )
        return np.array([row - start for row in self._first.values() if row >= start], dtype=np.int64)

    def _most(self, values: Array) -> int:
        labels = is_text(values) or is_of_one_label(self.task)
        return MOST_LABELS if labels and not is_of_quantities(self.task) else MOST_CLASSES

    @property
    def first(self) -> Array:
        """Places of the rows that `meet` returned."""
        return np.array(sorted(self._first.values()), dtype=np.int64)

    def add(self, values: Array, weights: Array | None = None) -> None:
        """Take in the target of some training rows.

        Parameters
        ----------
        values : ndarray, shape (n,) or (n, k)
            The target as it came.
        weights : ndarray, shape (n,), optional
            Of the rows; those of weight 0 do not say how large quantities are.
        """
        self.rows += len(values)
        self._dtype = values.dtype
        if not is_text(values) or is_of_quantities(self.task):
            counted = values if weights is None or not weights.any() else values[weights > 0]
            self.figures.add(floats(counted, self.names).reshape(len(counted), -1))
        if values.ndim > 1:
            self._look(values)
        elif self._counts:
            self._labels.update(values.tolist())

    def _look(self, values: Array) -> None:
        short = HEAD - sum(map(len, self._head))
        if short > 0:
            self._head.append(values[:short])
        if self._odd is None and values.dtype.kind != "O":
            odd = np.flatnonzero(((values != 0) & (values != 1)).any(axis=1))
            self._odd = values[odd[:1]] if len(odd) else None

    def fitted(self, standardise: Callable[[str], bool]) -> Task:
        """The fitted task, as `maas_magics.core.tasks.fit.fit_task` has it of all rows.

        Parameters
        ----------
        standardise : callable
            Whether quantities are learnt in units of their standard deviation, by the name of the target.
        """
        in_units = standardise(self.names[0])
        task = fit_task(self._few(), self.names, self.task, in_units)
        return task.counted(self.figures, self.counts(task), in_units)

    def _few(self) -> Array:
        """Values that imply the same task and the same labels as all do."""
        if self._head:
            return np.concatenate([*self._head, *([] if self._odd is None else [self._odd])])
        labels = np.array(list(self._first), dtype=self._dtype)
        if self._counts:
            return np.resize(labels, min(self.rows, 2 * len(labels)))
        return np.concatenate([labels, self.extremes[:, 0].astype(self._dtype)])

    @property
    def extremes(self) -> Array:
        """Smallest and largest of each quantity, float64 (2, k)."""
        return np.stack([self.figures.low, self.figures.high])

    def counts(self, task: Task) -> Array:
        """Training rows of each class, int64 (classes,); none for quantities and several labels a row."""
        if not task.one_label:
            return np.zeros(0, dtype=np.int64)
        labels = np.array(list(self._labels), dtype=self._dtype)
        index = task.known(labels)
        return np.bincount(index, np.array(list(self._labels.values())), len(task.classes)).astype(np.int64)
