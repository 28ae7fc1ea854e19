"""Values of Python and numpy as Arrow columns: one rule for objects of any kinds, for time, and for what is missing.

What is missing is None, NaN, NaT, pandas' NA, or masked. A column of objects that are all numbers (booleans, whole
numbers, floats, decimals, fractions, scalars of numpy) is a column of numbers; one of moments is a column of moments.
Where texts stand among numbers, the column is text, spelled as `spelled` has it, and its field says (`MIXED`) whether
most of many different values were numbers: the fitted column then takes them as numbers, and the texts as missing.
"""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError
from maas_magics.core.data.odd_spans import refuse_odd_spans

MIXED = b"maas_magics.mixed"
"""Key of a field's metadata: ``b"numbers"`` where more than half of many mixed values were numbers, else
``b"texts"``."""

SPELLED = b"maas_magics.spelled"
"""Key of a field's metadata: how decimals were spelled, as JSON, by how Arrow spells them."""

MOST_SPELLED = 1_000
"""Different decimals whose spelling is kept: more are not labels."""

FEW = 20
"""Different values up to which a mixed column loses nothing as texts."""

SECONDS = {"W": 604_800, "D": 86_400, "h": 3_600, "m": 60, "s": 1}
PARTS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "ps": 1e12, "fs": 1e15, "as": 1e18}
"""Seconds of each unit of a length of time, and how many of it make one; a month and a year have no length."""

_NONE = ("NoneType", "NAType", "NaTType")

_ALIKE: tuple[frozenset[type], ...] = (
    frozenset({str, float}),  # where the floats are NaN
    frozenset({bool}),
    frozenset({int, float}),
    frozenset({Decimal}),
    frozenset({dt.date}),
    frozenset({dt.datetime}),
    frozenset({dt.timedelta}),
    frozenset({dt.time}),
)
"""Types that Arrow converts side by side without changing a value."""


def is_missing(value: Any) -> bool:
    """Whether one value stands for none: None, NaN, NaT, NA, or masked."""
    if value is None or value is np.ma.masked:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError, ArithmeticError):  # pandas' NA says neither; an array or a signalling NaN says more
        return type(value).__name__ in ("NAType", "Decimal")


def objects(values: Sequence[Any]) -> pa.Array:
    """Objects of any kinds as one column; see the module."""
    types = {kind for kind in set(map(type, values)) if kind.__name__ not in _NONE}
    if any(hasattr(kind, "detach") and hasattr(kind, "numpy") for kind in types):  # tensors of torch
        values = [_untied(value) for value in values]
        types = {type(value) for value in values if type(value).__name__ not in _NONE}
    if any(kind.__module__.startswith("PIL.") for kind in types):
        values = [_picture(value) for value in values]
        types = {type(value) for value in values if type(value).__name__ not in _NONE}
    if any(types <= alike for alike in _ALIKE):
        try:
            return pa.array(values, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass  # numbers among texts, whole numbers too large for one type, decimals too long
    found = [None if is_missing(value) else value for value in values]
    types = {type(value) for value in found} - {type(None)}
    if any(issubclass(kind, np.generic) for kind in types):
        found = [_item(value) if isinstance(value, np.generic) else value for value in found]
        types = {type(value) for value in found} - {type(None)}
    if any(types <= alike for alike in _ALIKE):
        try:
            return pa.array(found, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass
    there = [value for value in found if value is not None]
    if there and all(isinstance(value, np.ndarray) and value.ndim > 1 for value in there):
        return _nested(found)
    if all(isinstance(value, int) and not isinstance(value, bool) for value in there):
        try:
            return pa.array([None if value is None else Decimal(value) for value in found], pa.decimal256(76, 0))
        except pa.ArrowInvalid:
            pass  # of more digits than these
    if all(map(_is_number, there)):
        return pa.array([None if value is None else _real(value) for value in found], pa.float64())
    if all(isinstance(value, (dt.date, np.datetime64)) for value in there):
        return _moments(found)
    if all(isinstance(value, (dt.timedelta, np.timedelta64)) for value in there):
        return pa.array([None if value is None else _length(value) for value in found], pa.float64())
    if any(isinstance(value, bytes) for value in there) and all(isinstance(value, (bytes, str)) for value in there):
        return pa.array([_file(value) for value in found], pa.struct({"bytes": pa.large_binary(), "path": pa.string()}))
    refuse_odd_spans(found)
    if not any(_is_number(value) or isinstance(value, (str, dt.date, np.datetime64)) for value in there):
        try:
            return pa.array(found, from_pandas=True)  # lists, dicts, bytes: who takes columns refuses them
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            pass
    return _together(found)


def _untied(value: Any) -> Any:
    """A tensor of torch as an array, or the number that it is; anything else as it is."""
    if not (hasattr(value, "detach") and hasattr(value, "numpy")):
        return value
    found = value.detach().cpu()
    if not found.ndim:
        return found.item()
    return found.float().numpy() if str(found.dtype) == "torch.bfloat16" else found.numpy()


def _picture(value: Any) -> Any:
    """A picture of Pillow as the bytes of a PNG file; anything else as it is."""
    if not type(value).__module__.startswith("PIL.") or not hasattr(value, "save"):
        return value
    stream = io.BytesIO()
    plain = value if value.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16") else value.convert("RGB")
    plain.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _file(value: Any) -> dict[str, Any] | None:
    """The bytes of a file, or a path of one, as datasets of Hugging Face have it."""
    if value is None:
        return None
    return {"bytes": value, "path": None} if isinstance(value, bytes) else {"bytes": None, "path": value}


def _nested(values: Sequence[Any]) -> pa.Array:
    """Arrays of several axes, or None, as lists of lists."""
    there = [value for value in values if value is not None]
    shape, dtype = there[0].shape, there[0].dtype
    if dtype.kind not in "biuf" or 0 in shape or any(value.shape != shape or value.dtype != dtype for value in there):
        return pa.array([None if value is None else value.tolist() for value in values])
    found = pa.array(np.concatenate([value.ravel() for value in there]))
    for length in reversed(shape):
        found = pa.ListArray.from_arrays(pa.array(range(0, len(found) + 1, length), pa.int32()), found)
    places = iter(range(len(there)))
    return found.take(pa.array([None if value is None else next(places) for value in values], pa.int64()))


def mixed(values: pa.Array | pa.ChunkedArray, source: Sequence[Any]) -> dict[bytes, bytes] | None:
    """Metadata of the field of a column that `objects` made; None where it says nothing but its values."""
    if pa.types.is_decimal(values.type):
        return _digits(values, source)
    if not pa.types.is_string(values.type):
        return None
    there = [value for value in source if not is_missing(value)]
    real = sum(map(_is_number, there))
    if not real or real == len(there):
        return None
    numbers = sum(number_of(value) is not None if isinstance(value, str) else _is_number(value) for value in there)
    many = len(set(values.to_pylist())) > FEW
    return {MIXED: b"numbers" if many and 2 * numbers > len(there) else b"texts"}


def _digits(values: pa.Array | pa.ChunkedArray, source: Sequence[Any]) -> dict[bytes, bytes] | None:
    """Metadata of a column of decimals that Arrow gives more digits than they came with."""
    came: dict[Decimal, str] = {}
    for value in source:
        if isinstance(value, Decimal) and not is_missing(value) and value not in came:
            came[value] = str(value)
            if len(came) > MOST_SPELLED:
                return None
    padded = {str(value): came[value] for value in pc.unique(values).to_pylist() if value in came}
    return {SPELLED: json.dumps(padded).encode()} if any(one != other for one, other in padded.items()) else None


def number_of(text: str) -> float | None:
    """Number that a text spells; None where it spells none."""
    try:
        found = float(text) if "_" not in text else None
    except ValueError:
        found = {"true": 1.0, "false": 0.0}.get(text.strip().lower())
    return None if found is None or found != found else found


def text_of(values: Any) -> Any:
    """An Arrow column as text.

    A text is as it is, a number in its shortest form (``1`` for 1.0), a boolean ``true`` or ``false``, and a moment
    ``2020-01-01 12:30:00`` without a midnight and without zeros behind the seconds.
    """
    if not pa.types.is_timestamp(values.type):
        try:
            return values.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # bytes that are not text, lengths of months
            texts = [None if value is None else str(value) for value in values.to_pylist()]
            made = pa.array(texts, pa.string())
            return pa.chunked_array([made]) if isinstance(values, pa.ChunkedArray) else made
    text = values.cast(pa.string())
    return pc.replace_substring_regex(pc.replace_substring_regex(text, r"\.0+(Z?)$", r"\1"), " 00:00:00Z?$", "")


def spelled(value: Any) -> str:
    """How a value is spelled as a text: a text as it is, and anything else as Arrow spells a column of its type."""
    if isinstance(value, str):
        return value
    if isinstance(value, np.generic):
        value = _item(value)
    if _is_number(value) and not isinstance(value, (bool, int, Decimal)):
        value = _real(value)
    try:
        text: str = text_of(pa.array([value]))[0].as_py()
        return text
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return str(value)


def _together(found: Sequence[Any]) -> pa.Array:
    """Texts among others; numbers where every text among numbers spells one."""
    real = any(map(_is_number, found))
    if real and all(value is None or isinstance(value, str) or _is_number(value) for value in found):
        read = [number_of(value) if isinstance(value, str) else value for value in found]
        if all(value is not None for value, came in zip(read, found, strict=True) if came not in (None, "")):
            return pa.array([None if value is None else _real(value) for value in read], pa.float64())
    return pa.array([None if value is None else spelled(value) for value in found], pa.string())


def _is_number(value: Any) -> bool:
    if isinstance(value, (dt.timedelta, np.timedelta64)):  # numpy's own is a whole number by descent
        return False
    if isinstance(value, (Real, Decimal, np.bool_)):
        return True
    return getattr(value, "ndim", 1) == 0 and hasattr(value, "__float__") and not isinstance(value, np.generic)


def _real(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _item(value: np.generic) -> Any:
    """Scalar of numpy as Python's own; a moment or a length of time stays, for Python knows fewer units."""
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return value
    return value.item()


def _moments(found: Sequence[Any]) -> pa.Array:
    """Dates, times with and without zones and numpy's moments, as microseconds; one without a zone is in UTC."""
    zones = any(getattr(value, "tzinfo", None) is not None for value in found)
    whole = np.array([_microseconds(value) for value in found], dtype="datetime64[us]")
    return pa.array(whole, pa.timestamp("us", "UTC" if zones else None), from_pandas=True)


def _microseconds(value: Any) -> np.datetime64:
    if value is None:
        return np.datetime64("NaT")
    if isinstance(value, np.datetime64):
        return times(np.array([value]))[0]  # type: ignore[no-any-return]
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    return np.datetime64(value, "us")


def _length(value: Any) -> float:
    if isinstance(value, np.timedelta64):
        return float(lengths(np.array([value]))[0])
    return float(value.total_seconds())


def times(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Moments of numpy in any unit and multiple as ``datetime64[us]``, the finest that is distinguished.

    Raises
    ------
    DataError
        If they have no unit, or are too far away for microseconds (beyond the year 294,000).
    """
    unit = _unit(values)
    if unit == "generic" and np.isnat(values).all():
        return np.full(values.shape, "NaT", dtype="datetime64[us]")
    if unit == "generic":
        raise DataError("The dates have no unit of time.", "Give them one: .astype('datetime64[s]')")
    found = values.astype("datetime64[us]")
    if unit not in ("ns", "ps", "fs", "as") and not np.array_equal(found.astype(values.dtype), values, equal_nan=True):
        raise DataError(
            f"A date of {values.dtype} is too far away for microseconds, in which dates are kept.",
            "Give them as numbers: .astype('int64')",
        )
    return found


def lengths(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Lengths of time of numpy in any unit and multiple as float64 seconds, missing ones as NaN.

    Raises
    ------
    DataError
        If they have no unit, or are in months or years, which have no fixed length.
    """
    unit = _unit(values)
    there = ~np.isnat(values)
    if not there.any():
        return np.full(values.shape, np.nan)
    if unit not in SECONDS and unit not in PARTS:
        what = "have no unit of time" if unit == "generic" else "are in months or years, which differ in length"
        raise DataError(f"The lengths of time {what}.", "Give days or seconds: .astype('timedelta64[D]')")
    whole = values.astype(np.int64).astype(np.float64) * np.datetime_data(values.dtype)[1]
    return np.where(there, whole * SECONDS.get(unit, 1) / PARTS.get(unit, 1.0), np.nan)


def _unit(values: np.ndarray[Any, Any]) -> str:
    return str(np.datetime_data(values.dtype)[0])
