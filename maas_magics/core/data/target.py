"""Parting a source into features and target."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError, did_you_mean
from maas_magics.core.data.arrow import (
    Array,
    as_text,
    is_text,
    read_numbers,
)
from maas_magics.core.data.numbering import counting
from maas_magics.core.data.origin import came_from, is_csv
from maas_magics.core.data.sources import Source, open_source, typed
from maas_magics.core.data.sources.arrays import column, of_column
from maas_magics.core.data.tagged import texts_in_lists
from maas_magics.core.data.target_values import AS_SECONDS, Beside, answered, lists_of_labels
from maas_magics.core.data.units import NumberTally
from maas_magics.core.data.values import MIXED, mixed

TARGET = "y"
"""Name of a target that is an array."""


def part(
    data: Any, target: Any, csv: str | None = None, texts: Collection[str] = (), beside: Beside | None = None
) -> tuple[Source, pa.Table, Array, tuple[str, ...]]:
    """Features and target of all rows whose target is there.

    Parameters
    ----------
    data : Any
        Anything a source reads, or a pair of features and target.
    target : str, sequence of str, array or None
    csv : str, optional
        How CSV files are written.
    texts : collection of str
        Columns that are known to be text.
    beside : Beside, optional
        Collects the notes on the target.

    Returns
    -------
    source : Source
        Where the rows come from.
    features : pyarrow.Table
        Columns beside the target, n rows.
    values : ndarray, shape (n,) or (n, k)
        The target as it came.
    names : tuple of str
        Names of the target's columns.

    Raises
    ------
    DataError
        If there are no rows, no such column, or no target in any row.
    """
    if target is None and isinstance(data, tuple) and len(data) == 2:
        data, target = data
    source = typed(open_source(data, csv), texts)
    came_from(source)
    table = source.table()
    if not table.num_rows:
        raise DataError("The data has no rows.", "Give at least a few rows to learn from.")
    if target is None:
        raise DataError("No target was named.", f"--target COLUMN, one of: {', '.join(table.column_names[:12])}")
    if is_csv():
        table = with_numbers(table, texts)
    if beside is not None and not source.arrays:
        beside.counting = counting(table)
    names = target_names(target, table.column_names, table.num_rows)
    if names:
        fields = [table.schema.field(name) for name in names if name in table.column_names]
        table, columns = named(table, names)
    else:
        fields, columns = _array_target(target, table.num_rows)
        names = tuple(field.name for field in fields)
    if beside is not None:
        beside.meet(fields, columns)
        if getattr(getattr(target, "dtype", None), "kind", "") == "m":
            beside.units = {names[0]: AS_SECONDS.format(names[0], "a length of time")}
    if is_csv() and not (set(texts) & set(names) or (beside is not None and beside.labels)):
        columns = [_as_numbers(field, values, beside) for field, values in zip(fields, columns, strict=True)]
    features, values = answered(table, names, columns, beside)
    if beside is not None:
        beside.left = beside.left_out(table.num_rows, len(values), names)
    if not len(values):
        raise DataError(f"The target {', '.join(names)!r} is missing in every row.", "Give rows with the answers.")
    return source, features, values, names


def with_numbers(table: pa.Table, texts: Collection[str]) -> pa.Table:
    """The rows of a CSV file, where columns of texts nearly all of which are numbers say that they are.

    ``texts`` are columns that are known to be text.
    """
    for at, field in enumerate(table.schema):
        if not is_text(field.type) or field.name in texts:
            continue
        if mostly(table.column(at)):
            table = table.set_column(at, field.with_metadata({MIXED: b"numbers"}), table.column(at))
    return table


def mostly(values: pa.ChunkedArray) -> bool:
    """Whether nearly all texts of a column spell numbers."""
    counts = pc.value_counts(as_text(values).drop_null())
    tally = NumberTally()
    tally.add(dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)))
    return tally.odd is not None and tally.odd.few


def _as_numbers(field: pa.Field, values: pa.ChunkedArray, beside: Beside | None) -> pa.ChunkedArray:
    """A target of a CSV file as numbers where nearly all of it are."""
    if not is_text(field.type) or not mostly(values):
        return values
    found = read_numbers(values)
    if beside is not None:
        odd = pc.unique(as_text(values).filter(pc.is_null(found))).drop_null().to_pylist()
        shown = ", ".join(map(repr, odd[:3])) + (f" and {len(odd) - 3:,} more" if len(odd) > 3 else "")
        beside.odd = (
            f"Rows whose target {field.name!r} is not a number ({shown}) are left out: all others are numbers. "
            "Where they are labels, name the task: --task multiclass."
        )
    return found


def named(table: pa.Table, names: Sequence[str]) -> tuple[pa.Table, list[pa.ChunkedArray]]:
    """The features of a table, and the columns of its target.

    Raises
    ------
    DataError
        If a column is absent.
    """
    absent = next((name for name in names if name not in table.column_names), None)
    if absent is not None:
        raise DataError(
            f"The data has no column {absent!r} to be the target.", did_you_mean(absent, table.column_names)
        )
    columns = [table.column(name) for name in names]
    return table.drop_columns(list(dict.fromkeys(names))), columns


def target_names(target: Any, columns: Sequence[str], rows: int) -> tuple[str, ...]:
    """Columns that a target names; none if it is an array.

    A number names the column of that number, and a tuple that is itself the label of a column names that one.
    As many texts as rows, not all of which are columns, are labels.
    """
    if isinstance(target, (str, Integral)) or (isinstance(target, tuple) and str(target) in columns):
        return (str(target),)
    if not isinstance(target, (list, tuple)) or not all(isinstance(name, str) for name in target):
        return ()
    return () if len(target) == rows and not set(target) <= set(columns) else tuple(target)


def _array_target(target: Any, rows: int) -> tuple[list[pa.Field], list[pa.ChunkedArray]]:
    if hasattr(target, "__arrow_c_stream__") and getattr(target, "ndim", 2) == 2:
        table = open_source(target).table()
        fields, columns = list(table.schema), list(table.columns)
    else:
        if isinstance(target, (str, bytes)) or getattr(target, "ndim", int(hasattr(target, "__len__"))) == 0:
            raise DataError(f"The target {target!r} is neither a column's name nor an array.", "--target COLUMN")
        name = getattr(target, "name", None)
        called = str(name) if isinstance(name, str) else TARGET
        listed = isinstance(target, (list, tuple)) and any(isinstance(row, (list, tuple, set)) for row in target)
        if listed and not _is_one_shape(target) and not texts_in_lists(target):
            raise lists_of_labels(called)
        values = of_column(target)
        made = column(values, called)
        metadata = mixed(made, target.tolist()) if str(getattr(target, "dtype", "")) == "object" else None
        if metadata is None and isinstance(values, np.ndarray) and values.dtype == object:
            metadata = mixed(made, values.ravel().tolist())
        fields = [pa.field(called, made.type, metadata=metadata)]
        columns = [made if isinstance(made, pa.ChunkedArray) else pa.chunked_array([made])]
    if len(columns[0]) != rows:
        raise DataError(
            f"The data has {rows:,} rows and the target {len(columns[0]):,}.", "Give one target for each row."
        )
    return fields, columns


def _is_one_shape(rows: Sequence[Any]) -> bool:
    """Whether lists are an array of numbers."""
    try:
        return np.asarray(rows).dtype.kind in "biuf"
    except ValueError:
        return False
