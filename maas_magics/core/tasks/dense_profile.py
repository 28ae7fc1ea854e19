"""Which labels positions of rows have, inferred from one reading of them that does not grow with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from maas_magics.core.data.arrow import Array
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.dense import Dense


class DenseProfile:
    """What a target of labels at positions is: how often each label is there.

    Parameters
    ----------
    names : sequence of str
        Of the target.
    ignored : callable
        From all labels, in order, to the one that the loss ignores, or None.
    """

    def __init__(self, names: Sequence[str], ignored: Callable[[Array], int | None]) -> None:
        self._names, self._ignored = tuple(names), ignored
        self._counts: Counter[int] = Counter()
        self._axes: tuple[int, ...] = ()
        self._dtype = np.dtype(np.uint8)

    def meet(self, values: Array, start: int) -> Array:
        """Rows that are trained on whatever is drawn: none, since each has many labels."""
        return self.first

    @property
    def first(self) -> Array:
        """Places of such rows."""
        return np.empty(0, dtype=np.int64)

    def add(self, values: Array, weights: Array | None = None) -> None:
        """Take in the target (n, …) of some training rows."""
        found, counts = np.unique(values, return_counts=True)
        self._counts.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        self._axes, self._dtype = values.shape[1:], values.dtype

    @property
    def labels(self) -> Array:
        """Those that are there, in order."""
        return np.array(sorted(self._counts), dtype=self._dtype)

    def fitted(self, standardise: Callable[[str], bool]) -> Task:
        """The fitted task."""
        labels = self.labels
        counts = np.array([self._counts[label] for label in labels.tolist()])
        return Dense.of_labels(labels, counts, self._axes, self._names, self._ignored(labels))

    @property
    def extremes(self) -> Array:
        """Of quantities, of which there are none."""
        return np.zeros((0, 1))

    def counts(self, task: Task) -> Array:
        """Positions of each class, int64 (classes,)."""
        labels = self.labels
        known = task.known(labels)
        there = (known >= 0) & (known < len(task.classes))
        if isinstance(task, Dense) and task.ignored is not None:
            there &= labels != task.ignored
        counts = np.array([self._counts[label] for label in labels.tolist()])
        return np.bincount(known[there], counts[there], len(task.classes)).astype(np.int64)
