"""Vectors and masks of rows as columns of tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from maas_magics.core.data.arrow import Array


def one_column(values: Array) -> Array:
    """Arrays, (n, …), as one column of them: an object array (n,)."""
    found = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        found[row] = value
    return found


def listed(values: Array) -> pa.Array:
    """A column of arrays of one shape as lists, of lists where they have several axes."""
    whole = np.stack(list(values))
    found = pa.array(np.ascontiguousarray(whole).reshape(-1))
    for size in reversed(whole.shape[1:]):
        found = pa.FixedSizeListArray.from_arrays(found, int(size))
    return found
