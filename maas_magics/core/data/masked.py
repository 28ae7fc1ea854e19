"""Targets of a mask a row: a picture whose pixels are class numbers, in a file, or as an array."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from maas_magics.core.data.arrow import Array, is_text
from maas_magics.core.data.media import PICTURES, are_most, first_bytes, holds_files
from maas_magics.core.data.nested import is_listed

HEADS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")
"""How files begin that may be masks."""


class Mask(NamedTuple):
    """A mask as it came.

    Attributes
    ----------
    value : bytes, str, dict or list
        The bytes of a file, its path, both, or lists of class numbers.
    row : int
        Where it stands, for errors; rows are shuffled before they are learnt.
    """

    value: Any
    row: int


def holds_masks(values: pa.ChunkedArray) -> bool:
    """Whether a column that is a target holds pictures, or lists of lists of whole numbers."""
    kind = values.type
    if holds_files(kind) or is_text(kind):
        return are_most(head.startswith(HEADS) for head in first_bytes(values, PICTURES))
    return is_listed(kind) and is_listed(kind.value_type) and pa.types.is_integer(kind.value_type.value_type)


def may_hold_masks(values: pa.ChunkedArray) -> bool:
    """Whether a column that is a target holds masks, or arrays of two axes of whole numbers."""
    kind = values.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return len(kind.shape) == 2 and (pa.types.is_integer(kind.value_type) or pa.types.is_boolean(kind.value_type))
    return holds_masks(values)


def masks_of_rows(values: pa.ChunkedArray) -> Array:
    """The masks of a column, an object array (n,) of `Mask`."""
    found = np.empty(len(values), dtype=object)
    for row, value in enumerate(values.to_pylist()):
        found[row] = Mask(value, row)
    return found


def is_masked(values: Array) -> bool:
    """Whether a target is a mask a row: an array (n,) of `Mask`."""
    return values.dtype == object and values.ndim == 1 and len(values) > 0 and isinstance(values[0], Mask)


def may_be_masks(values: Array) -> bool:
    """Whether a target is a mask a row, or an array of class numbers of two axes."""
    return is_masked(values) or (values.ndim == 3 and values.dtype.kind in "iub")
