"""What each column of features is, fitted on the training rows and saved as JSON.

`fit` looks at an Arrow table once; `Columns.encode` turns any later table into the raw
arrays that a model's graph takes, and is all that happens to data outside the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError, did_you_mean
from maas_magics.api.signature import DATATYPES, TensorSpec

Array = np.ndarray[Any, Any]

NAT = -(2**63)
"""Microseconds that stand for a missing moment (numpy's NaT)."""

MOST_CATEGORIES = 512
RARE = 3
"""Texts in fewer rows than this count as unseen, in tables of 300 rows or more."""
IDENTIFIER = 0.5
"""A text column with more different values than this share of the rows names rows, and is left out."""


class Numeric(msgspec.Struct, frozen=True, tag="numeric"):
    """Numbers or booleans; missing values allowed. ``width`` > 1 for a vector in each row."""

    name: str
    width: int = 1


class Moment(msgspec.Struct, frozen=True, tag="moment"):
    """Dates and times, as microseconds since 1970 in UTC."""

    name: str


class Category(msgspec.Struct, frozen=True, tag="category"):
    """Text with few different values. Code 0 is missing or unseen, code ``i`` is ``values[i - 1]``."""

    name: str
    values: tuple[str, ...]


class Tensor(msgspec.Struct, frozen=True, tag="tensor"):
    """Numbers of one or more axes in each row, such as an image; ``shape`` without the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str


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
                did_you_mean(absent[0], there - {column.name for column in self.columns})
                or f"The model takes: {', '.join(column.name for column in self.columns[:12])}.",
            )
        return [_ENCODERS[type(column)](column, table.column(column.name)) for column in self.columns]


def _spec(column: Column) -> TensorSpec:
    match column:
        case Numeric(name, 1):
            return TensorSpec(name, "FP64", (-1, 1))
        case Numeric(name, width):
            return TensorSpec(name, "FP32", (-1, width))
        case Moment(name):
            return TensorSpec(name, "INT64", (-1, 1))
        case Category(name):
            return TensorSpec(name, "BYTES", (-1, 1))
        case Tensor(name, shape, dtype):
            return TensorSpec(name, DATATYPES[dtype], (-1, *shape))
    raise AssertionError(column)


# --- fitting ---


def fit(table: pa.Table, tell: Callable[[str], None], *, vectors: bool, keep: bool = False) -> Columns:
    """Kinds of the columns of a table of training rows.

    Parameters
    ----------
    table : pyarrow.Table
        Features only.
    tell : callable
        Gets a sentence about every column that is left out.
    vectors : bool
        Whether an array in each row is taken as that many numbers, rather than handed on as it is.
    keep : bool
        Whether numbers stay that are one only, as for a module, which expects so many.

    Raises
    ------
    DataError
        If no column is of use, or one holds something no model takes.
    """
    found = [column for name in table.column_names if (column := _fit(name, table.column(name), tell, vectors, keep))]
    if not found:
        raise DataError(
            "No column is of use as a feature: each is empty, constant, or names single rows.",
            "Give at least one column that varies.",
        )
    return Columns(tuple(found))


def _fit(
    name: str, values: pa.ChunkedArray, tell: Callable[[str], None], vectors: bool, keep: bool = False
) -> Column | None:
    kind = values.type
    if isinstance(kind, pa.FixedShapeTensorType):
        if vectors:
            return Numeric(name, math.prod(kind.shape))
        dtype = str(kind.value_type.to_pandas_dtype().__name__)
        return Tensor(
            name, tuple(kind.shape), {"float64": "float32", "float16": "float32", "bool": "uint8"}.get(dtype, dtype)
        )
    if is_text(kind):
        values = as_text(values)
    if len(values) == values.null_count:
        tell(f"Column {name!r} is empty and is left out.")
        return None
    if is_text(kind) and (moments := dates(values)) is not None:
        values, kind = moments, moments.type
    if is_text(kind):
        return _fit_category(name, values, tell)
    if is_moment(kind) or is_number(kind):
        if not keep and pc.count_distinct(values, mode="all").as_py() == 1:
            tell(f"Column {name!r} has one value only and is left out.")
            return None
        return Moment(name) if is_moment(kind) else Numeric(name)
    raise DataError(
        f"Column {name!r} holds {kind}, which no model here takes.",
        f"Turn it into numbers or text, or drop it: .drop(columns=[{name!r}])",
    )


def _fit_category(name: str, values: pa.ChunkedArray, tell: Callable[[str], None]) -> Category | None:
    counts = pc.value_counts(values)
    labels, numbers = counts.field("values").to_pylist(), counts.field("counts").to_pylist()
    counted = {label: number for label, number in zip(labels, numbers, strict=True) if label is not None}
    return category(name, counted, values.null_count, tell)


def category(name: str, counted: Mapping[str, int], missing: int, tell: Callable[[str], None]) -> Category | None:
    """A column of texts from how often each occurs, and how many rows have none; None where it is of no use."""
    by_count = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
    present = sum(counted.values())
    rows = present + missing
    if len(by_count) + (missing > 0) < 2:
        tell(f"Column {name!r} has one value only and is left out.")
        return None
    if len(by_count) > 20 and len(by_count) > IDENTIFIER * present:
        tell(f"Column {name!r} has {len(by_count):,} different texts in {rows:,} rows and is left out.")
        return None
    least = min(RARE, max(1, rows // 100))
    known = [label for label, number in by_count if number >= least]
    if not known:
        tell(f"Column {name!r} has no text that occurs {least} times and is left out.")
        return None
    if len(known) > MOST_CATEGORIES:
        tell(f"Column {name!r}: the {MOST_CATEGORIES:,} most frequent of {len(by_count):,} texts are told apart.")
    return Category(name, tuple(sorted(known[:MOST_CATEGORIES])))


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is text, or a dictionary (pandas' and polars' categoricals)."""
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_dictionary)
    return any(test(kind) for test in tests)


def is_number(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a number, a boolean, a length of time, or a time of day."""
    types = pa.types
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_duration, types.is_time)
    return any(test(kind) for test in tests)


def is_moment(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a date or a time stamp."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def as_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values as text. Empty text counts as missing, for a served model cannot tell the two apart."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    text = values.cast(pa.string())
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def dates(values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Texts that are all dates as ISO 8601 writes them, as moments; None where one is not, or there is none."""
    text = as_text(values)
    if text.null_count == len(text):
        return None
    for zone in (None, "UTC"):
        try:
            return text.cast(pa.timestamp("us", zone))
        except pa.ArrowInvalid:
            continue
    return None


def fit_arrays(table: pa.Table) -> Columns:
    """Columns of arrays that a module takes each as it is: none is left out, or becomes another kind.

    Raises
    ------
    DataError
        If one holds something no module takes, or lacks values.
    """
    return Columns(tuple(_fit_array(name, table.column(name)) for name in table.column_names))


def _fit_array(name: str, values: pa.ChunkedArray) -> Column:
    kind = values.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return Tensor(name, tuple(kind.shape), _dtype(kind.value_type))
    if is_text(kind):
        counted = as_text(values).unique().drop_null().to_pylist()
        return Category(name, tuple(sorted(counted)))
    if is_moment(kind):
        return Moment(name)
    if not is_number(kind):
        raise DataError(f"Column {name!r} holds {kind}, which no module takes.", "Turn it into numbers.")
    if values.null_count:
        raise DataError(
            f"Array {name!r} holds {values.null_count} missing values.", "Fill them: a module gets arrays as they are."
        )
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return Tensor(name, (), _dtype(kind) if plain else "float64")


def _dtype(kind: pa.DataType) -> str:
    return "bool" if pa.types.is_boolean(kind) else str(np.dtype(kind.to_pandas_dtype()).name)


# --- encoding ---


def numbers(values: pa.ChunkedArray) -> Array:
    """Numbers as float64, missing ones as NaN; a length of time, or a time of day, in seconds."""
    if pa.types.is_duration(values.type):
        return numbers(values.cast(pa.duration("us"), safe=False).cast(pa.int64())) / 1e6
    if pa.types.is_time(values.type):
        return numbers(values.cast(pa.time64("us"), safe=False).cast(pa.int64())) / 1e6
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def tensors(values: pa.ChunkedArray) -> Array:
    """A fixed-shape-tensor column as one array, without a copy where it is one chunk."""
    if len(values) == 0:
        return np.empty((0, *values.type.shape), dtype=values.type.value_type.to_pandas_dtype())
    whole = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
    array = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    if pa.types.is_boolean(values.type.value_type):  # Arrow has bits of them, numpy bytes
        return np.asarray(array.storage.flatten().to_numpy(zero_copy_only=False)).reshape(-1, *values.type.shape)
    return np.asarray(array.to_numpy_ndarray())


def _mismatch(name: str, found: Any, expected: str, hint: str) -> DataError:
    return DataError(f"Column {name!r} holds {found}; the model was trained on {expected}.", hint)


def _empty(text: pa.ChunkedArray) -> bool:
    found = as_text(text)
    return bool(found.null_count == len(found))


def _encode_numeric(column: Numeric, values: pa.ChunkedArray) -> Array:
    kind, name = values.type, column.name
    if isinstance(kind, pa.FixedShapeTensorType):
        if math.prod(kind.shape) != column.width:
            raise _mismatch(
                name, f"rows of {math.prod(kind.shape)} numbers", f"rows of {column.width} numbers", "Give that width."
            )
        return (
            tensors(values).reshape(-1, column.width).astype(np.float32 if column.width > 1 else np.float64, copy=False)
        )
    if not is_number(kind) and not pa.types.is_null(kind):
        hint = f"Convert it: df[{name!r}] = pd.to_numeric(df[{name!r}])"
        if is_text(kind):
            example = next((text for text in as_text(values.slice(0, 1000)).to_pylist() if text is not None), "")
            raise _mismatch(name, f"text ({example!r})", "numbers", hint)
        raise _mismatch(name, str(kind), "numbers", hint)
    if column.width > 1:
        raise _mismatch(name, "one number a row", f"rows of {column.width} numbers", "Give that width.")
    return numbers(values).reshape(-1, 1)


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
    whole = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False).cast(pa.int64())
    return np.asarray(pc.fill_null(whole, NAT).to_numpy(), dtype=np.int64).reshape(-1, 1)


def _encode_category(column: Category, values: pa.ChunkedArray) -> Array:
    if isinstance(values.type, pa.FixedShapeTensorType) or pa.types.is_nested(values.type):
        raise _mismatch(column.name, str(values.type), "text", "Give one text a row.")
    text = pc.fill_null(as_text(values), "")
    return np.asarray(text.to_numpy(zero_copy_only=False), dtype=object).reshape(-1, 1)


def _encode_tensor(column: Tensor, values: pa.ChunkedArray) -> Array:
    kind, name = values.type, column.name
    if column.shape == () and is_number(kind):
        if values.null_count:
            raise DataError(f"Array {name!r} holds {values.null_count} missing values.", "Fill them.")
        timed = pa.types.is_duration(kind) or pa.types.is_time(kind) or pa.types.is_decimal(kind)
        found = numbers(values) if timed else np.asarray(values.to_numpy())
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
    found = pc.index_in(pa.array(text.ravel(), pa.string()), pa.array(column.values, pa.string()))
    return np.asarray(pc.add(pc.fill_null(found, -1), 1).to_numpy(), dtype=np.int64).reshape(-1, 1)
