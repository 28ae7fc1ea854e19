"""Kinds of columns of features, as they are saved with a model."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.core.data.arrow import Array
from maas_magics.core.data.values import number_of

NAT = -(2**63)
"""Microseconds that stand for a missing moment (numpy's NaT)."""

MOST_CATEGORIES = 512
RARE = 3
"""Texts in fewer rows than this count as unseen, in tables of 300 rows or more."""
IDENTIFIER = 0.5
"""A text column with more different values than this share of the rows names rows, and is left out."""


class Numeric(msgspec.Struct, frozen=True, tag="numeric"):
    """Numbers or booleans; missing values allowed.

    ``width`` > 1 for a vector in each row, which is ``exact`` where float32 is too coarse for it. With ``texts``, texts
    stood among the numbers in training; one that spells no number counts as missing. With ``seconds``, they are lengths
    of time, or times of day.
    """

    name: str
    width: int = 1
    texts: bool = False
    exact: bool = False
    seconds: bool = False


class Moment(msgspec.Struct, frozen=True, tag="moment"):
    """Dates and times, as microseconds since 1970 in UTC.

    ``zone`` is the time zone of those in training, empty where they had none; None in a model of before it was kept.
    """

    name: str
    zone: str | None = None


class Category(msgspec.Struct, frozen=True, tag="category"):
    """Text with few different values. Code 0 is missing or unseen, code ``i`` is ``values[i - 1]``.

    One rule holds for a text and the value it is, in a table, a CSV or JSON file, a cell, a service's tensor and an
    exported graph: a text is itself, letter for letter, spaces, ``NA``, ``null``, ``true``, ``007`` and ``1e3``
    included; the empty one alone is missing. What is no text is spelled as `maas_magics.core.data.values.text_of` has
    it. Where values were not texts (``spelled``), their other usual spellings mean them as well: ``1.0`` and ``True``.
    """

    name: str
    values: tuple[str, ...]
    spelled: bool = False

    @property
    def spellings(self) -> tuple[tuple[str, int], ...]:
        """Every text that means one of the values, with its code; the values themselves come first."""
        known = {value: code for code, value in enumerate(self.values, start=1)}
        others = ((other, code) for value, code in known.items() for other in _others(value)) if self.spelled else ()
        return tuple(known.items()) + tuple({other: code for other, code in others if other not in known}.items())


class Tensor(msgspec.Struct, frozen=True, tag="tensor"):
    """Numbers of one or more axes in each row, such as an image; ``shape`` without the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def _others(value: str) -> tuple[str, ...]:
    """How Python and spreadsheets spell what is no text."""
    if value in ("true", "false"):
        return value.capitalize(), value.upper()
    number = number_of(value)
    if number is None or not math.isfinite(number):
        return ()
    return (repr(number),) if number != int(number) or abs(number) >= 1e16 else (f"{number:.1f}", str(int(number)))


Column = Numeric | Moment | Category | Tensor


def codes(column: Category, text: Array) -> Array:
    """Category codes of raw text: what the exported graph's label encoder computes.

    Parameters
    ----------
    column : Category
    text : ndarray of object, shape (n, 1)

    Returns
    -------
    ndarray of int64, shape (n, 1)
    """
    spellings = column.spellings
    place = pc.index_in(pa.array(text.ravel(), pa.string()), pa.array([word for word, _ in spellings], pa.string()))
    code = np.array([0, *(number for _, number in spellings)], dtype=np.int64)
    return np.asarray(code[np.asarray(pc.fill_null(place, -1).to_numpy()) + 1]).reshape(-1, 1)
