"""Columns that go to the arguments of a module by a name each: ``--inputs ids=tokens,mask=mask``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from maas_magics.api.errors import DataError, did_you_mean
from maas_magics.core.batches.rows import Rows


def chosen_of(rows: Rows, inputs: Mapping[str, str]) -> Rows:
    """Rows with the columns of ``inputs`` alone, in that order.

    Raises
    ------
    DataError
        If a column is absent.
    """
    there = rows.table.column_names
    absent = next((name for name in inputs.values() if name not in there), None)
    if absent is not None:
        raise DataError(f"The data has no {absent!r} to be an input.", did_you_mean(absent, there))
    twice = next((name for name in inputs.values() if list(inputs.values()).count(name) > 1), None)
    if twice is not None:
        first, second, *_ = (argument for argument, name in inputs.items() if name == twice)
        raise DataError(
            f"The column {twice!r} is given to {first!r} and to {second!r}; a model has one input for each.",
            "Give it twice, under two names, or once, and have forward use it as both.",
        )
    return replace(rows, table=rows.table.select(list(inputs.values())))
