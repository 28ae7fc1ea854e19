"""The error for values of another kind than a model was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array, as_text
from maas_magics.core.data.looks import look
from maas_magics.core.data.origin import not_infinite, spoken
from maas_magics.core.data.sources import ARRAY


def mismatch(name: str, found: Any, expected: str, hint: str, axes: bool = False) -> DataError:
    """What a column holds, and what the model was trained on."""
    return DataError(f"{spoken(name, ARRAY, axes)} holds {found}; the model was trained on {expected}.", hint)


def texts_of(values: pa.ChunkedArray) -> list[str]:
    """Different texts among the first of a column."""
    return list(dict.fromkeys(text for text in as_text(values.slice(0, 1000)).to_pylist() if text is not None))


def fix(name: str, texts: list[str]) -> str:
    """What to type where texts look like dates or numbers; empty where they do not."""
    found = look(name, texts)
    return "" if found is None else found.fix


def check_range(name: str, found: Array, dtype: str) -> None:
    """Raise `DataError` for whole numbers that a narrower type does not hold."""
    wanted = np.dtype(dtype)
    if wanted.kind not in "iu" or found.dtype.kind not in "iu" or not found.size or np.can_cast(found.dtype, wanted):
        return
    low, high = int(found.min()), int(found.max())
    if low < np.iinfo(wanted).min or high > np.iinfo(wanted).max:
        odd = low if low < np.iinfo(wanted).min else high
        raise mismatch(
            name, f"{odd}, which {dtype} does not hold", dtype, "Give the numbers as in training.", found.ndim > 1
        )


def check_ids(name: str, found: Array, rows: int) -> None:
    """Raise `DataError` for ids that a table of so many rows does not have."""
    low, high = (int(found.min()), int(found.max())) if found.size else (0, 0)
    if low < 0 or high >= rows:
        raise DataError(
            f"{spoken(name, ARRAY)} holds {low if low < 0 else high}; the network looks it up in a table of ids 0 to "
            f"{rows - 1}.",
            "Give another id for what is unknown, as in training.",
        )


def infinite(name: str, values: Array) -> DataError:
    """How many of some values are infinite, which no network learns from."""
    number = int(np.isinf(values).sum())
    return DataError(f"Column {name!r} holds {number} infinite value{'s' if number > 1 else ''}.", not_infinite())
