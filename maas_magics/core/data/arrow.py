"""Arrow columns: what kind of values they hold, and those values as text, moments, and arrays of numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.core.data.values import PARTS, number_of, text_of

Array = np.ndarray[Any, Any]


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is text, or a dictionary (pandas' and polars' categoricals)."""
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_dictionary)
    return any(test(kind) for test in tests)


def is_number(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a number, a boolean, a length of time, or a time of day."""
    types = pa.types
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_duration, types.is_time)
    return any(test(kind) for test in tests)


def is_length(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a length of time, or a time of day: numbers of seconds to a model."""
    return bool(pa.types.is_duration(kind) or pa.types.is_time(kind))


def is_moment(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a date or a time stamp."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def as_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values as text. Empty text counts as missing, for a served model cannot distinguish the two."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    text = text_of(values)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def dates(values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Texts that are all dates as ISO 8601 writes them, as moments; None where one is not, or there is none."""
    text = as_text(values)
    if text.null_count == len(text):
        return None
    for unit, zone in (("us", None), ("us", "UTC"), ("ns", None), ("ns", "UTC")):
        try:
            return text.cast(pa.timestamp(unit, zone))
        except pa.ArrowInvalid:
            continue
    return None


def read_numbers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers that texts spell; nothing for a text that spells none."""
    whole = as_text(values).combine_chunks().dictionary_encode()
    whole = whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
    words = [None if word is None else number_of(word) for word in whole.dictionary.to_pylist()]
    return pa.chunked_array([pc.take(pa.array(words, pa.float64()), whole.indices)])


def numbers(values: pa.ChunkedArray) -> Array:
    """Numbers as float64, missing ones as NaN; a length of time, or a time of day, in seconds."""
    if pa.types.is_duration(values.type):
        return numbers(values.cast(pa.int64())) / PARTS[values.type.unit]
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
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    inner = whole.storage.flatten() if not whole.null_count else None
    if inner is None or inner.null_count:
        return _with_gaps(whole)
    if pa.types.is_boolean(values.type.value_type):  # Arrow has bits of them, numpy bytes
        return np.asarray(inner.to_numpy(zero_copy_only=False)).reshape(-1, *values.type.shape)
    return np.asarray(whole.to_numpy_ndarray())


def _with_gaps(whole: pa.FixedShapeTensorArray) -> Array:
    """Numbers of a fixed-shape-tensor column some of which are missing, as floats with NaN for those."""
    shape, size = tuple(whole.type.shape), math.prod(whole.type.shape)
    dtype = np.dtype(whole.type.value_type.to_pandas_dtype())
    found = np.full((len(whole), size), np.nan, dtype=dtype if dtype.kind == "f" else np.float64)
    there = np.flatnonzero(np.asarray(whole.is_valid()))
    inner = whole.storage.flatten()  # of the rows that are there
    inner = inner.cast(pa.uint8() if pa.types.is_boolean(inner.type) else pa.float64(), safe=False)
    inner = inner.cast(pa.float64())
    found[there] = inner.to_numpy(zero_copy_only=False).reshape(len(there), size)
    return found.reshape(len(whole), *shape)
