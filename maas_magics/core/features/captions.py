"""Pictures and what is said of them: columns of a table as arrays of one size, and texts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError, did_you_mean
from maas_magics.core.data import media
from maas_magics.core.data.arrow import Array, as_text, is_text, tensors
from maas_magics.core.data.media import PICTURES, file_bytes, first_bytes, holds_files
from maas_magics.core.data.nested import stacked


def caption_column(table: pa.Table, asked: str | None, picture: str) -> str:
    """Name of the column of captions: the one that was named, else the only one of texts.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    asked : str or None
        The name, where one was given.
    picture : str
        Name of the column of pictures.

    Raises
    ------
    DataError
        If there is none, or several might be meant.
    """
    if asked is not None:
        check_there(table, asked)
        if not is_text(table.column(asked).type):
            kind = table.column(asked).type
            raise DataError(f"The column {asked!r} holds {kind}; captions, which are texts, were expected.", "--text")
        return asked
    there: list[str] = [name for name in table.column_names if name != picture and is_text(table.column(name).type)]
    if not there:
        raise DataError("No column holds captions, which are texts.", "Give rows of a picture and a caption.")
    if len(there) > 1:
        shown = ", ".join(map(repr, there[:5]))
        raise DataError(f"There are several columns of texts: {shown}.", f"--text {there[0]}")
    return there[0]


def check_there(table: pa.Table, name: str) -> None:
    """Raise `DataError` where a table has no column of a name.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    name : str
        Of the column.
    """
    if name not in table.column_names:
        raise DataError(f"The data has no column {name!r}.", did_you_mean(name, table.column_names))


def captions_of(values: pa.ChunkedArray) -> list[str]:
    """Captions of a column, empty for what is missing.

    Parameters
    ----------
    values : pyarrow.ChunkedArray
        Texts.
    """
    return ["" if text is None else text for text in as_text(values).to_pylist()]


def pictures_of(values: pa.ChunkedArray, name: str, size: int | None, notify: Callable[[str], None]) -> Array:
    """Pictures of a column in one size, uint8 (n, channels, height, width).

    Parameters
    ----------
    values : pyarrow.ChunkedArray
        Bytes or paths of files, pictures of Pillow, or arrays: uint8 ones hold values up to 255, of others the largest
        is white.
    name : str
        Of the column.
    size : int or None
        Pixels of both sides that they are brought to; those that they have where it is None.
    notify : callable
        Gets a sentence about what was made of them.

    Raises
    ------
    DataError
        If they are not pictures, or differ in size and no size was requested.
    """
    if holds_files(values.type) or (is_text(values.type) and first_bytes(values, PICTURES)):
        return _of_files(values, name, size)
    values = stacked(values, any_list=True)
    if not isinstance(values.type, pa.FixedShapeTensorType):
        raise DataError(
            f"The column {name!r} holds {values.type}; pictures of one size were expected.",
            "Give arrays of one shape, files, or pictures of Pillow: Image.fromarray(array).",
        )
    if size is not None:
        raise DataError(f"The pictures of {name!r} are arrays, which have the size that they have.", "Drop --feature.")
    return _of_arrays(tensors(values), name, notify)


def _of_files(values: pa.ChunkedArray, name: str, size: int | None) -> Array:
    from maas_magics.core.features import pictures

    items = values.to_pylist()
    empty = next((row for row, value in enumerate(items) if media.is_missing(value)), None)
    if empty is not None:
        raise DataError(f"The picture of row {empty} of {name!r} is missing.", "Leave the row out.")

    def read(value: object, row: int) -> bytes:
        return file_bytes(value, name, row)

    found = media.each(items, pictures.sides, read, name, (0, 0, False))
    channels = 3 if any(colours for *_, colours in found) else 1
    sizes = sorted({(height, width) for height, width, _ in found})
    if size is None and len(sizes) > 1:
        (one, other), more = sizes[:2], f" and {len(sizes) - 2} more sizes" * (len(sizes) > 2)
        raise DataError(
            f"The pictures of {name!r} differ in size: {one[0]} × {one[1]}, {other[0]} × {other[1]} pixels{more}.",
            f"--feature {name}=image(size=32) brings all to 32 × 32.",
        )
    height, width = (size, size) if size is not None else sizes[0]
    blank = np.zeros((channels, height, width), dtype=np.uint8)
    rows = media.each(items, lambda data: pictures.decoded(data, height, width, channels), read, name, blank)
    return np.stack(rows)


def _of_arrays(found: Array, name: str, notify: Callable[[str], None]) -> Array:
    from maas_magics.core.features.pictures import channels_last

    if found.ndim == 4 and channels_last(found.shape[1:]):
        found = found.transpose(0, 3, 1, 2)
    found = found[:, None] if found.ndim == 3 else found
    if found.ndim != 4 or found.shape[1] not in (1, 3):
        raise DataError(
            f"The arrays of {name!r} have the shape {found.shape[1:]}; (height, width), with one or three colours, "
            "was expected.",
            "Give arrays such as (28, 28) or (32, 32, 3).",
        )
    if found.dtype == np.uint8:
        return np.ascontiguousarray(found)
    if not np.isfinite(found).all():
        raise DataError(f"The pictures of {name!r} hold values that are not numbers.", "Fill them: np.nan_to_num(…).")
    low, high = min(float(found.min(initial=0)), 0.0), float(found.max(initial=0))
    if high <= low:
        raise DataError(f"Every picture of {name!r} is black.", "Give pictures with some light in them.")
    if (low, high) != (0.0, 1.0):
        notify(f"Column {name!r}: {low:g} is taken for black, and {high:g} for white.")
    return np.round((found.astype(np.float64) - low) / (high - low) * 255).astype(np.uint8)
