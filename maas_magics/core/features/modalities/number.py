"""Numbers and booleans, one or several in each row."""

from __future__ import annotations

import math
from typing import ClassVar, Self

import msgspec
import numpy as np
import pyarrow as pa

from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array, as_text, is_length, is_number, is_text, numbers, read_numbers, tensors
from maas_magics.core.data.nested import is_listed, stacked
from maas_magics.core.data.origin import as_numbers
from maas_magics.core.data.running import RunningStatistics
from maas_magics.core.data.together import tell_fallen
from maas_magics.core.data.values import number_of
from maas_magics.core.features.base import NumberLike
from maas_magics.core.features.coarse import is_coarse, may_be_coarse
from maas_magics.core.features.fitting import FitConfig, Tell
from maas_magics.core.features.mismatch import fix, infinite, mismatch, texts_of
from maas_magics.core.features.modalities import Modality, modalities
from maas_magics.core.features.notes import mostly_numbers, tell_mixed
from maas_magics.core.features.scaling import fitted, tell_flat

AT_ONCE = 2**22
"""Numbers taken into the statistics at a time, as float64."""


class Number(NumberLike, frozen=True, kw_only=True, tag="number"):
    """Numbers or booleans; missing values allowed.

    ``width`` > 1 for a vector in each row, which is ``exact`` where float32 is too coarse for it. With ``texts``, texts
    stood among the numbers in training; one that spells no number counts as missing. With ``seconds``, they are lengths
    of time, or times of day.
    """

    width: int = 1
    texts: bool = False
    precise: bool = False
    seconds: bool = False

    gaps: ClassVar[bool] = True

    @property
    def exact(self) -> bool:
        """Whether float32 is too coarse for its numbers: for one a row, which may be anything, always."""
        return self.precise or self.width == 1

    @property
    def spec(self) -> TensorSpec:
        """(n, width), of float64 where it is exact."""
        meaning = ("seconds; " if self.seconds else "") + "missing: NaN"
        return TensorSpec(self.name, "FP64" if self.exact else "FP32", (-1, self.width), meaning)

    @property
    def names(self) -> list[str]:
        """The column's own, with a place where there are several."""
        return [self.name] if self.width == 1 else [f"{self.name}[{i}]" for i in range(self.width)]

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Floats (n, width), NaN for what is missing."""
        name = self.name
        values = stacked(values, any_list=True) if self.width > 1 else values
        kind = values.type
        if isinstance(kind, pa.FixedShapeTensorType):
            if math.prod(kind.shape) != self.width:
                one = len(values) * math.prod(kind.shape) == self.width
                hint = "One row is x[None]." if one else "Give that width."
                raise mismatch(name, f"rows of {math.prod(kind.shape)} numbers", f"rows of {self.width} numbers", hint)
            dtype = np.float64 if self.exact else np.float32
            return tensors(values).reshape(-1, self.width).astype(dtype, copy=False)
        if is_listed(kind) and values.null_count == len(values):
            values = pa.chunked_array([pa.nulls(len(values))])
            kind = values.type
        if is_text(kind) and (read := self._read(values)) is not None:
            values, kind = read, read.type
        if not is_number(kind) and not pa.types.is_null(kind):
            if is_text(kind):
                odd = [text for text in texts_of(values) if number_of(text) is None]
                raise mismatch(name, f"text ({(odd or [''])[0]!r})", "numbers", fix(name, odd) or as_numbers(name))
            if self.width > 1:
                what = "lists of several lengths" if is_listed(kind) else str(kind)
                raise mismatch(name, what, f"rows of {self.width} numbers", "Give that width.")
            raise mismatch(name, str(kind), "numbers", as_numbers(name))
        if self.width > 1 and values.null_count == len(values):
            return np.full((len(values), self.width), np.nan, dtype=np.float64 if self.exact else np.float32)
        if self.width > 1:
            raise mismatch(name, "one number a row", f"rows of {self.width} numbers", "Give that width.")
        return numbers(values).reshape(-1, 1)

    def _read(self, values: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """Texts as the numbers they spell; None where one spells none, and none stood among those in training."""
        found = read_numbers(values)
        return found if self.texts or found.null_count == as_text(values).null_count else None

    def blank(self, raw: Array) -> Array:
        """Rows without a number, bool (n,)."""
        return np.asarray(~np.isfinite(raw).any(axis=1))

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Numbers about as those in training."""
        scale = np.array(self.scaling.scale or (1.0,))
        values = random.normal(size=(rows, self.width)) / np.where(scale == 0, 1.0, scale)
        values = values + np.array(self.scaling.center or (0.0,))
        return np.asarray(values, dtype=np.float64 if self.exact else np.float32)


def measure(name: str, values: Array, into: RunningStatistics) -> None:
    """Add numbers (n, p) to running statistics; raise `DataError` for infinite ones, which no network learns from."""
    step = max(1, AT_ONCE // max(1, values.shape[1]))
    for start in range(0, max(len(values), 1), step):
        part = values[start : start + step].astype(np.float64, copy=False)
        if np.isinf(part).any():
            raise infinite(name, values)
        into.add(part)


class NumberProfile:
    """Fits `Number` to a column of numbers, of texts most of which are, or of arrays whose numbers stand side by side.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        What it is fitted for.
    """

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        self.name, self.kind, self.fit = field.name, field.type, fit
        array = isinstance(field.type, pa.FixedShapeTensorType)
        self.width = math.prod(field.type.shape) if array else 1
        self.texts = is_text(field.type)
        self.figures = RunningStatistics()
        self._array, self._told = array, False
        self._fallen: list[str] = []

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """Numbers, and arrays of them, where they are laid side by side."""
        if not fit.joined:
            return False
        kind = field.type
        return isinstance(kind, pa.FixedShapeTensorType) or is_number(kind) or (is_text(kind) and mostly_numbers(field))

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""
        if not self._told and not self.texts:
            self._told = tell_fallen(self.name, values, self._fallen.append)
        plain = Number(self.name, width=self.width, texts=self.texts, precise=True)
        measure(self.name, plain.encode(values), self.figures)

    def merge(self, other: Self) -> None:
        """Take in what was found in other rows."""
        self.figures.merge(other.figures)
        if not self._told:
            self._told, self._fallen = other._told, other._fallen

    def finish(self, sample: pa.ChunkedArray, notify: Tell, told: bool = False) -> Number | None:
        """What the column is; ``told`` where texts among its numbers were reported already."""
        for text in self._fallen:
            notify(text)
        found = self.figures
        if not self._array:
            if not found.count.any():
                notify(f"Column {self.name!r} is empty and is left out.")
                return None
            if self.texts and not told:
                tell_mixed(self.name, sample, notify)
            if not self.fit.keep and not found.missing[0] and found.low[0] == found.high[0]:
                to_a_model = " to a model" if self._told else ""
                notify(f"Column {self.name!r} has one value only{to_a_model} and is left out.")
                return None
        precise = self._array and may_be_coarse(self.kind) and is_coarse(found, self.kind)
        plain = Number(self.name, width=self.width, texts=self.texts, precise=precise, seconds=is_length(self.kind))
        scaling = fitted(found, plain.encode(sample), self.fit.scale)
        if self.fit.scale:
            tell_flat(self.name, scaling, found, notify)
        return msgspec.structs.replace(plain, scaling=scaling)


modalities.register("number")(Modality(Number, NumberProfile))
