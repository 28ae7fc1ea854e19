"""What each column of features is, fitted on the training rows and saved as JSON.

`maas_magics.core.data.fitting.fit` looks at an Arrow table once; `Columns.encode` turns any later table into the raw
arrays that a model's graph takes, and is all that happens to data outside the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError, did_you_mean
from maas_magics.api.signature import DATATYPES, TensorSpec
from maas_magics.core.data.arrow import (
    as_text,
    dates,
    is_moment,
    is_number,
    is_text,
    numbers,
    read_numbers,
    tensors,
)
from maas_magics.core.data.sources import ARRAY
from maas_magics.core.data.values import number_of

Array = np.ndarray[Any, Any]

NAT = -(2**63)
"""Microseconds that stand for a missing moment (numpy's NaT)."""

MOST_CATEGORIES = 512
RARE = 3
"""Texts in fewer rows than this count as unseen, in tables of 300 rows or more."""
IDENTIFIER = 0.5
"""A text column with more different values than this share of the rows names rows, and is left out."""


class Numeric(msgspec.Struct, frozen=True, tag="numeric"):
    """Numbers or booleans; missing values allowed.

    ``width`` > 1 for a vector in each row, which is ``exact`` where float32 is too coarse for it. With ``texts``, texts
    stood among the numbers in training; one that spells no number counts as missing.
    """

    name: str
    width: int = 1
    texts: bool = False
    exact: bool = False


class Moment(msgspec.Struct, frozen=True, tag="moment"):
    """Dates and times, as microseconds since 1970 in UTC."""

    name: str


class Category(msgspec.Struct, frozen=True, tag="category"):
    """Text with few different values. Code 0 is missing or unseen, code ``i`` is ``values[i - 1]``.

    One rule holds for a text and the value it is, in a table, a CSV or JSON file, a cell, a service's tensor and an
    exported graph: a text is itself, letter for letter, spaces, ``NA``, ``null``, ``true``, ``007`` and ``1e3``
    included; the empty one alone is missing. What is no text is spelled as `maas_magics.core.data.values.text_of` has
    it. Where values were not texts (``spelled``), their other usual spellings mean them as well: ``1.0`` and ``True``.
    """

    name: str
    values: tuple[str, ...]
    spelled: bool = False

    @property
    def spellings(self) -> tuple[tuple[str, int], ...]:
        """Every text that means one of the values, with its code; the values themselves come first."""
        known = {value: code for code, value in enumerate(self.values, start=1)}
        others = ((other, code) for value, code in known.items() for other in _others(value)) if self.spelled else ()
        return tuple(known.items()) + tuple({other: code for other, code in others if other not in known}.items())


class Tensor(msgspec.Struct, frozen=True, tag="tensor"):
    """Numbers of one or more axes in each row, such as an image; ``shape`` without the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


def _others(value: str) -> tuple[str, ...]:
    """How Python and spreadsheets spell what is no text."""
    if value in ("true", "false"):
        return value.capitalize(), value.upper()
    number = number_of(value)
    if number is None or not math.isfinite(number):
        return ()
    return (repr(number),) if number != int(number) or abs(number) >= 1e16 else (f"{number:.1f}", str(int(number)))


Column = Numeric | Moment | Category | Tensor


class Columns(msgspec.Struct, frozen=True):
    """The columns a model takes, in order."""

    columns: tuple[Column, ...]

    def of(self, kind: type[Any]) -> list[Any]:
        """Columns of one kind, in order."""
        return [column for column in self.columns if isinstance(column, kind)]

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Raw inputs of a model with these columns."""
        return tuple(_spec(column) for column in self.columns)

    def encode(self, table: pa.Table) -> list[Array]:
        """Raw arrays of a table, in the order and with the types of `specs`.

        Raises
        ------
        DataError
            If a column is missing or holds another kind of value than in training.
        """
        there = set(table.column_names)
        absent = [column.name for column in self.columns if column.name not in there]
        if absent:
            shown = ", ".join(map(repr, absent[:5])) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
            raise DataError(
                f"The data lacks {'column' if len(absent) == 1 else 'columns'} {shown}.",
                self._instead(absent[0], table.column_names),
            )
        return [_ENCODERS[type(column)](column, table.column(column.name)) for column in self.columns]

    def _instead(self, absent: str, there: Sequence[str]) -> str:
        """What to type in place of a column that the data lacks: a near name, else what there is."""
        takes = [column.name for column in self.columns]
        near = did_you_mean(absent, set(there) - set(takes))
        if near.startswith("Did you mean"):
            return near
        if set(there) <= {*takes, ARRAY}:
            return f"The model takes: {_listed(takes)}."
        return f"There is: {_listed(there)}."

    @property
    def texts(self) -> list[str]:
        """Names of the columns of text."""
        return [column.name for column in self.columns if isinstance(column, Category)]

    def blank(self, raw: Sequence[Array]) -> Array:
        """Rows of raw arrays none of whose values tells anything: each is missing, or a text that is unknown.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        found = np.ones(len(raw[0]), dtype=bool)
        pairs = zip(self.columns, raw, strict=True)
        for column, values in sorted(pairs, key=lambda pair: isinstance(pair[0], Category)):  # the costly ones last
            match column:
                case Numeric():
                    found &= ~np.isfinite(values).any(axis=1)
                case Moment():
                    found &= values[:, 0] == NAT
                case Category():
                    found[found] = codes(column, values[found])[:, 0] == 0
                case Tensor():
                    found[:] = False
            if not found.any():
                break
        return found


def _spec(column: Column) -> TensorSpec:
    match column:
        case Numeric(name, 1):
            return TensorSpec(name, "FP64", (-1, 1))
        case Numeric(name, width, exact=exact):
            return TensorSpec(name, "FP64" if exact else "FP32", (-1, width))
        case Moment(name):
            return TensorSpec(name, "INT64", (-1, 1))
        case Category(name):
            return TensorSpec(name, "BYTES", (-1, 1))
        case Tensor(name, shape, dtype):
            return TensorSpec(name, DATATYPES[dtype], (-1, *shape))
    raise AssertionError(column)


def _mismatch(name: str, found: Any, expected: str, hint: str) -> DataError:
    return DataError(f"Column {name!r} holds {found}; the model was trained on {expected}.", hint)


def _empty(text: pa.ChunkedArray) -> bool:
    found = as_text(text)
    return bool(found.null_count == len(found))


def _unlisted(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of numbers, as JSON has them, as arrays of one shape; what is no such lists as it is."""
    if not (pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type)) or values.null_count:
        return values
    try:
        found = np.asarray(values.to_pylist())
    except ValueError:
        return values
    plain = found.dtype.kind in "iuf" and found.size
    return pa.chunked_array([pa.FixedShapeTensorArray.from_numpy_ndarray(found)]) if plain else values


def _encode_numeric(column: Numeric, values: pa.ChunkedArray) -> Array:
    values = _unlisted(values) if column.width > 1 else values
    kind, name = values.type, column.name
    if isinstance(kind, pa.FixedShapeTensorType):
        if math.prod(kind.shape) != column.width:
            raise _mismatch(
                name, f"rows of {math.prod(kind.shape)} numbers", f"rows of {column.width} numbers", "Give that width."
            )
        coarse = column.width > 1 and not column.exact
        return tensors(values).reshape(-1, column.width).astype(np.float32 if coarse else np.float64, copy=False)
    if is_text(kind) and (read := _read(column, values)) is not None:
        values, kind = read, read.type
    if not is_number(kind) and not pa.types.is_null(kind):
        hint = f"Convert it: df[{name!r}] = pd.to_numeric(df[{name!r}])"
        if is_text(kind):
            some = as_text(values.slice(0, 1000)).to_pylist()
            example = next((text for text in some if text is not None and number_of(text) is None), "")
            raise _mismatch(name, f"text ({example!r})", "numbers", hint)
        raise _mismatch(name, str(kind), "numbers", hint)
    if column.width > 1:
        raise _mismatch(name, "one number a row", f"rows of {column.width} numbers", "Give that width.")
    return numbers(values).reshape(-1, 1)


def _read(column: Numeric, values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Texts as the numbers they spell; None where one spells none, and none stood among the numbers in training."""
    found = read_numbers(values)
    return found if column.texts or found.null_count == as_text(values).null_count else None


def _encode_moment(column: Moment, values: pa.ChunkedArray) -> Array:
    kind = values.type
    hint = f"Convert it: df[{column.name!r}] = pd.to_datetime(df[{column.name!r}])"
    if is_text(kind):
        moments = pa.nulls(len(values), pa.timestamp("us")) if _empty(values) else dates(values)
        if moments is None:
            raise _mismatch(column.name, "text that is no date", "dates", hint)
        values = moments
    elif not is_moment(kind) and not pa.types.is_null(kind):
        raise _mismatch(column.name, str(kind), "dates", hint)
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
    values = _unlisted(values) if column.shape else values
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
        raise _mismatch(name, f"arrays of shape {found.shape[1:]}", f"shape {column.shape}", "Reshape it: .reshape(…)")
    wanted = np.dtype(column.dtype)
    whole = found.dtype.kind in "bui"
    if (found.dtype.kind == "f" and wanted.kind in "iu") or (
        wanted.kind == "b" and not (whole and bool(((found == 0) | (found == 1)).all()))
    ):
        raise _mismatch(name, str(found.dtype), column.dtype, f"Convert it: .astype({column.dtype!r})")
    return found.astype(column.dtype, copy=False)


_ENCODERS: dict[type[Any], Callable[[Any, pa.ChunkedArray], Array]] = {
    Numeric: _encode_numeric,
    Moment: _encode_moment,
    Category: _encode_category,
    Tensor: _encode_tensor,
}


def codes(column: Category, text: Array) -> Array:
    """Category codes of raw text: what the exported graph's label encoder computes.

    Parameters
    ----------
    column : Category
    text : ndarray of object, shape (n, 1)

    Returns
    -------
    ndarray of int64, shape (n, 1)
    """
    spellings = column.spellings
    place = pc.index_in(pa.array(text.ravel(), pa.string()), pa.array([word for word, _ in spellings], pa.string()))
    code = np.array([0, *(number for _, number in spellings)], dtype=np.int64)
    return np.asarray(code[np.asarray(pc.fill_null(place, -1).to_numpy()) + 1]).reshape(-1, 1)
