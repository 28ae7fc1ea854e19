"""Masks laid as the network sees the pictures that they are of."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data import media
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.masked import Mask, is_masked
from maas_magics.core.features.base import Feature

MOST_CLASSES = 100
"""Class numbers that masks may have: more are the shades of a photograph, or what JPEG made of a few."""

VOID = 255
"""Class number of pixels that have no class where others than 0 have one, as in Pascal VOC."""


def as_masks(feature: Feature, pictures: pa.ChunkedArray, masks: Array, name: str, first: int = 0) -> Array:
    """Class numbers of each pixel that the network sees, uint8 or int32 (n, height, width).

    Parameters
    ----------
    feature : Feature
        The column of the pictures; ``masked``.
    pictures : pyarrow.ChunkedArray
        Of n rows.
    masks : ndarray, shape (n,) or (n, height, width)
        `Mask` of each row, or class numbers.
    name : str
        Of the target.
    first : int
        Place of the first row, for errors.

    Raises
    ------
    DataError
        If a mask cannot be read, or has not the size of its picture.
    """
    if not is_masked(masks):
        each = np.empty(len(masks), dtype=object)
        for row, values in enumerate(masks):
            each[row] = Mask(values, row)
        masks = each
    found: Array | None = None
    for place, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
        try:
            value = mask.value
            if not isinstance(value, (list, np.ndarray)):
                value = media.file_bytes(value, name, first + mask.row)
            one = feature.mask(media.file_bytes(picture.as_py(), feature.name, first + mask.row), value)
        except DataError as error:
            where = media.path_of(mask.value) or f"row {first + mask.row}"
            raise media.bad_file(f"Target {name!r}, {where}: {error.message}", error.hint) from None
        if found is None:
            found = np.empty((len(masks), *one.shape), dtype=np.uint8)
        if found.dtype == np.uint8 and one.max(initial=0) > VOID:
            found = found.astype(np.int32)
        found[place] = one
    assert found is not None
    check_classes(np.unique(found), name)
    return found


def check_classes(there: Array, name: str) -> None:
    """Raise `DataError` where masks hold more different values, in order, than there are classes."""
    if len(there) > MOST_CLASSES:
        raise DataError(
            f"The masks of {name!r} have {len(there)} different values, from {there[0]} to {there[-1]}, more than "
            f"{MOST_CLASSES} classes.",
            "Class numbers are kept by PNG files; JPEG and soft edges change them.",
        )


def void_of(there: Array) -> int | None:
    """Class number of pixels without a class, of all that there are; None where all pixels have one."""
    return VOID if VOID in there and len(there[(there != 0) & (there != VOID)]) else None
