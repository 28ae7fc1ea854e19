"""Different values that fall together in the numbers that a model takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.core.data.arrow import Array, numbers, tensors
from maas_magics.core.data.origin import nearer

WHOLE = 2**53
"""Whole numbers up to this are floats of 64 bits; of larger ones only some."""


def fallen(values: pa.ChunkedArray) -> tuple[Any, Any] | None:
    """Two different values of a column that are the same number, or moment, to a model; None where there are none."""
    kind = values.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return _of_arrays(values) if pa.types.is_integer(kind.value_type) and kind.value_type.bit_width == 64 else None
    if (pa.types.is_timestamp(kind) and kind.unit == "ns") or pa.types.is_decimal(kind):
        return _alike(values)
    if (pa.types.is_integer(kind) and kind.bit_width == 64) or pa.types.is_duration(kind):
        whole = values.cast(pa.int64()) if pa.types.is_duration(kind) else values
        ends = pc.min_max(whole)
        low, high = ends["min"].as_py(), ends["max"].as_py()
        return _alike(values) if low is not None and max(-low, high) > WHOLE else None
    return None


def _made(values: Any) -> Array:
    """What a model takes of numbers, or of moments to the nanosecond."""
    if pa.types.is_timestamp(values.type):
        return np.asarray(values.cast(pa.int64()).to_numpy()) // 1000
    return numbers(values)


def _alike(values: pa.ChunkedArray) -> tuple[Any, Any] | None:
    each = pc.unique(values).drop_null()
    each = each.take(pc.sort_indices(each))
    same = np.flatnonzero(np.diff(_made(each)) == 0)
    return None if not len(same) else (str(each[int(same[0])]), str(each[int(same[0]) + 1]))


def _of_arrays(values: pa.ChunkedArray) -> tuple[Any, Any] | None:
    rows = tensors(values)
    if rows.dtype.kind not in "iu" or not rows.size:  # with gaps, which are floats
        return None
    flat = rows.reshape(len(rows), -1)
    for at in np.flatnonzero((flat.max(axis=0) > WHOLE) | (flat.min(axis=0) < -WHOLE)):
        each = np.unique(flat[:, at])
        same = np.flatnonzero(np.diff(each.astype(np.float64)) == 0)
        if len(same):
            return each[same[0]], each[same[0] + 1]
    return None


def is_one(values: pa.ChunkedArray) -> bool:
    """Whether all values of a column are there, and are one to a model."""
    found = _made(values)
    return values.null_count == 0 and bool(found.min() == found.max())


def tell_fallen(name: str, values: pa.ChunkedArray, notify: Callable[[str], None]) -> bool:
    """Add a note on the values of a column that a model cannot distinguish; whether there were any."""
    pair = fallen(values)
    if pair is None:
        return False
    if pa.types.is_timestamp(values.type):
        notify(
            f"Column {name!r} holds different times that are one to a model, which distinguishes microseconds: "
            f"{pair[0]} and {pair[1]}. Give what is finer as a number, in a column of its own."
        )
    else:
        notify(
            f"Column {name!r} holds different numbers that are one to a model, which takes them as float64: "
            f"{pair[0]} and {pair[1]}. {nearer(name)}"
        )
    return True
