"""Arrays that are handed on as they are, or as one picture that is standardised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.api.signature import DATATYPES, TensorSpec
from maas_magics.core.data.arrow import Array, is_number, numbers, tensors
from maas_magics.core.data.nested import stacked
from maas_magics.core.data.origin import spoken
from maas_magics.core.data.running import RunningStatistics
from maas_magics.core.data.sources import ARRAY
from maas_magics.core.features.base import Feature
from maas_magics.core.features.coarse import is_coarse, may_be_coarse
from maas_magics.core.features.fitting import FitConfig, Tell
from maas_magics.core.features.mismatch import check_range, mismatch
from maas_magics.core.features.modalities import Modality, modalities
from maas_magics.core.features.modalities.number import AT_ONCE, measure
from maas_magics.core.features.pictures import AUGMENTS, channels_last
from maas_magics.core.features.scaling import Scaling
from maas_magics.core.features.thumbnails import of_array

if TYPE_CHECKING:
    from torch import Tensor, nn

    from maas_magics.core.features.draw import Draw

MOVED = ((2, 0, 1), (1, 2, 0), (1, 0))
"""Orders of axes that arrays often come in: channels last, channels first, and rows for columns."""

SHORT = ("float16", "float32", "uint8", "int8", "uint16", "int16", "bool")
"""Types of arrays whose numbers float32 holds."""


class TensorFeature(Feature, frozen=True, kw_only=True, tag="tensor"):
    """Numbers of one or more axes in each row, such as an image.

    Attributes
    ----------
    row : tuple of int
        Shape without the batch; its first axis is −1 where it may have any length.
    dtype : str
    scaling : Scaling, optional
        One center and one scale for all numbers, where the network gets them standardised, as float32.
    usual : int
        Length that an open axis had in training.
    ids : int
        Rows of the table that a module looks them up in; 0 where it does not.
    """

    row: tuple[int, ...]
    dtype: str
    scaling: Scaling | None = None
    usual: int = 0
    ids: int = 0

    @property
    def spec(self) -> TensorSpec:
        """(n, …), of its own type."""
        return TensorSpec(self.name, DATATYPES[self.dtype], (-1, *self.row))

    @property
    def table_rows(self) -> int:
        """As it was found."""
        return self.ids

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Array (n, …) of its own type."""
        name = self.name
        values = stacked(values, any_list=True) if self.row else values
        kind = values.type
        if self.row == () and is_number(kind):
            if values.null_count:
                raise DataError(f"Array {name!r} holds {values.null_count} missing values.", "Fill them.")
            timed = pa.types.is_duration(kind) or pa.types.is_time(kind) or pa.types.is_decimal(kind)
            found = numbers(values) if timed else np.asarray(values.to_numpy())
        elif self.row == (1,) and is_number(kind) and not values.null_count:
            found = numbers(values) if pa.types.is_decimal(kind) else np.asarray(values.to_numpy())
            found = found.reshape(-1, 1)
        elif not isinstance(kind, pa.FixedShapeTensorType):
            raise mismatch(name, str(kind), f"arrays of shape {self.row}", "Give an array of that shape.")
        else:
            found = tensors(values)
            if self.row == () and found.shape[1:] == (1,):
                found = found.reshape(-1)
        if found.ndim != len(self.row) + 1 or any(
            size not in (-1, given) for size, given in zip(self.row, found.shape[1:], strict=True)
        ):
            raise _of_shape(name, found.shape, self.row)
        wanted = np.dtype(self.dtype)
        whole = found.dtype.kind in "bui"
        if (found.dtype.kind == "f" and wanted.kind in "iu") or (
            wanted.kind == "b" and not (whole and bool(((found == 0) | (found == 1)).all()))
        ):
            hint = f"Convert it: {_converted(found, self.dtype)}"
            raise mismatch(name, str(found.dtype), self.dtype, hint, found.ndim > 1)
        check_range(name, found, self.dtype)
        return found.astype(self.dtype, copy=False)

    @property
    def example_row(self) -> tuple[int, ...]:
        """As the rows in training."""
        return tuple(self.usual if size < 0 else size for size in self.row)

    def length(self, sure: bool = True) -> int:
        """That of rows of several axes, and of whole numbers, such as token ids."""
        if not self.row or self.row[0] < 2 or self.scaling is not None:
            return 0
        return self.row[0] if not sure or len(self.row) > 1 or not self.dtype.startswith("float") else 0

    def opened(self) -> TensorFeature:
        """The same with rows of any length."""
        return msgspec.structs.replace(self, row=(-1, *self.row[1:]), usual=self.row[0])

    def check(self, raw: Array) -> None:
        """Raise `DataError` for infinite and missing numbers."""
        super().check(raw)
        if raw.dtype.kind == "f" and np.isnan(raw).any():
            raise DataError(
                f"Array {self.name!r} holds {int(np.isnan(raw).sum())} missing values (NaN).",
                "Fill them: np.nan_to_num(…), or give rows of numbers to --model tabm, which fills them itself.",
            )

    def module(self) -> nn.Module | None:
        """Standardises pixels, if it does."""
        if self.scaling is None:
            return None
        from maas_magics.core.features.pixels import Pixels

        return Pixels(self.scaling.center, self.scaling.scale, double=self.dtype not in SHORT)

    @property
    def augments(self) -> tuple[str, ...]:
        """Those of pictures, where it is one that is standardised."""
        return AUGMENTS if self.scaling is not None else ()

    def varied(self, entered: Tensor, how: Mapping[str, float], draw: Draw) -> Tensor:
        """Pictures, varied, in the order of axes that they came in."""
        from maas_magics.core.features.augment_pictures import varied

        if len(self.row) == 2:
            return varied(entered.unsqueeze(1), how, draw).squeeze(1)
        if channels_last(self.row):
            return varied(entered.permute(0, 3, 1, 2), how, draw).permute(0, 2, 3, 1)
        return varied(entered, how, draw)

    def having(self, dtype: str, line: bool) -> TensorFeature:
        """The same with floats of another type, and with one number a row as (n,)."""
        kind = dtype if dtype and self.dtype.startswith("float") else self.dtype
        return msgspec.structs.replace(self, row=() if line else self.row, dtype=kind)

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Numbers about as those in training; zeros and ones where they are whole."""
        shape = (rows, *self.example_row)
        if not self.dtype.startswith("float"):
            return random.integers(0, 2, shape).astype(self.dtype)
        values = random.normal(size=shape)
        if self.scaling is not None:
            values = values / (self.scaling.scale[0] or 1.0) + self.scaling.center[0]
        return values.astype(self.dtype)


def _of_shape(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> DataError:
    """The error for rows of another shape, with what to type where that mends it."""
    told = (
        "("
        + ", ".join(["n", *("any" if size < 0 else str(size) for size in wanted)])
        + ("," if not wanted else "")
        + ")"
    )
    if found == wanted:
        hint = "It is one row: x[None]" if len(wanted) else "Give an array."
        return DataError(f"{spoken(name, ARRAY, axes=True)} has shape {found}; the model was trained on {told}.", hint)
    row = found[1:]
    hint = f"Give arrays of shape {told}."
    if -1 not in wanted and math.prod(row) == math.prod(wanted):
        order = next((axes for axes in MOVED if sorted(axes) == [*range(len(row))] and wanted == _at(row, axes)), None)
        hint = f"Reshape it: x.reshape{told}".replace("(n", "(-1")
        if order is not None:
            hint = f"Put its axes in order: x.transpose{(0, *(axis + 1 for axis in order))}"
    return mismatch(name, f"arrays of shape {row}", f"shape {wanted}", hint, axes=True)


def _at(row: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(row[axis] for axis in axes)


def _converted(found: Array, dtype: str) -> str:
    """What to type to have floats as whole numbers that mean the same."""
    if not np.isfinite(found).all() or np.dtype(dtype).kind == "b":
        return f".astype({dtype!r})"
    if dtype == "uint8" and found.size and found.min() >= 0 and found.max() <= 1:
        return "(255 * x).round().astype('uint8')"
    return f".astype({dtype!r})" if (found == np.floor(found)).all() else f".round().astype({dtype!r})"


class TensorProfile:
    """Fits `TensorFeature` to a column of arrays, or of numbers that a module takes as an array of its own.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        What it is fitted for.
    """

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        self.name, self.kind, self.fit = field.name, field.type, fit
        self.array = isinstance(field.type, pa.FixedShapeTensorType)
        self.pixels = RunningStatistics()
        self._missing = 0

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """Arrays and numbers that are not laid side by side."""
        return not fit.joined and (isinstance(field.type, pa.FixedShapeTensorType) or is_number(field.type))

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""
        if not self.array:
            self._missing += values.null_count
        elif self.fit.layout == "image":
            rows = tensors(values)
            step = max(1, AT_ONCE // max(1, math.prod(self.kind.shape)))
            for start in range(0, max(len(rows), 1), step):
                measure(self.name, rows[start : start + step].reshape(-1, 1), self.pixels)

    def merge(self, other: Self) -> None:
        """Take in what was found in other rows."""
        self.pixels.merge(other.pixels)
        self._missing += other._missing

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> TensorFeature:
        """What the column is."""
        if self._missing:
            raise DataError(
                f"Array {self.name!r} holds {self._missing} missing values.",
                "Fill them: a module gets arrays as they are.",
            )
        if not self.array:
            types = pa.types
            plain = types.is_integer(self.kind) or types.is_floating(self.kind) or types.is_boolean(self.kind)
            return TensorFeature(self.name, row=(), dtype=_dtype(self.kind) if plain else "float64")
        row, dtype = tuple(self.kind.shape), _dtype(self.kind.value_type)
        if self.fit.layout != "image":
            return TensorFeature(self.name, row=row, dtype=dtype)
        dtype = {"float64": "float32", "float16": "float32", "bool": "uint8"}.get(dtype, dtype)
        if (
            pa.types.is_floating(self.kind.value_type)
            and may_be_coarse(self.kind)
            and is_coarse(self.pixels, self.kind)
        ):
            dtype = "float64"  # whole numbers go into the graph as they are, and become float64 there
        spread = float(self.pixels.spread[0])
        scaling = Scaling(center=(float(self.pixels.mean[0]),), scale=(1 / spread if spread else 0.0,))
        return TensorFeature(self.name, row=row, dtype=dtype, scaling=scaling)


def _dtype(kind: Any) -> str:
    return "bool" if pa.types.is_boolean(kind) else str(np.dtype(kind.to_pandas_dtype()).name)


modalities.register("tensor")(Modality(TensorFeature, TensorProfile, show=of_array))
