"""Which arrays float32 is too coarse for, and so go into a model's graph as they came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.core.data.running import RunningStatistics

COARSE = 1e-5
"""Standard deviations by which rounding to float32 may move a number: as little as what a network computes with."""

STEP = 2.0**-24
"""Largest share of a number that rounding to float32 takes away or adds."""

RANGE = 1e-30, 1e30
"""Sizes between which float32 has its full precision, and so have the statistics that scale numbers."""


def may_be_coarse(kind: pa.DataType) -> bool:
    """Whether arrays of a type hold numbers that float32 does not."""
    if not isinstance(kind, pa.FixedShapeTensorType):
        return False
    dtype: np.dtype[Any] = np.dtype(kind.value_type.to_pandas_dtype())
    return dtype == np.float64 or (dtype.kind in "iu" and dtype.itemsize > 2)


def is_coarse(found: RunningStatistics, kind: pa.DataType) -> bool:
    """Whether float32 moves numbers with these statistics by more than `COARSE`."""
    if pa.types.is_integer(kind.value_type) and (found.largest <= 1 / STEP).all():
        return False
    varies = found.spread > 0
    low, high = RANGE
    outside = (found.largest > high) | (found.spread < low)
    return bool((varies & (outside | (found.largest * STEP > COARSE * found.spread))).any())
