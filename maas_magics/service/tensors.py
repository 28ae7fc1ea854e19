"""Tensors of the Open Inference Protocol: from JSON and bytes to arrays, and back."""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import Annotated, Any

import msgspec
import numpy as np

from maas_magics.api.errors import DataError
from maas_magics.api.signature import NUMPY

Array = np.ndarray[Any, Any]

MOST_AXES = 32

_length = struct.Struct("<I").unpack_from

_DTYPES = {datatype: np.dtype(name) for datatype, name in NUMPY.items()}
DATATYPES = {dtype: datatype for datatype, dtype in _DTYPES.items()}
"""Datatype of each numpy type."""

MOST_LONG = 2**31
"""Values along an axis beyond which no list is looked for."""

LARGE = 2**20
"""Bytes of a body from which it is read beside the event loop, its values counted before they are made."""


def _kind(dtype: np.dtype[Any]) -> Any:
    """What a value of a type is in JSON."""
    if dtype.kind == "f":
        most = float(np.finfo(dtype).max)
        return Annotated[float, msgspec.Meta(ge=-most, le=most)]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        most_whole = min(int(info.max), 2**63 - 1)  # msgspec compares with no larger ones
        return Annotated[int, msgspec.Meta(ge=int(info.min), le=None if dtype == np.uint64 else most_whole)]
    return bool if dtype.kind == "b" else str


_KINDS = {datatype: _kind(dtype) for datatype, dtype in _DTYPES.items()}


def list_of(datatype: str) -> Any:
    """What a flat list of values of a datatype is in JSON."""
    kind: Any = _KINDS[datatype]
    return list[kind]


_FLAT = {datatype: msgspec.json.Decoder(list_of(datatype)) for datatype in _KINDS}


@lru_cache(1_000)
def _nested(datatype: str, shape: tuple[int, ...]) -> msgspec.json.Decoder[Any]:
    """Decoder of lists in lists, as long as a shape says."""
    kind: Any = _KINDS[datatype]
    for length in reversed(shape):
        kind = Annotated[list[kind], msgspec.Meta(min_length=length, max_length=length)]
    return msgspec.json.Decoder(kind)


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
    if len(data) > LARGE and dtype.kind != "O" and (given := bytes(data).count(b",") + 1) != size:
        raise _miscounted(name, shape, size, given)
    try:
        values = _FLAT[datatype].decode(data)
        if len(values) != size:
            raise _miscounted(name, shape, size, len(values))
    except msgspec.ValidationError as error:
        values = _of_lists(name, datatype, shape, data, error)
    except msgspec.DecodeError as error:
        raise DataError(f"The values of {name[:80]!r} are no JSON: {error}") from None
    try:
        return np.array(values, dtype=dtype).reshape(shape)
    except OverflowError:
        raise _unfit(name, datatype) from None


def _of_lists(
    name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview, error: msgspec.ValidationError
) -> list[Any]:
    """Values in lists in lists; or the reason why they are none."""
    if len(shape) > 1 and max(shape) < MOST_LONG:
        try:
            found: list[Any] = _nested(datatype, shape).decode(data)
            return found
        except msgspec.ValidationError as deeper:
            if "`array`" in str(error):
                error = deeper
        except RecursionError:
            pass
    told = str(error)
    if "<=" in told or (">=" in told and "length" not in told) or "out of range" in told:
        raise _unfit(name, datatype) from None
    if told.startswith("Expected `array`") and " at " not in told:
        raise DataError(f"The values of {name[:80]!r} are no list.") from None
    raise DataError(
        f"The values of {name[:80]!r} are not {datatype} in the shape {list(shape)[:8]}.",
        "Text is BYTES; a missing number can be sent in binary only." if datatype == "BYTES" or "float" in told else "",
    ) from None


def _miscounted(name: str, shape: tuple[int, ...], size: int, given: int) -> DataError:
    return DataError(f"The tensor {name[:80]!r} has {given:,} values; its shape {list(shape)[:8]} has {size:,}.")


def _unfit(name: str, datatype: str) -> DataError:
    return DataError(f"A value of {name[:80]!r} does not fit {datatype}.")


def of_bytes(name: str, datatype: str, shape: tuple[int, ...], data: memoryview) -> Array:
    """Array from its bytes: little-endian, or texts with their lengths before them. BF16 becomes FP32.

    Raises
    ------
    DataError
        If the bytes do not fill the shape.
    """
    size = check_shape(name, shape)
    dtype = np.dtype("<u2") if datatype == "BF16" else dtype_of(name, datatype)
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
    if datatype == "BF16":  # the upper half of a float32
        return (array.astype("<u4") << 16).view("<f4").astype(np.float32, copy=False).reshape(shape)
    if not array.flags.aligned:  # bytes of several tensors follow one another without gaps
        array = array.copy()
    return array.astype(dtype, copy=False).reshape(shape)


def _texts(name: str, size: int, data: memoryview) -> Array:
    if len(data) < 4 * size:
        raise DataError(f"The tensor {name[:80]!r} has too few bytes for {size:,} texts.")
    whole, end = bytes(data), len(data)
    texts: list[str] = []
    at = 0
    try:
        for _ in range(size):
            start = at + 4
            at = start + _length(whole, at)[0]
            if at > end:
                raise struct.error
            texts.append(whole[start:at].decode())
    except struct.error:
        raise DataError(f"The texts of {name[:80]!r} end too early.") from None
    except UnicodeDecodeError:
        raise DataError(f"A text of {name[:80]!r} is not UTF-8.") from None
    if at != end:
        raise DataError(f"The tensor {name[:80]!r} has bytes after its {size:,} texts.")
    found = np.empty(size, dtype=object)
    found[:] = texts
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
