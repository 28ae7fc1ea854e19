"""What columns hold, told from one reading of their rows in memory that does not grow with them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array, as_text, dates, is_length, is_moment, is_number, is_text, read_numbers
from maas_magics.core.data.columns import IDENTIFIER, NAT, Category, Column, Columns, Moment, Numeric
from maas_magics.core.data.exact import as_exact
from maas_magics.core.data.fitting import (
    category,
    fit,
    fit_arrays,
    leave_out,
    mostly_numbers,
    nothing_of_use,
    tell_mixed,
    tell_odd,
)
from maas_magics.core.data.origin import is_csv, not_infinite
from maas_magics.core.data.running import Running
from maas_magics.core.data.scaling import Layout, Scaling
from maas_magics.core.data.together import tell_fallen
from maas_magics.core.data.transform import (
    as_tensor,
    fit_scaling,
    origin_of,
    origin_tensor,
    side_by_side,
    standardised,
    standardised_pixels,
    tell_flat,
    turns,
)
from maas_magics.core.data.units import Tally
from maas_magics.core.data.zones import zone_of

MOST_TEXTS = 100_000
"""Different texts of a column that are counted; past it the rarer half of them is forgotten."""


class ColumnSurvey:
    """What one column of features is.

    Parameters
    ----------
    field : pyarrow.Field
    vectors : bool
        Whether an array in each row is taken as that many numbers, rather than handed on as it is.
    """

    def __init__(self, field: pa.Field, vectors: bool) -> None:
        self.field, self.name, self.vectors = field, field.name, vectors
        self.texts = is_text(field.type) and mostly_numbers(field)
        self.kind = pa.float64() if self.texts else field.type
        self.figures = Running()
        self._counted: Counter[str] = Counter()
        self.origin: int | None = None
        """What the days of moments are counted from, once one was there."""
        self._many = self._told = False
        self._fallen: list[str] = []
        """What is to be said of values that fall together in one reading."""
        self._nulls = self._rows = 0
        self._tally = Tally() if is_csv() and is_text(field.type) and not self.texts else None
        self._as_numbers = Running()
        self._zones: set[str | None] | None = set()
        """Time zones of the dates so far; None once a text was none."""

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""
        self._rows += len(values)
        if not self._told and (is_moment(self.kind) or is_number(self.kind) or self.vectors):
            self._told = tell_fallen(self.name, values, self._fallen.append)
        if self.texts:
            values = read_numbers(values)
        if isinstance(self.kind, pa.FixedShapeTensorType):
            if self.vectors:
                self._measure(Numeric(self.name, math.prod(self.kind.shape), exact=True), values)
            elif len(self.kind.shape) > 1:
                self._measure(Numeric(self.name, math.prod(self.kind.shape), exact=True), values, pixels=True)
        elif is_text(self.kind):
            self._read(as_text(values))
        elif is_moment(self.kind) or is_number(self.kind):
            self._nulls += values.null_count
            self._measure(Moment(self.name) if is_moment(self.kind) else Numeric(self.name), values)

    def _measure(
        self, column: Column, values: pa.ChunkedArray, pixels: bool = False, into: Running | None = None
    ) -> None:
        raw = Columns((column,)).encode(pa.table({self.name: values}))
        if isinstance(column, Moment) and self.origin is None and (raw[0] != NAT).any():
            self.origin = origin_of(raw[0])
        found = side_by_side([(column, as_tensor(raw[0]))], turns(), origin_tensor((self.origin or 0,))).numpy()
        if np.isinf(found).any():
            raise DataError(
                f"Column {self.name!r} holds infinite values.",
                not_infinite(),
            )
        (into or self.figures).add(found.reshape(-1, 1) if pixels else found)

    def _read(self, values: pa.ChunkedArray) -> None:
        self._nulls += values.null_count
        counts = pc.value_counts(values.drop_null())
        each = dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
        self._counted.update(each)
        if self._tally is not None:
            self._tally.add(each)
            if self._tally.codes:
                self._tally = None
            else:
                self._measure(Numeric(self.name), read_numbers(values), into=self._as_numbers)
        if len(self._counted) > MOST_TEXTS:
            self._many = True
            self._counted = Counter(dict(self._counted.most_common(MOST_TEXTS // 2)))
        if self._zones is not None and values.null_count < len(values):
            moments = dates(values)
            self._zones = None if moments is None else self._zones | {moments.type.tz}
            values = values if moments is None else moments
        if self._zones is not None:
            self._measure(Moment(self.name), values)

    def column(self, sample: pa.ChunkedArray, tell: Callable[[str], None], keep: bool = False) -> Column | None:
        """What the column is, as `maas_magics.core.data.columns.fit` has it; None where it is of no use.

        Parameters
        ----------
        sample : pyarrow.ChunkedArray
            Some of its values, by which one of very many texts is judged.
        tell : callable
            Gets a sentence if it is left out.
        keep : bool
            Whether numbers stay that are one only.
        """
        for text in self._fallen:
            tell(text)
        if isinstance(self.kind, pa.FixedShapeTensorType) or not self._known:
            return _alone(self.name, sample, tell, self.vectors)
        odd = self._tally.odd if self._tally is not None else None
        if odd is not None and odd.few:
            tell_odd(self.name, odd.texts, tell)
            self.figures, self.kind, self.texts = self._as_numbers, pa.float64(), True
        elif self.texts:
            tell_mixed(self.name, sample, tell)
        if self._nulls == self._rows:
            tell(f"Column {self.name!r} is empty and is left out.")
            return None
        if is_text(self.kind) and not (self._zones is not None and len(self._zones) == 1):
            return self._category(sample, tell)
        if not keep and not self.figures.missing[0] and self.figures.low[0] == self.figures.high[0]:
            to_a_model = " to a model" if self._told else ""
            tell(f"Column {self.name!r} has one value only{to_a_model} and is left out.")
            return None
        if is_number(self.kind):
            return Numeric(self.name, texts=self.texts, seconds=is_length(self.kind))
        return Moment(self.name, zone_of(self.kind) if is_moment(self.kind) else next(iter(self._zones or ())) or "")

    @property
    def _known(self) -> bool:
        return is_text(self.kind) or is_moment(self.kind) or is_number(self.kind)

    def _category(self, sample: pa.ChunkedArray, tell: Callable[[str], None]) -> Category | None:
        if self._many:
            texts = as_text(sample)
            if pc.count_distinct(texts).as_py() > IDENTIFIER * (len(texts) - texts.null_count):
                leave_out(self.name, self._counted, f"has more than {MOST_TEXTS:,} different texts", tell)
                return None
        return category(self.field, self._counted, self._nulls, tell)


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
        if self.layout == "raw":
            return fit_arrays(sample.select([survey.name for survey in self._surveys]))
        keep = self.layout == "flat"
        said: list[str] = []

        def note(text: str) -> None:
            said.append(text)
            tell(text)

        found = [(survey, survey.column(sample.column(survey.name), note, keep)) for survey in self._surveys]
        kept = tuple(
            as_exact(column, survey.kind, self.layout, survey.figures) for survey, column in found if column is not None
        )
        if not kept:
            raise nothing_of_use(said)
        return Columns(kept)

    def scaling(self, columns: Columns, sample: list[Array], scale: bool, tell: Callable[[str], None]) -> Scaling:
        """Figures of the columns; medians are those of ``sample``, raw arrays of some rows."""
        figures = {survey.name: survey.figures for survey in self._surveys}
        if self.layout == "raw":
            return Scaling()
        if self.layout == "image":
            return standardised_pixels(figures[columns.columns[0].name])
        counted = {survey.name: survey.origin or 0 for survey in self._surveys}
        origins = tuple(counted[column.name] for column in columns.of(Moment)) if scale else ()
        fill = np.array(fit_scaling(columns, self.layout, sample, False, origins).fill)
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
        scaling = standardised(columns, fill, center, spread, largest, indicators, origins)
        low, high = (np.concatenate([getattr(found, end) for found in numbers]) for end in ("low", "high"))
        tell_flat(columns, scaling, low, high, tell)
        return scaling
