"""What columns hold, told from one reading of their rows in memory that does not grow with them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError
from maas_magics.api.requests import Task
from maas_magics.core.data.answers import MOST_CLASSES, Answers, fit_answers, floats
from maas_magics.core.data.columns import (
    IDENTIFIER,
    Array,
    Category,
    Column,
    Columns,
    Moment,
    Numeric,
    as_text,
    category,
    dates,
    fit,
    is_moment,
    is_number,
    is_text,
)
from maas_magics.core.data.scaling import Layout, Scaling
from maas_magics.core.data.transform import as_tensor, fit_scaling, side_by_side, standardised, turns

MOST_TEXTS = 100_000
"""Different texts of a column that are counted; past it the rarer half of them is forgotten."""

HEAD = 10_000
"""First rows by which several targets are told to be labels or quantities."""


class Running:
    """Count, mean, variance and extremes of columns, some rows at a time.

    Exact but for rounding: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances" (1979). NaN is missing.
    """

    def __init__(self) -> None:
        self.count: Array = np.zeros(0)
        self.missing: Array = np.zeros(0)
        self.mean: Array = np.zeros(0)
        self.squares: Array = np.zeros(0)
        self.low: Array = np.zeros(0)
        self.high: Array = np.zeros(0)

    def add(self, values: Array) -> None:
        """Take in rows (n, p)."""
        values = values.astype(np.float64, copy=False)
        if not len(self.count):
            width = values.shape[1]
            self.count, self.missing, self.mean, self.squares = (np.zeros(width) for _ in range(4))
            self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)
        there = ~np.isnan(values)
        count = there.sum(axis=0)
        mean = np.where(there, values, 0.0).sum(axis=0) / np.maximum(count, 1)
        squares = np.square(np.where(there, values - mean, 0.0)).sum(axis=0)
        self.missing = self.missing + len(values) - count
        self.low = np.minimum(self.low, np.where(there, values, np.inf).min(axis=0, initial=np.inf))
        self.high = np.maximum(self.high, np.where(there, values, -np.inf).max(axis=0, initial=-np.inf))
        self._merge(count, mean, squares)

    def _merge(self, count: Array, mean: Array, squares: Array) -> None:
        total = self.count + count
        share = count / np.maximum(total, 1)
        apart = mean - self.mean
        self.squares = self.squares + squares + np.square(apart) * self.count * share
        self.mean = self.mean + apart * share
        self.count = total

    def filled(self, fill: Array) -> tuple[Array, Array, Array]:
        """Mean, standard deviation and largest size, each (p,), as if ``fill`` stood for what is missing."""
        whole = Running()
        whole.count, whole.mean, whole.squares = self.count, self.mean, self.squares
        whole._merge(self.missing, fill, np.zeros_like(fill))
        largest = np.where(self.count > 0, np.maximum(np.abs(self.low), np.abs(self.high)), 0.0)
        spread = np.sqrt(whole.squares / np.maximum(whole.count, 1))
        return whole.mean, spread, np.maximum(largest, np.where(self.missing > 0, np.abs(fill), 0.0))


class ColumnSurvey:
    """What one column of features is.

    Parameters
    ----------
    field : pyarrow.Field
    vectors : bool
        Whether an array in each row is taken as that many numbers, rather than handed on as it is.
    """

    def __init__(self, field: pa.Field, vectors: bool) -> None:
        self.name, self.kind, self.vectors = field.name, field.type, vectors
        self.figures = Running()
        self._counted: Counter[str] = Counter()
        self._many = False
        self._nulls = self._rows = 0
        self._zones: set[str | None] | None = set()
        """Time zones of the dates so far; None once a text was none."""

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""
        self._rows += len(values)
        if isinstance(self.kind, pa.FixedShapeTensorType):
            if self.vectors:
                self._measure(Numeric(self.name, math.prod(self.kind.shape)), values)
            elif len(self.kind.shape) > 1:
                self._measure(Numeric(self.name, math.prod(self.kind.shape)), values, pixels=True)
        elif is_text(self.kind):
            self._read(as_text(values))
        elif is_moment(self.kind) or is_number(self.kind):
            self._nulls += values.null_count
            self._measure(Moment(self.name) if is_moment(self.kind) else Numeric(self.name), values)

    def _measure(self, column: Column, values: pa.ChunkedArray, pixels: bool = False) -> None:
        raw = Columns((column,)).encode(pa.table({self.name: values}))
        found = side_by_side([(column, as_tensor(raw[0]))], turns()).numpy()
        if np.isinf(found).any():
            raise DataError(
                f"Column {self.name!r} holds infinite values.",
                "Mark them as missing: df = df.replace([np.inf, -np.inf], np.nan)",
            )
        self.figures.add(found.reshape(-1, 1) if pixels else found)

    def _read(self, values: pa.ChunkedArray) -> None:
        self._nulls += values.null_count
        counts = pc.value_counts(values.drop_null())
        self._counted.update(
            dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
        )
        if len(self._counted) > MOST_TEXTS:
            self._many = True
            self._counted = Counter(dict(self._counted.most_common(MOST_TEXTS // 2)))
        if self._zones is not None and values.null_count < len(values):
            moments = dates(values)
            self._zones = None if moments is None else self._zones | {moments.type.tz}
            values = values if moments is None else moments
        if self._zones is not None:
            self._measure(Moment(self.name), values)

    def column(self, sample: pa.ChunkedArray, tell: Callable[[str], None]) -> Column | None:
        """What the column is, as `maas_magics.core.data.columns.fit` has it; None where it is of no use.

        Parameters
        ----------
        sample : pyarrow.ChunkedArray
            Some of its values, by which one of very many texts is judged.
        tell : callable
            Gets a sentence if it is left out.
        """
        if isinstance(self.kind, pa.FixedShapeTensorType) or not self._known:
            return _alone(self.name, sample, tell, self.vectors)
        if self._nulls == self._rows:
            tell(f"Column {self.name!r} is empty and is left out.")
            return None
        if is_text(self.kind) and not (self._zones is not None and len(self._zones) == 1):
            return self._category(sample, tell)
        if not self.figures.missing[0] and self.figures.low[0] == self.figures.high[0]:
            tell(f"Column {self.name!r} has one value only and is left out.")
            return None
        return Numeric(self.name) if is_number(self.kind) else Moment(self.name)

    @property
    def _known(self) -> bool:
        return is_text(self.kind) or is_moment(self.kind) or is_number(self.kind)

    def _category(self, sample: pa.ChunkedArray, tell: Callable[[str], None]) -> Category | None:
        if self._many:
            texts = as_text(sample)
            if pc.count_distinct(texts).as_py() > IDENTIFIER * (len(texts) - texts.null_count):
                tell(f"Column {self.name!r} has more than {MOST_TEXTS:,} different texts and is left out.")
                return None
        return category(self.name, self._counted, self._nulls, tell)


def _alone(name: str, values: pa.ChunkedArray, tell: Callable[[str], None], vectors: bool) -> Column | None:
    """A column whose type alone says what it is."""
    if pa.types.is_null(values.type):
        tell(f"Column {name!r} is empty and is left out.")
        return None
    return fit(pa.table({name: values}), tell, vectors=vectors).columns[0]


class FeatureSurvey:
    """What the columns of features are, and the figures that scale them.

    Kinds of columns, categories, means, standard deviations and which numbers are ever missing are exact. Medians,
    which stand in for what is missing, are those of a sample, and so exact where the sample is all rows. Of a column
    with more than `MOST_TEXTS` different texts, counts are lower bounds.

    Parameters
    ----------
    schema : pyarrow.Schema
    layout : Layout
    """

    def __init__(self, schema: pa.Schema, layout: Layout) -> None:
        self.layout = layout
        self._surveys = [ColumnSurvey(field, layout in ("tabular", "flat")) for field in schema]

    def add(self, table: pa.Table) -> None:
        """Take in some training rows."""
        for survey in self._surveys:
            survey.add(table.column(survey.name))

    def columns(self, sample: pa.Table, tell: Callable[[str], None]) -> Columns:
        """The columns of use.

        Raises
        ------
        DataError
            If there is none.
        """
        found = [survey.column(sample.column(survey.name), tell) for survey in self._surveys]
        kept = tuple(column for column in found if column is not None)
        if not kept:
            raise DataError(
                "No column is of use as a feature: each is empty, constant, or names single rows.",
                "Give at least one column that varies.",
            )
        return Columns(kept)

    def scaling(self, columns: Columns, sample: list[Array], scale: bool) -> Scaling:
        """Figures of the columns; medians are those of ``sample``, raw arrays of some rows."""
        figures = {survey.name: survey.figures for survey in self._surveys}
        if self.layout == "raw":
            return Scaling()
        if self.layout == "image":
            mean, spread, _ = figures[columns.columns[0].name].filled(np.zeros(1))
            return Scaling(center=(float(mean[0]),), scale=(1.0 / max(float(spread[0]), 1e-12),))
        fill = np.array(fit_scaling(columns, self.layout, sample, False).fill)
        numbers = [figures[c.name] for c in columns.columns if isinstance(c, (Numeric, Moment))]
        if not numbers:
            return Scaling()
        missing = np.concatenate([found.missing for found in numbers])
        indicators = tuple(np.flatnonzero(missing > 0).tolist())
        if not scale:
            width = len(fill)
            return Scaling(tuple(fill.tolist()), (0.0,) * width, (1.0,) * width, indicators)
        ends = np.cumsum([len(found.count) for found in numbers])[:-1]
        parts = [found.filled(part) for found, part in zip(numbers, np.split(fill, ends), strict=True)]
        center, spread, largest = (np.concatenate(part) for part in zip(*parts, strict=True))
        return standardised(fill, center, spread, largest, indicators)


class TargetSurvey:
    """What the target is: every label, or the exact figures of quantities.

    Parameters
    ----------
    names : sequence of str
    task : Task or None
        As asked for.
    """

    def __init__(self, names: Sequence[str], task: Task | None) -> None:
        self.names, self.task = tuple(names), task
        self.figures = Running()
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
        if most == MOST_TEXTS and not self._counts:
            raise DataError(
                f"The target {self.names[0]!r} has more than {MOST_TEXTS:,} different labels.",
                "Name a column of fewer labels, or of numbers.",
            )
        return np.array([row - start for row in self._first.values() if row >= start], dtype=np.int64)

    def _most(self, values: Array) -> int:
        labels = values.dtype.kind == "O" or self.task in ("binary", "multiclass")
        return MOST_TEXTS if labels and self.task != "regression" else MOST_CLASSES

    @property
    def first(self) -> Array:
        """Places of the rows that `meet` told."""
        return np.array(sorted(self._first.values()), dtype=np.int64)

    def add(self, values: Array) -> None:
        """Take in the target of some training rows."""
        self.rows += len(values)
        self._dtype = values.dtype
        if values.dtype.kind != "O" or self.task == "regression":
            self.figures.add(floats(values, self.names).reshape(len(values), -1))
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

    def answers(self, standardise: bool) -> Answers:
        """The fitted target, as `maas_magics.core.data.answers.fit_answers` has it of all rows."""
        answers = fit_answers(self._few(), self.names, self.task, standardise)
        if answers.task != "regression" or not standardise:
            return answers
        center, spread, _ = self.figures.filled(np.zeros_like(self.figures.mean))
        scale = np.where(spread > 0, spread, 1.0)
        return msgspec.structs.replace(answers, center=tuple(center.tolist()), scale=tuple(scale.tolist()))

    def _few(self) -> Array:
        """Values that speak for the same task and the same labels as all do."""
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

    def counts(self, answers: Answers) -> Array:
        """Training rows of each class, int64 (classes,); none for quantities and several labels a row."""
        if answers.task not in ("binary", "multiclass"):
            return np.zeros(0, dtype=np.int64)
        labels = np.array(list(self._labels), dtype=self._dtype)
        index = answers.encode(labels).reshape(-1).astype(np.int64)
        return np.bincount(index, np.array(list(self._labels.values())), len(answers.classes)).astype(np.int64)
