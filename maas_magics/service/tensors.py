"""Tensors of the Open Inference Protocol: from JSON and bytes to arrays, and back."""

from __future__ import annotations

import math
import re
import struct
from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from maas_magics.api.errors import DataError
from maas_magics.api.signature import NUMPY
from maas_magics.service.budget import Hold, check_rows
from maas_magics.service.kinds import DTYPES, FLAT, FLAT_WITH_NULL, NULL, WITH_NULL, nested

Array = np.ndarray[Any, Any]
Bytes = bytes | bytearray | memoryview

MOST_AXES = 32

_length = struct.Struct("<I").unpack_from

DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
"""Datatype of each numpy type."""

MOST_LONG = 2**31
"""Values along an axis beyond which no list is looked for."""

LARGE = 2**20
"""Bytes of a body from which it is read beside the event loop, its values counted before they are made."""

SLICE = 2**16
"""Values of a large tensor that are read at a time: between two slices other threads have their turn."""

_VALUE, _LIST = 64, 96
"""Bytes of memory that a value, and a list, of JSON may take at most while it is read."""

_PLAIN = {"FP32": "f", "FP64": "d"}
"""Datatypes whose values are packed at once, and their letter."""

_OPENED, _CLOSED, _COMMA = re.compile(rb"\s*\[\s*(?=[^\[\s])"), re.compile(rb"\]\s*\Z"), re.compile(b",")


def dtype_of(name: str, datatype: str) -> np.dtype[Any]:
    """Numpy type of a datatype.

    Raises
    ------
    DataError
        If there is no such datatype.
    """
    try:
        return DTYPES[datatype]
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
    """Array from the JSON of its values, flat or nested. Numbers some of which are null are objects, None or float.

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
    if len(data) > LARGE and dtype.kind == "O":
        check_rows(shape[0])
    elif len(data) > LARGE:
        if (given := count(data, b",") + 1) != size:
            raise _miscounted(name, shape, size, given)
        check_rows(shape[0])
        if (found := _in_slices(datatype, dtype, size, memoryview(data))) is not None:
            return (with_null(found) if dtype.kind == "f" and NULL.search(data) else found).reshape(shape)
    try:
        values = FLAT[datatype].decode(data)
        if len(values) != size:
            raise _miscounted(name, shape, size, len(values))
    except msgspec.ValidationError as error:
        values = _of_lists(name, datatype, shape, data, error)
    except msgspec.DecodeError as error:
        raise DataError(f"The values of {name[:80]!r} are not JSON: {error}") from None
    try:
        found = np.array(values, dtype=object if dtype.kind == "O" else dtype).reshape(shape)
    except OverflowError:
        raise _unfit(name, datatype) from None
    return with_null(found) if datatype in WITH_NULL and NULL.search(data) else found


def with_null(values: Array) -> Array:
    """Values among which null is: a missing text is the empty one; null is distinguished from every number."""
    if values.dtype.kind == "O":
        return np.array(["" if value is None else value for value in values.flat], object).reshape(values.shape)
    if not (missing := np.isnan(values)).any():
        return values
    found = values.astype(object)
    found[missing] = None
    return found


def _in_slices(datatype: str, dtype: np.dtype[Any], size: int, data: memoryview) -> Array | None:
    """Values of a long flat list, some at a time; None for any other."""
    opened, closed = _OPENED.match(data), _CLOSED.search(data, len(data) - 64)
    if opened is None or closed is None:
        return None
    found = np.empty(size, dtype)
    done, at, end = 0, opened.end(), closed.start()
    piece = max(1, len(data) * SLICE // size)
    try:
        while at < end:
            comma = _COMMA.search(data, min(at + piece, end), end)
            stop = comma.start() if comma is not None else end
            values = _slice(datatype, b"".join((b"[", data[at:stop], b"]")))
            found[done : done + len(values)] = values
            done += len(values)
            at = stop + 1
    except (msgspec.MsgspecError, OverflowError, ValueError):
        return None  # the full reader finds out what is wrong
    return found if done == size else None


def _slice(datatype: str, data: bytes) -> list[Any]:
    values: list[Any]
    try:
        values = FLAT[datatype].decode(data)
    except msgspec.ValidationError:
        if datatype not in WITH_NULL:
            raise
        values = FLAT_WITH_NULL[datatype].decode(data)
    return values


def count(data: bytes | bytearray | memoryview, byte: bytes) -> int:
    """How often a byte is there."""
    view = memoryview(data)
    return sum(bytes(view[start : start + LARGE]).count(byte) for start in range(0, len(view), LARGE))


def weight(body: bytes | bytearray | memoryview) -> int:
    """Bytes of memory that a body of JSON may take while it is read, beside itself."""
    return _VALUE * count(body, b",") + _LIST * (count(body, b"[") + count(body, b"{"))


@lru_cache(256)
def packer(datatype: str, size: int) -> struct.Struct | None:
    """What packs a list of so many values of a datatype; None where numpy has to."""
    letter = _PLAIN.get(datatype)
    return struct.Struct(f"<{size}{letter}") if letter is not None else None


def _of_lists(
    name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview, error: msgspec.ValidationError
) -> list[Any]:
    """Values in lists in lists, or with null among them; or the reason why they are none."""
    null = NULL.search(data) is not None
    if null and datatype in WITH_NULL:
        with suppress(msgspec.ValidationError):
            values: list[Any] = FLAT_WITH_NULL[datatype].decode(data)
            if len(values) != math.prod(shape):
                raise _miscounted(name, shape, math.prod(shape), len(values))
            return values
    if len(shape) > 1 and max(shape) < MOST_LONG:
        try:
            found: list[Any] = nested(datatype, shape, null and datatype in WITH_NULL).decode(data)
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
        raise DataError(f"The values of {name[:80]!r} are not a list.") from None
    raise DataError(
        f"The values of {name[:80]!r} are not {datatype} in the shape {list(shape)[:8]}.",
        "Text is BYTES." if datatype == "BYTES" or "float" in told else _hint(datatype, null, told),
    ) from None


def _hint(datatype: str, null: bool, told: str) -> str:
    """What to send in place of whole numbers that are none."""
    if null:
        return _HINTS.get(datatype, _HINT)
    return _TIMES if datatype == "INT64" and "got `str`" in told else ""


_TIMES = "Numbers stand without quotes; a time is microseconds since 1970-01-01 in UTC."


_HINT = "A missing value is null in FP32, FP64 and BYTES only."
_HINTS = {"INT64": f"{_HINT} A missing time is -9223372036854775808."}


def _miscounted(name: str, shape: tuple[int, ...], size: int, given: int) -> DataError:
    return DataError(f"The tensor {name[:80]!r} has {given:,} values; its shape {list(shape)[:8]} has {size:,}.")


def _unfit(name: str, datatype: str) -> DataError:
    return DataError(f"A value of {name[:80]!r} does not fit {datatype}.")


def of_bytes(name: str, datatype: str, shape: tuple[int, ...], data: memoryview, hold: Hold | None = None) -> Array:
    """Array from its bytes: little-endian, or texts with their lengths before them. BF16 becomes FP32.

    A large one stays where it came, aligned or not.

    Raises
    ------
    DataError
        If the bytes do not fill the shape.
    """
    size = check_shape(name, shape)
    dtype = np.dtype("<u2") if datatype == "BF16" else dtype_of(name, datatype)
    if dtype.kind == "O":
        if len(data) < 4 * size:
            raise DataError(f"The tensor {name[:80]!r} has too few bytes for {size:,} texts.")
        check_rows(shape[0])
        if hold is not None:
            hold(_VALUE * size + 2 * len(data))
        return _texts(name, size, data).reshape(shape)
    if len(data) != size * dtype.itemsize:
        raise DataError(
            f"The tensor {name[:80]!r} has {len(data):,} bytes; {datatype} in the shape {list(shape)[:8]} has "
            f"{size * dtype.itemsize:,}."
        )
    check_rows(shape[0])
    array = np.frombuffer(data, dtype.newbyteorder("<"))
    if dtype.kind == "b" and array.view(np.uint8).max() > 1:
        raise DataError(f"A value of {name[:80]!r} is not a BOOL: 0 and 1 are.")
    if datatype == "BF16":  # the upper half of a float32
        if hold is not None:
            hold(3 * 4 * size)
        return (array.astype("<u4") << 16).view("<f4").astype(np.float32, copy=False).reshape(shape)
    if not array.flags.aligned and len(data) < LARGE:  # bytes of several tensors follow one another without gaps
        array = array.copy()
    return array.astype(dtype, copy=False).reshape(shape)


def _texts(name: str, size: int, data: memoryview) -> Array:
    whole, end = bytes(data), len(data)
    texts: list[bytes] = []
    at = 0
    try:
        for _ in range(size):
            start = at + 4
            at = start + _length(whole, at)[0]
            if at > end:
                raise struct.error
            texts.append(whole[start:at])
    except struct.error:
        raise DataError(f"The texts of {name[:80]!r} end too early.") from None
    if at != end:
        raise DataError(f"The tensor {name[:80]!r} has bytes after its {size:,} texts.")
    found = np.empty(size, dtype=object)
    try:
        found[:] = [text.decode() for text in texts]
    except UnicodeDecodeError:  # files, or texts that the model refuses
        found[:] = texts
    return found


def check_finite(name: str, values: Array) -> None:
    """Check that values can be expressed in JSON.

    Raises
    ------
    DataError
        If one is NaN or infinite, which JSON cannot express.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(
            f"The output {name!r} holds a value that is not a number, which JSON cannot express.",
            'Request binary outputs: "parameters": {"binary_data_output": true}',
        )


def to_bytes(values: Array) -> bytes | memoryview:
    """Bytes of an array, as `of_bytes` reads them; of numbers without a copy where they lie in order."""
    if values.dtype.kind != "O":
        if values.nbytes < SLICE and values.dtype.str[0] != ">":
            return values.tobytes()
        return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
    parts: list[bytes] = []
    for value in values.ravel().tolist():
        text = str(value).encode()
        parts += (len(text).to_bytes(4, "little"), text)
    return b"".join(parts)
