"""Parting a source into features and target."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError, did_you_mean
from maas_magics.core.data.arrow import (
    Array,
    as_text,
    is_length,
    is_moment,
    is_number,
    is_text,
    numbers,
    read_numbers,
    tensors,
)
from maas_magics.core.data.labels import is_decimal
from maas_magics.core.data.nested import is_listed
from maas_magics.core.data.numbering import counting
from maas_magics.core.data.origin import came_from, is_csv, several_labels
from maas_magics.core.data.sources import Source, open_source, typed
from maas_magics.core.data.sources.arrays import column, of_column
from maas_magics.core.data.units import Tally
from maas_magics.core.data.values import MIXED, SPELLED, mixed

TARGET = "y"
"""Name of a target that is an array."""

AS_SECONDS = "The target {!r} is {}: it is learnt and answered in seconds."


@dataclass
class Beside:
    """What is to be known of a target beside its values.

    Attributes
    ----------
    empty : str
        A sentence where texts are empty, and so no labels.
    units : dict of str to str
        For each target that is a time: a sentence about the unit that it is answered in.
    left : str
        A sentence where rows have no target, and so are left out.
    spelled : dict of str to str
        How decimals came, by how Arrow spells them.
    ignored : callable
        Answers the number that is no target, as the label that a loss ignores is none; None where there is none. Is
        asked where there are whole numbers.
    odd : str
        A sentence where a few texts stand among the numbers of a CSV file, and so are no answers.
    counting : dict of str to (int, int)
        Columns that count the rows of a table, with their first and last number.
    labels : bool
        Whether labels were asked for, which texts are.
    """

    empty: str = ""
    odd: str = ""
    labels: bool = False
    counting: dict[str, tuple[int, int]] = dataclass_field(default_factory=dict)
    left: str = ""
    spelled: dict[str, str] = dataclass_field(default_factory=dict)
    units: dict[str, str] = dataclass_field(default_factory=dict)
    ignored: Callable[[], int | None] = lambda: None
    _met: bool = False

    @cached_property
    def no_target(self) -> int | None:
        """The number that is no target."""
        return self.ignored()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that belong to the result."""
        return tuple(text for text in (self.left, self.empty, self.odd, *self.units.values()) if text)

    def meet(self, fields: Sequence[pa.Field], columns: Sequence[pa.ChunkedArray]) -> None:
        """Take in the target of some rows."""
        for field, values in zip(fields, columns, strict=True):
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            if not self.empty and is_text(kind) and pc.any(pc.equal(values.cast(kind), "")).as_py():
                self.empty = (
                    f"Rows whose target {field.name!r} is an empty text are left out: it counts as missing. "
                    "Where it is a label, write it out, such as 'none'."
                )
            if is_length(kind):
                what = "a length of time" if pa.types.is_duration(kind) else "a time of day"
                self.units[field.name] = AS_SECONDS.format(field.name, what)
            self.spelled |= json.loads((field.metadata or {}).get(SPELLED, b"{}"))

    def present(self, columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray | pa.Array:
        """Rows that have an answer: of several numbers a row, those that have all of them."""
        found = _present(columns[0])
        for other in columns[1:]:
            found = pc.and_(found, _present(other))
        whole = _whole_numbers(columns[0]) if len(columns) == 1 else None
        if whole is None or self.no_target is None or not (whole == self.no_target).any():
            return found
        self._met = True
        return pc.and_(found, pa.array(whole != self.no_target))

    def left_out(self, rows: int, kept: int, names: Sequence[str], where: str = "") -> str:
        """A sentence where some rows have no target; ``where`` tells which rows they are."""
        said = left_out(rows, kept, names, where)
        return f"{said} The loss ignores the label {self.no_target}: its rows are among them." if self._met else said


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
        Gets what is to be known of the target.

    Returns
    -------
    source : Source
    features : pyarrow.Table
    values : ndarray, shape (n,) or (n, k)
    names : tuple of str

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


def left_out(rows: int, kept: int, names: Sequence[str], where: str = "") -> str:
    """A sentence where some rows have no target; ``where`` tells which rows they are."""
    left = rows - kept
    if not left:
        return ""
    one = left == 1
    lack = f"{'has' if one else 'have'} no target" if len(names) == 1 else f"{'lacks' if one else 'lack'} a target"
    return f"{left:,} of {rows:,} {where}rows {lack} and {'is' if one else 'are'} left out."


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
    tally = Tally()
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
            f"Rows whose target {field.name!r} is no number ({shown}) are left out: all others are. "
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


def answered(
    table: pa.Table, names: Sequence[str], columns: Sequence[pa.ChunkedArray], beside: Beside | None = None
) -> tuple[pa.Table, Array]:
    """Features and target of the rows whose target is there, which may be none.

    Parameters
    ----------
    table : pyarrow.Table
        Features.
    names : sequence of str
    columns : sequence of pyarrow.ChunkedArray
        The target.
    beside : Beside, optional
        Tells what number is no target.

    Returns
    -------
    features : pyarrow.Table
    values : ndarray, shape (n,) or (n, k)
    """
    columns = [_answers(values) for values in columns]
    if not table.num_columns:
        raise DataError("The data has no column beside the target.", "Give at least one column of features.")
    present = (beside or Beside()).present(columns)
    kept = pc.sum(present).as_py() or 0
    if not kept:
        return table.slice(0, 0), np.empty(0)
    if kept < table.num_rows:
        table, columns = table.filter(present), [values.filter(present) for values in columns]
    values = [_values(name, item) for name, item in zip(names, columns, strict=True)]
    if len(values) > 1:
        return table, _side_by_side(values)
    only = values[0]
    return table, only[:, 0] if only.ndim == 2 and only.shape[1] == 1 else only


def _side_by_side(columns: list[Array]) -> Array:
    """Targets of one row in one row (n, k). Zeros and ones beside truth values are truth values too."""
    columns = [values.astype(np.float64) if is_decimal(values) else values for values in columns]
    kinds = {values.dtype.kind for values in columns}
    if "b" in kinds and kinds <= set("biuf") and all(((v == 0) | (v == 1)).all() for v in columns):
        columns = [values.astype(bool) for values in columns]
    return np.stack(columns, axis=1)


def _whole_numbers(values: pa.ChunkedArray) -> Array | None:
    """The numbers of a column, one a row, where all that are there are whole."""
    if isinstance(values.type, pa.FixedShapeTensorType):
        found = tensors(values)
        if found.dtype.kind not in "iuf" or found[:1].size != 1:
            return None
        found = found.reshape(-1)
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        found = np.asarray(values.to_numpy())
    else:
        return None
    there = found[~np.isnan(found)] if found.dtype.kind == "f" else found
    return found if there.dtype.kind != "f" or bool((there == np.floor(there)).all()) else None


def _present(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Rows that have an answer: of several numbers a row, those that have all of them."""
    if not isinstance(values.type, pa.FixedShapeTensorType):
        return pc.invert(pc.is_null(values, nan_is_null=True))
    found = tensors(values)
    axes = tuple(range(1, found.ndim))
    return pa.chunked_array(
        [
            pa.array(
                np.asarray(~np.isnan(found).any(axis=axes))
                if found.dtype.kind == "f"
                else np.ones(len(found), dtype=bool)
            )
        ]
    )


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
        if listed and not _is_one_shape(target):
            raise _lists(called)
        values = of_column(target)
        if getattr(values, "ndim", 1) > 2:
            raise DataError(
                f"The target has shape {values.shape}; one or two axes were expected.", "Reshape it: .reshape(n, -1)"
            )
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


def _answers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Target without dictionaries, and with missing values for empty texts."""
    kind = values.type
    if pa.types.is_dictionary(kind) and not is_text(kind.value_type):
        return values.cast(kind.value_type)
    return as_text(values) if is_text(kind) else values


def _values(name: str, values: pa.ChunkedArray) -> Array:
    """Target column as numpy: text as str objects, decimals as such, numbers of their own type, times as seconds."""
    kind = values.type
    if isinstance(kind, pa.FixedShapeTensorType):
        found = tensors(values)
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise DataError(f"The target {name!r} holds missing or infinite values.", "Drop those rows.")
        if found.ndim > 2:
            raise DataError(
                f"The target {name!r} has rows of shape {found.shape[1:]}.", "Give a number or a row of numbers."
            )
        return found
    if pa.types.is_boolean(kind):
        return np.asarray(values.to_numpy(), dtype=bool)
    if is_text(kind):
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=object)
    if pa.types.is_integer(kind):
        return np.asarray(values.to_numpy())
    if pa.types.is_decimal(kind):
        decimals = np.empty(len(values), dtype=object)
        decimals[:] = values.to_pylist()
        return decimals
    if is_number(kind):
        found = np.asarray(values.to_numpy()) if pa.types.is_floating(kind) else numbers(values)
        if np.isinf(found).any():
            raise DataError(f"The target {name!r} holds infinite values.", "Drop those rows.")
        return found
    if is_moment(kind):
        raise DataError(
            f"The target {name!r} holds dates, which are neither labels nor quantities.",
            "Turn them into numbers, such as days since the first, or into text to have each taken for a label.",
        )
    if is_listed(kind):
        raise _lists(name, kind)
    raise DataError(f"The target {name!r} holds {kind}, which cannot be learnt.", "Give labels or numbers.")


def _lists(name: str, kind: pa.DataType | None = None) -> DataError:
    """What is to be said of a target of lists."""
    what = f"lists ({kind})" if kind is not None else "lists of different lengths, or of texts"
    return DataError(
        f"The target {name!r} holds {what}; one column of 0 and 1 for each label was expected.", several_labels(name)
    )
