"""Tensors of the Open Inference Protocol: from JSON and bytes to arrays, and back."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from maas_magics.api.errors import DataError
from maas_magics.api.signature import NUMPY

Array = np.ndarray[Any, Any]

MOST_AXES = 32

_LISTS: dict[str, Any] = {"b": list[bool], "u": list[int], "i": list[int], "f": list[float], "O": list[str]}
_FLAT: dict[str, msgspec.json.Decoder[list[Any]]] = {kind: msgspec.json.Decoder(of) for kind, of in _LISTS.items()}
_ANY = msgspec.json.Decoder(list[Any])
_DTYPES = {datatype: np.dtype(name) for datatype, name in NUMPY.items()}
DATATYPES = {dtype: datatype for datatype, dtype in _DTYPES.items()}
"""Datatype of each numpy type."""


def dtype_of(name: str, datatype: str) -> np.dtype[Any]:
    """Numpy type of a datatype.

    Raises
    ------
    DataError
        If there is no such datatype.
    """
    try:
        return _DTYPES[datatype]
    except KeyError:
        raise DataError(
            f"The tensor {name[:80]!r} has the datatype {datatype[:20]!r}.", f"There is: {', '.join(NUMPY)}."
        ) from None


def check_shape(name: str, shape: tuple[int, ...]) -> int:
    """Number of values in a shape that a batch of rows can have.

    Raises
    ------
    DataError
    """
    if not 0 < len(shape) <= MOST_AXES or min(shape) < 0:
        raise DataError(f"The tensor {name[:80]!r} has the shape {list(shape)[:8]}.", "The first axis counts rows.")
    size = math.prod(shape)
    if not size:
        raise DataError(f"The tensor {name[:80]!r} has no values.", "Send at least one row.")
    return size


def of_json(name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview) -> Array:
    """Array from the JSON of its values, flat or nested.

    Parameters
    ----------
    name, datatype, shape
    data : bytes
        JSON, not decoded yet: the datatype says what is expected in it.

    Raises
    ------
    DataError
        If the values do not have the datatype, or do not fill the shape.
    """
    dtype = dtype_of(name, datatype)
    size = check_shape(name, shape)
    try:
        values = _FLAT[dtype.kind].decode(data)
    except msgspec.ValidationError:
        values = _nested(name, datatype, dtype, shape, data)
    except msgspec.DecodeError as error:
        raise DataError(f"The values of {name[:80]!r} are no JSON: {error}") from None
    if len(values) != size:
        raise DataError(
            f"The tensor {name[:80]!r} has {len(values):,} values; its shape {list(shape)[:8]} has {size:,}."
        )
    try:
        with np.errstate(over="raise"):
            return np.array(values, dtype=dtype).reshape(shape)
    except (OverflowError, FloatingPointError):
        raise DataError(f"A value of {name[:80]!r} does not fit {datatype}.") from None


def _nested(name: str, datatype: str, dtype: np.dtype[Any], shape: tuple[int, ...], data: Any) -> list[Any]:
    """Values of lists in lists, whose lengths must be those of the shape."""
    try:
        level = _ANY.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        raise DataError(f"The values of {name[:80]!r} are no list.") from None
    for length in shape[1:]:
        if not all(isinstance(part, list) and len(part) == length for part in level):
            break
        level = [value for part in level for value in part]
    try:
        found: list[Any] = msgspec.convert(level, _LISTS[dtype.kind])
        return found
    except msgspec.ValidationError:
        raise DataError(
            f"The values of {name[:80]!r} are not {datatype} in the shape {list(shape)[:8]}.",
            "Text is BYTES; a missing number can be sent in binary only." if dtype.kind in "Of" else "",
        ) from None


def of_bytes(name: str, datatype: str, shape: tuple[int, ...], data: memoryview) -> Array:
    """Array from its bytes: little-endian, or texts with their lengths before them.

    Raises
    ------
    DataError
        If the bytes do not fill the shape.
    """
    dtype = dtype_of(name, datatype)
    size = check_shape(name, shape)
    if dtype.kind == "O":
        return _texts(name, size, data).reshape(shape)
    if len(data) != size * dtype.itemsize:
        raise DataError(
            f"The tensor {name[:80]!r} has {len(data):,} bytes; {datatype} in the shape {list(shape)[:8]} has "
            f"{size * dtype.itemsize:,}."
        )
    array = np.frombuffer(data, dtype.newbyteorder("<"))
    if dtype.kind == "b" and array.view(np.uint8).max() > 1:
        raise DataError(f"A value of {name[:80]!r} is no BOOL: 0 and 1 are.")
    return array.astype(dtype, copy=False).reshape(shape)


def _texts(name: str, size: int, data: memoryview) -> Array:
    if len(data) < 4 * size:
        raise DataError(f"The tensor {name[:80]!r} has too few bytes for {size:,} texts.")
    found = np.empty(size, dtype=object)
    at = 0
    for i in range(size):
        stop = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > len(data) or stop > len(data):
            raise DataError(f"The texts of {name[:80]!r} end too early.")
        try:
            found[i] = str(data[at + 4 : stop], "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"A text of {name[:80]!r} is not UTF-8.") from None
        at = stop
    if at != len(data):
        raise DataError(f"The tensor {name[:80]!r} has bytes after its {size:,} texts.")
    return found


def check_finite(name: str, values: Array) -> None:
    """See that values can be told in JSON.

    Raises
    ------
    DataError
        If one is no number, which JSON has no word for.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(
            f"The output {name!r} holds a value that is no number, which JSON cannot tell.",
            'Ask for binary: "parameters": {"binary_data_output": true}',
        )


def to_bytes(values: Array) -> bytes:
    """Bytes of an array, as `of_bytes` reads them."""
    if values.dtype.kind != "O":
        return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    parts: list[bytes] = []
    for value in values.ravel().tolist():
        text = str(value).encode()
        parts += (len(text).to_bytes(4, "little"), text)
    return b"".join(parts)
