"""Tensors of the Open Inference Protocol: from JSON and bytes to arrays, and back."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import numpy as np

from maas_magics.api.errors import DataError
from maas_magics.api.signature import NUMPY

Array = np.ndarray[Any, Any]

MOST_AXES = 32

_DTYPES = {datatype: np.dtype(name) for datatype, name in NUMPY.items()}
DATATYPES = {dtype: datatype for datatype, dtype in _DTYPES.items()}
"""Datatype of each numpy type."""

_LISTS: dict[str, Any] = {"b": list[bool], "u": list[int], "i": list[int], "f": list[float], "O": list[str]}
_ANY = msgspec.json.Decoder(list[Any])


def _flat(dtype: np.dtype[Any]) -> msgspec.json.Decoder[list[Any]]:
    """Decoder of a flat list of values that a type can hold; whatever it refuses is looked at once more."""
    kind: Any = _LISTS[dtype.kind]
    if dtype.kind == "f" and dtype.itemsize < 8:
        most = float(np.finfo(dtype).max)
        kind = list[Annotated[float, msgspec.Meta(ge=-most, le=most)]]
    elif dtype.kind in "iu":
        info = np.iinfo(dtype)
        kind = list[Annotated[int, msgspec.Meta(ge=int(info.min), le=min(int(info.max), 2**63 - 1))]]
    return msgspec.json.Decoder(kind)


_FLAT = {datatype: _flat(dtype) for datatype, dtype in _DTYPES.items()}


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
        values = _FLAT[datatype].decode(data)
    except msgspec.ValidationError:
        return _nested(name, datatype, dtype, shape, size, data)
    except msgspec.DecodeError as error:
        raise DataError(f"The values of {name[:80]!r} are no JSON: {error}") from None
    if len(values) != size:
        raise _miscounted(name, shape, size, len(values))
    return np.array(values, dtype=dtype).reshape(shape)


def _miscounted(name: str, shape: tuple[int, ...], size: int, given: int) -> DataError:
    return DataError(f"The tensor {name[:80]!r} has {given:,} values; its shape {list(shape)[:8]} has {size:,}.")


def _nested(
    name: str, datatype: str, dtype: np.dtype[Any], shape: tuple[int, ...], size: int, data: bytes | memoryview
) -> Array:
    """Array from lists in lists, whose lengths must be those of the shape; or the reason why it is none."""
    wrong = DataError(
        f"The values of {name[:80]!r} are not {datatype} in the shape {list(shape)[:8]}.",
        "Text is BYTES; a missing number can be sent in binary only." if dtype.kind in "Of" else "",
    )
    if dtype.kind != "O" and bytes(data).count(b"[") > _brackets(shape):
        raise wrong
    try:
        level = _ANY.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        raise DataError(f"The values of {name[:80]!r} are no list.") from None
    for length in shape[1:]:
        if not all(isinstance(part, list) and len(part) == length for part in level):
            break
        level = [value for part in level for value in part]
    try:
        values: list[Any] = msgspec.convert(level, _LISTS[dtype.kind])
    except msgspec.ValidationError:
        raise wrong from None
    if len(values) != size:
        raise _miscounted(name, shape, size, len(values))
    try:
        with np.errstate(over="raise"):
            return np.array(values, dtype=dtype).reshape(shape)
    except (OverflowError, FloatingPointError):
        raise DataError(f"A value of {name[:80]!r} does not fit {datatype}.") from None


def _brackets(shape: tuple[int, ...]) -> int:
    """Most lists that a tensor of a shape is written in."""
    return 1 + sum(math.prod(shape[:axis]) for axis in range(1, len(shape)))


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
    if not array.flags.aligned:  # bytes of several tensors follow one another without gaps
        array = array.copy()
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
