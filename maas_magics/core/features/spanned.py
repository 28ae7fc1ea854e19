"""Spans of letters as tags of words: which column holds the texts, and which words each span is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError, OptionError
from maas_magics.core.data.arrow import Array, as_text, is_text
from maas_magics.core.data.spanned import Spans
from maas_magics.core.features.declared import parted
from maas_magics.core.features.tokens import words_of

SPANS = "spans"
"""Name of the modality."""

USUAL = "text"
"""The column of texts, where there are several."""

SHOWN = 60
"""Letters of a text that are shown."""

OUTSIDE = "O"


def with_texts(table: pa.Table, name: str, kinds: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Kinds of columns with that of the texts that spans stand in, and its name.

    Parameters
    ----------
    table : pyarrow.Table
        Features.
    name : str
        Of the target.
    kinds : mapping of str to str
        Those that were requested, by column.

    Raises
    ------
    DataError
        If no column holds texts.
    OptionError
        If several do, none of which is named ``text``.
    """
    texts = [field.name for field in table.schema if is_text(field.type)]
    there = [column for column, kind in kinds.items() if kind in (SPANS, USUAL) and column in texts] or texts
    if not there:
        raise DataError(
            f"The target {name!r} holds spans; no column holds the texts that they are of.", "A column 'text'."
        )
    if len(there) > 1 and USUAL not in there:
        raise OptionError(
            f"The columns {', '.join(map(repr, there))} hold texts; the spans of {name!r} are of one.",
            f"--features {there[0]}",
        )
    column = USUAL if USUAL in there else there[0]
    if parted(kinds.get(column, ""))[1]:
        raise OptionError(f"Spans are of the letters of {column!r} as they are.", f"--feature {column}={SPANS}")
    return {**kinds, column: SPANS}, column


def as_tags(
    texts: pa.ChunkedArray, spans: Array, column: str, name: str, notify: Callable[[str], None] = lambda text: None
) -> Array:
    """Tags of the words of texts, an object array (n,) of tuples: ``B-`` and ``I-`` with the label of a word's span.

    A word that a span has a part of belongs to it as a whole.

    Parameters
    ----------
    texts : pyarrow.ChunkedArray
        Texts of n rows.
    spans : ndarray, shape (n,)
        `Spans` of each.
    column, name : str
        Of the texts, and of the target.
    notify : callable
        Gets a sentence about spans that were changed.

    Raises
    ------
    DataError
        If spans overlap, or lie outside their text.
    """
    found = np.empty(len(spans), dtype=object)
    widened, lost, total = 0, 0, 0
    for place, (text, row) in enumerate(zip(as_text(texts).to_pylist(), spans, strict=True)):
        _check(text or "", row, column, name)
        words = words_of(text or "")
        tags = [OUTSIDE] * len(words)
        for span in dict.fromkeys(row):
            total += 1
            of = [at for at, (_, start, end) in enumerate(words) if start < span.end and end > span.start]
            of = [at for at in of if tags[at] == OUTSIDE]
            if not of:
                lost += 1
                continue
            widened += words[of[0]][1] != span.start or words[of[-1]][2] != span.end
            for at in of:
                tags[at] = f"{'B' if at == of[0] else 'I'}-{span.label}"
        found[place] = tuple(tags)
    if widened:
        notify(f"{widened:,} of {total:,} spans do not begin and end with words; they count as spans of whole words.")
    if lost:
        notify(f"{lost:,} of {total:,} spans have no word of their own and are left out.")
    return found


def _check(text: str, spans: Spans, column: str, name: str) -> None:
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            shown = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
            raise DataError(
                f"Row {spans.row} of {name!r} has a span from {span.start} to {span.end}; its text of {column!r} has "
                f"{len(text):,} letters: {shown!r}.",
                "Give starts and ends that count letters from 0, an end behind the last one.",
            )
    for one, other in pairwise(dict.fromkeys(spans)):
        if other.start < one.end:
            raise DataError(
                f"Row {spans.row} of {name!r} has spans that overlap: {text[one.start : one.end]!r} ({one.label}) and "
                f"{text[other.start : other.end]!r} ({other.label}).",
                "Give spans that do not overlap; a word has one label.",
            )
