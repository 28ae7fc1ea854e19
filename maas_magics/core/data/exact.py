"""Which arrays float32 is too coarse for, and so go into a model's graph as they came."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from maas_magics.core.data.arrow import tensors
from maas_magics.core.data.columns import Column, Columns, Numeric, Tensor
from maas_magics.core.data.running import Running, figures
from maas_magics.core.data.scaling import Layout

COARSE = 1e-5
"""Standard deviations by which rounding to float32 may move a number: as little as what a network computes with."""

STEP = 2.0**-24
"""Largest share of a number that rounding to float32 takes away or adds."""

RANGE = 1e-30, 1e30
"""Sizes between which float32 has its full precision, and so have the figures that scale numbers."""


def exactly(columns: Columns, table: pa.Table, layout: Layout) -> Columns:
    """The columns with the type that their values ask for, by the training rows in memory."""
    return Columns(tuple(_exactly(column, table.column(column.name), layout) for column in columns.columns))


def _exactly(column: Column, values: pa.ChunkedArray, layout: Layout) -> Column:
    if not may_be_coarse(values.type) or not _counts(column, layout):
        return column
    rows = tensors(values)
    width = column.width if isinstance(column, Numeric) else 1
    return as_exact(column, values.type, layout, figures(rows.reshape(-1, width)))


def _counts(column: Column, layout: Layout) -> bool:
    """Whether the column's numbers are scaled before a network gets them."""
    return (isinstance(column, Numeric) and column.width > 1) or (isinstance(column, Tensor) and layout == "image")


def may_be_coarse(kind: pa.DataType) -> bool:
    """Whether arrays of a type hold numbers that float32 does not."""
    if not isinstance(kind, pa.FixedShapeTensorType):
        return False
    dtype: np.dtype[Any] = np.dtype(kind.value_type.to_pandas_dtype())
    return dtype == np.float64 or (dtype.kind in "iu" and dtype.itemsize > 2)


def as_exact(column: Column, kind: pa.DataType, layout: Layout, found: Running) -> Column:
    """A column with the type that its figures ask for, where ``kind`` is that of the rows."""
    if not may_be_coarse(kind) or not _counts(column, layout) or not is_coarse(found, kind):
        return column
    if isinstance(column, Numeric):
        return msgspec.structs.replace(column, exact=True)
    # Whole numbers go into the graph as they are, and become float64 there.
    return msgspec.structs.replace(column, dtype="float64") if pa.types.is_floating(kind.value_type) else column


def is_coarse(found: Running, kind: pa.DataType) -> bool:
    """Whether float32 moves numbers of these figures by more than `COARSE`."""
    if pa.types.is_integer(kind.value_type) and (found.largest <= 1 / STEP).all():
        return False
    varies = found.spread > 0
    low, high = RANGE
    outside = (found.largest > high) | (found.spread < low)
    return bool((varies & (outside | (found.largest * STEP > COARSE * found.spread))).any())
