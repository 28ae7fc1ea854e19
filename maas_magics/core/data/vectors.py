"""Vectors as values of a column."""

from __future__ import annotations

import numpy as np

from maas_magics.core.data.arrow import Array


def one_column(vectors: Array) -> Array:
    """Vectors, (n, d), as one column of them: an object array (n,) of arrays (d,)."""
    found = np.empty(len(vectors), dtype=object)
    found[:] = list(vectors)
    return found
