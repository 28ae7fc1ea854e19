"""Targets of a list of tags a row: what they are in a column, and as an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array, is_text
from maas_magics.core.data.nested import is_listed


def is_lists_of_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a list of texts, of any length."""
    return is_listed(kind) and is_text(kind.value_type)


def is_tagged(values: Array) -> bool:
    """Whether a target is a list of tags a row: an array (n,) of tuples of str."""
    return values.dtype == object and values.ndim == 1 and len(values) > 0 and isinstance(values[0], tuple)


def tags_of(name: str, values: pa.ChunkedArray) -> Array:
    """Tags of each row, an object array (n,) of tuples of str.

    Raises
    ------
    DataError
        If a tag is missing within a list, or is an empty text.
    """
    found = np.empty(len(values), dtype=object)
    found[:] = [tuple(row) for row in values.to_pylist()]
    for row in found:
        if not all(row):
            raise DataError(f"A tag of the target {name!r} is missing: {list(row[:8])}.", "Write 'O' where none is.")
    return found


def list_lengths(values: pa.ChunkedArray) -> Array:
    """Length of the list of each row, int64 (n,); 0 of a missing one."""
    return np.asarray(pc.fill_null(pc.list_value_length(values), 0), dtype=np.int64)


def texts_in_lists(rows: Any) -> bool:
    """Whether a list holds lists of texts and nothing else, of which one is not empty."""
    inner = [row for row in rows if row is not None]
    listed = all(isinstance(row, (list, tuple, np.ndarray)) for row in inner)
    return listed and any(len(row) for row in inner) and all(isinstance(text, str) for row in inner for text in row)
