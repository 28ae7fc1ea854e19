"""Values of one column as the raw array that a model's graph takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import (
    Array,
    as_text,
    dates,
    is_moment,
    is_number,
    is_text,
    numbers,
    read_numbers,
    tensors,
)
from maas_magics.core.data.kinds import NAT, Category, Column, Moment, Numeric, Tensor
from maas_magics.core.data.looks import look
from maas_magics.core.data.nested import is_listed, stacked
from maas_magics.core.data.origin import as_dates, as_numbers, spoken
from maas_magics.core.data.sources import ARRAY
from maas_magics.core.data.values import number_of

MOVED = ((2, 0, 1), (1, 2, 0), (1, 0))
"""Orders of axes that arrays often come in: channels last, channels first, and rows for columns."""


def encode(column: Column, values: pa.ChunkedArray) -> Array:
    """Raw array of a column, shape (n, …), of the type that the model's signature says.

    Raises
    ------
    DataError
        If the values are of another kind than in training.
    """
    return _ENCODERS[type(column)](column, values)


def _mismatch(name: str, found: Any, expected: str, hint: str, axes: bool = False) -> DataError:
    return DataError(f"{spoken(name, ARRAY, axes)} holds {found}; the model was trained on {expected}.", hint)


def _some(values: pa.ChunkedArray) -> list[str]:
    """Different texts among the first of a column."""
    return list(dict.fromkeys(text for text in as_text(values.slice(0, 1000)).to_pylist() if text is not None))


def _fix(name: str, texts: list[str]) -> str:
    """What to type where texts look like dates or numbers; nothing where they do not."""
    found = look(name, texts)
    return "" if found is None else found.fix


def _empty(text: pa.ChunkedArray) -> bool:
    found = as_text(text)
    return bool(found.null_count == len(found))


def _encode_numeric(column: Numeric, values: pa.ChunkedArray) -> Array:
    values = stacked(values, any_list=True) if column.width > 1 else values
    kind, name = values.type, column.name
    if isinstance(kind, pa.FixedShapeTensorType):
        if math.prod(kind.shape) != column.width:
            one = len(values) * math.prod(kind.shape) == column.width
            hint = "One row is x[None]." if one else "Give that width."
            raise _mismatch(name, f"rows of {math.prod(kind.shape)} numbers", f"rows of {column.width} numbers", hint)
        coarse = column.width > 1 and not column.exact
        return tensors(values).reshape(-1, column.width).astype(np.float32 if coarse else np.float64, copy=False)
    if is_text(kind) and (read := _read(column, values)) is not None:
        values, kind = read, read.type
    if not is_number(kind) and not pa.types.is_null(kind):
        if is_text(kind):
            odd = [text for text in _some(values) if number_of(text) is None]
            raise _mismatch(name, f"text ({(odd or [''])[0]!r})", "numbers", _fix(name, odd) or as_numbers(name))
        if column.width > 1:
            what = "lists of several lengths" if is_listed(kind) else str(kind)
            raise _mismatch(name, what, f"rows of {column.width} numbers", "Give that width.")
        raise _mismatch(name, str(kind), "numbers", as_numbers(name))
    if column.width > 1:
        raise _mismatch(name, "one number a row", f"rows of {column.width} numbers", "Give that width.")
    return numbers(values).reshape(-1, 1)


def _read(column: Numeric, values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Texts as the numbers they spell; None where one spells none, and none stood among the numbers in training."""
    found = read_numbers(values)
    return found if column.texts or found.null_count == as_text(values).null_count else None


def _encode_moment(column: Moment, values: pa.ChunkedArray) -> Array:
    kind = values.type
    if is_text(kind):
        moments = pa.nulls(len(values), pa.timestamp("us")) if _empty(values) else dates(values)
        if moments is None:
            hint = _fix(column.name, _some(values)) or as_dates(column.name)
            raise _mismatch(column.name, "text that is no date", "dates", hint)
        values = moments
    elif not is_moment(kind) and not pa.types.is_null(kind):
        raise _mismatch(column.name, str(kind), "dates", as_dates(column.name))
    fine = getattr(values.type, "unit", "s") == "ns"
    try:
        whole = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=not fine).cast(pa.int64())
    except pa.ArrowInvalid:
        raise DataError(
            f"Column {column.name!r} holds a date that is too far away for microseconds, in which dates are kept.",
            "Mark it as missing, or give numbers.",
        ) from None
    return np.asarray(pc.fill_null(whole, NAT).to_numpy(), dtype=np.int64).reshape(-1, 1)


def _encode_category(column: Category, values: pa.ChunkedArray) -> Array:
    if isinstance(values.type, pa.FixedShapeTensorType) or pa.types.is_nested(values.type):
        raise _mismatch(column.name, str(values.type), "text", "Give one text a row.")
    text = pc.fill_null(as_text(values), "")
    return np.asarray(text.to_numpy(zero_copy_only=False), dtype=object).reshape(-1, 1)


def _encode_tensor(column: Tensor, values: pa.ChunkedArray) -> Array:
    values = stacked(values, any_list=True) if column.shape else values
    kind, name = values.type, column.name
    if column.shape == () and is_number(kind):
        if values.null_count:
            raise DataError(f"Array {name!r} holds {values.null_count} missing values.", "Fill them.")
        timed = pa.types.is_duration(kind) or pa.types.is_time(kind) or pa.types.is_decimal(kind)
        found = numbers(values) if timed else np.asarray(values.to_numpy())
    elif column.shape == (1,) and is_number(kind) and not values.null_count:
        found = numbers(values) if pa.types.is_decimal(kind) else np.asarray(values.to_numpy())
        found = found.reshape(-1, 1)
    elif not isinstance(kind, pa.FixedShapeTensorType):
        raise _mismatch(name, str(kind), f"arrays of shape {column.shape}", "Give an array of that shape.")
    else:
        found = tensors(values)
        if column.shape == () and found.shape[1:] == (1,):
            found = found.reshape(-1)
    if found.shape[1:] != column.shape:
        raise _of_shape(name, found.shape, column.shape)
    wanted = np.dtype(column.dtype)
    whole = found.dtype.kind in "bui"
    if (found.dtype.kind == "f" and wanted.kind in "iu") or (
        wanted.kind == "b" and not (whole and bool(((found == 0) | (found == 1)).all()))
    ):
        raise _mismatch(
            name, str(found.dtype), column.dtype, f"Convert it: {_converted(found, column.dtype)}", found.ndim > 1
        )
    return found.astype(column.dtype, copy=False)


def _of_shape(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> DataError:
    """What is to be said of rows of another shape, and what to type where that mends it."""
    told = "(" + ", ".join(["n", *map(str, wanted)]) + ("," if not wanted else "") + ")"
    if found == wanted:
        hint = "It is one row: x[None]" if len(wanted) else "Give an array."
        return DataError(f"{spoken(name, ARRAY, axes=True)} has shape {found}; the model was trained on {told}.", hint)
    row = found[1:]
    hint = f"Give arrays of shape {told}."
    if math.prod(row) == math.prod(wanted):
        order = next((axes for axes in MOVED if sorted(axes) == [*range(len(row))] and wanted == _at(row, axes)), None)
        hint = f"Reshape it: x.reshape{told}".replace("(n", "(-1")
        if order is not None:
            hint = f"Put its axes in order: x.transpose{(0, *(axis + 1 for axis in order))}"
    return _mismatch(name, f"arrays of shape {row}", f"shape {wanted}", hint, axes=True)


def _at(row: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(row[axis] for axis in axes)


def _converted(found: Array, dtype: str) -> str:
    """What to type to have floats as whole numbers that mean the same."""
    if not np.isfinite(found).all() or np.dtype(dtype).kind == "b":
        return f".astype({dtype!r})"
    if dtype == "uint8" and found.size and found.min() >= 0 and found.max() <= 1:
        return "(255 * x).round().astype('uint8')"
    return f".astype({dtype!r})" if (found == np.floor(found)).all() else f".round().astype({dtype!r})"


_ENCODERS: dict[type[Any], Callable[[Any, pa.ChunkedArray], Array]] = {
    Numeric: _encode_numeric,
    Moment: _encode_moment,
    Category: _encode_category,
    Tensor: _encode_tensor,
}
