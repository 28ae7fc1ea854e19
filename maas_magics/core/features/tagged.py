"""Which column holds the words of a target of tags, and whether there are as many."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError, OptionError
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.tagged import is_lists_of_text, list_lengths
from maas_magics.core.data.target_values import lists_of_labels

SHOWN = 6
"""Words of a row that are shown."""

WORDS = "words"
"""Name of the modality."""


def with_words(table: pa.Table, target: Array, name: str, kinds: Mapping[str, str]) -> dict[str, str]:
    """Kinds of columns, with the one that has a word for each tag of a target.

    Parameters
    ----------
    table : pyarrow.Table
        Features, n rows.
    target : ndarray, shape (n,)
        Tuples of tags.
    name : str
        Of the target.
    kinds : mapping of str to str
        Those that were requested, by column.

    Raises
    ------
    DataError
        If no column holds lists of words, or none has as many in every row.
    OptionError
        If several have.
    """
    there = [column for column, kind in kinds.items() if kind == WORDS and column in table.column_names]
    there = there or [field.name for field in table.schema if is_lists_of_text(field.type)]
    if not there:
        raise lists_of_labels(name)
    fitting = [column for column in there if not len(_uneven(table.column(column), target))]
    if len(fitting) > 1:
        raise OptionError(
            f"The columns {', '.join(map(repr, fitting))} all have a word for each tag.",
            f"--features {fitting[0]} --feature {fitting[0]}={WORDS}",
        )
    if not fitting:
        check_tags(table.column(there[0]), target, there[0], name)
    return {**kinds, fitting[0]: WORDS}


def check_tags(words: pa.ChunkedArray, target: Array, column: str, name: str) -> None:
    """Raise `DataError` where a row has not as many tags as words.

    Parameters
    ----------
    words : pyarrow.ChunkedArray
        Lists of words, n rows.
    target : ndarray, shape (n,)
        Tuples of tags.
    column, name : str
        Of the words, and of the target.
    """
    uneven = _uneven(words, target)
    if len(uneven):
        row = int(uneven[0])
        given = words[row].as_py() or []
        told = " ".join(map(str, given[:SHOWN])) + (" …" if len(given) > SHOWN else "")
        raise DataError(
            f"{len(uneven):,} of {len(target):,} rows have not as many tags in {name!r} as words in {column!r}: "
            f"{told!r} has {len(given):,} words and {len(target[row]):,} tags.",
            "Give one tag for each word.",
        )


def _uneven(words: pa.ChunkedArray, target: Array) -> Array:
    """Rows with another number of words than tags."""
    return np.flatnonzero(list_lengths(words) != np.array([len(tags) for tags in target]))
