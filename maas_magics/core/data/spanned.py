"""Targets of a list of spans a row: where entities stand in a text, what they are in a column, and as an array."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array, is_text
from maas_magics.core.data.nested import is_listed


class Span(NamedTuple):
    """Some letters of a text, from ``start`` up to and without ``end``."""

    start: int
    end: int
    label: str


class Spans(tuple[Span, ...]):
    """Spans of one text.

    Attributes
    ----------
    row : int
        Where the text stands among those that have spans, for errors; rows are shuffled before they are learnt.
    """

    row: int = 0


def is_list_of_spans(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a list of records with ``start``, ``end`` and ``label``."""
    if not is_listed(kind) or not pa.types.is_struct(kind.value_type):
        return False
    record = kind.value_type
    types = {record.field(place).name: record.field(place).type for place in range(record.num_fields)}
    whole = all(pa.types.is_integer(types.get(name, pa.null())) for name in ("start", "end"))
    return whole and is_text(types.get("label", pa.null()))


def is_spanned(values: Array) -> bool:
    """Whether a target is a list of spans a row: an array (n,) of `Spans`."""
    return values.dtype == object and values.ndim == 1 and len(values) > 0 and isinstance(values[0], Spans)


def spans_of_rows(name: str, values: pa.ChunkedArray) -> Array:
    """Spans of each row, an object array (n,) of `Spans`, in the order that they stand in.

    Raises
    ------
    DataError
        If a start, an end or a label is missing.
    """
    found = np.empty(len(values), dtype=object)
    for place, row in enumerate(values.to_pylist()):
        spans = []
        for one in row or ():
            if one is None or one["start"] is None or one["end"] is None or not one["label"]:
                raise DataError(
                    f"Row {place} of the target {name!r} has a span without start, end or label: {one}.",
                    "{'start': 0, 'end': 4, 'label': 'person'}",
                )
            spans.append(Span(one["start"], one["end"], one["label"]))
        found[place] = Spans(sorted(spans))
        found[place].row = place
    return found
