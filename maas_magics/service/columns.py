"""Columns of answers as bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa


def answers_to_bytes(columns: dict[str, Any]) -> bytes:
    """Columns of answers as an Arrow stream; several numbers a row as a tensor."""
    table = pa.table({name: _column(values) for name, values in columns.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _column(values: Any) -> Any:
    if getattr(values, "ndim", 1) == 1:
        return values
    if values.dtype.kind == "b":  # Arrow's tensors hold no booleans
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))
