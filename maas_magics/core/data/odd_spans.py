"""Rows among lists of spans that are none: one alone would make a text of every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maas_magics.api.errors import DataError

NAMES = ("start", "end", "label")

SHOWN = 60
"""Letters of a row that are shown."""


def refuse_odd_spans(values: Sequence[Any]) -> None:
    """Raise `DataError` for the first row that is not a list of spans, where most are.

    Parameters
    ----------
    values : sequence of Any
        A column; what is missing is None.
    """
    rows = [(place, value) for place, value in enumerate(values) if value is not None]
    spanned = sum(_is_list(value) and bool(len(value)) and all(map(_is_whole, value)) for _, value in rows)
    if not spanned or 2 * spanned <= len(rows):
        return
    for place, value in rows:
        if not _is_list(value) or not all(map(_may_be_span, value)):
            shown = repr(value)
            raise DataError(
                f"Row {place} holds {shown if len(shown) <= SHOWN else shown[: SHOWN - 1] + '…'}, where other rows "
                "hold lists of spans.",
                "[{'start': 0, 'end': 4, 'label': 'person'}], or [] for none.",
            )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))


def _is_whole(value: Any) -> bool:
    return _may_be_span(value) and all(name in value for name in NAMES)


def _may_be_span(value: Any) -> bool:
    """Whether a value is a span, or one that lacks something, which is told by its name later."""
    if not isinstance(value, Mapping) or not any(name in value for name in NAMES):
        return False
    whole = (isinstance(value.get(name), (int, np.integer, type(None))) for name in ("start", "end"))
    return all(whole) and isinstance(value.get("label"), (str, type(None)))
