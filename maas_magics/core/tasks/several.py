"""Several targets, a head for each: what of them was requested, and their values as the fields of records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.sources import Source, open_source, typed
from maas_magics.core.data.target import named, part, target_names
from maas_magics.core.data.target_values import Beside, answered
from maas_magics.core.networks.outputs import is_unnamed
from maas_magics.core.tasks.base import Family, Task, TaskName
from maas_magics.core.tasks.fit import heads_of_tasks
from maas_magics.core.tasks.profile import TargetProfile


def heads_of(target: Any, several: bool = False) -> dict[str, Any]:
    """Target of each head by its name; none where the target is one.

    Parameters
    ----------
    target : Any
        A dict of arrays or of columns' names, or a tuple of two arrays or more, means several heads.
    several : bool
        Whether there are several, so that columns are one each.
    """
    if isinstance(target, Mapping):
        return {str(name): value for name, value in target.items()}
    if isinstance(target, tuple) and len(target) > 1 and all(hasattr(part, "shape") for part in target):
        names = [getattr(part, "name", None) for part in target]
        if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
            names = [f"y{i + 1}" for i in range(len(target))]
        return dict(zip(map(str, names), target, strict=True))
    if not several:
        return {}
    columns = target_names(target, (), -1)
    if columns:
        return {name: name for name in columns}
    if isinstance(target, pa.Table):
        return dict(zip(target.column_names, target.columns, strict=True)) if target.num_columns > 1 else {}
    shape = getattr(target, "shape", ())
    if len(shape) == 2 and hasattr(target, "columns"):
        return {str(name): target[name] for name in target.columns}
    return {}


def columns_of(heads: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Names of each head's target: its columns, or its own name where it is an array."""
    return {name: target_names(of, (), -1) or (name,) for name, of in heads.items()}


def part_heads(
    data: Any,
    heads: Mapping[str, Any],
    csv: str | None = None,
    texts: Collection[str] = (),
    notify: Callable[[Beside], None] = lambda beside: None,
) -> tuple[Source, pa.Table, Array]:
    """Features and targets of all rows.

    Parameters
    ----------
    data : Any
        Anything that a source reads.
    heads : mapping
        See `heads_of`.
    csv : str, optional
        How CSV files are written.
    texts : collection of str
        Columns that are known to be text.
    notify : callable
        Gets the notes on each head's target.

    Returns
    -------
    source : Source
        Where the rows come from.
    features : pyarrow.Table
        Columns beside the targets, n rows.
    values : ndarray, shape (n,)
        Records: a field for each head.

    Raises
    ------
    DataError
        As `maas_magics.core.data.target.part` does, and if a row lacks a target.
    """
    source = typed(open_source(data, csv), texts)
    found: dict[str, Array] = {}
    columns = columns_of(heads)
    rows, features = 0, pa.table({})
    for name, of in heads.items():
        beside = Beside()
        _, features, found[name], _ = part(source, of, None, texts, beside)
        rows = rows or source.table().num_rows
        if len(found[name]) < rows:
            raise lacking(name, rows - len(found[name]), rows)
        notify(beside)
    targets = {column for name, of in heads.items() if target_names(of, (), -1) for column in columns[name]}
    features = features.drop_columns([name for name in features.column_names if name in targets])
    return source, features, recorded(found)


def answered_heads(table: pa.Table, columns: Mapping[str, Sequence[str]]) -> tuple[pa.Table, Array, Beside]:
    """Features and targets of some rows of a file.

    Parameters
    ----------
    table : pyarrow.Table
        The rows, with the columns of every target.
    columns : mapping of str to sequence of str
        Names of each head's target.

    Returns
    -------
    features : pyarrow.Table
        Columns beside the targets, n rows.
    values : ndarray, shape (n,)
        Records: a field for each head.
    beside : Beside
        Notes on the targets.

    Raises
    ------
    DataError
        If a row lacks a target.
    """
    features, _ = named(table, [column for names in columns.values() for column in names])
    found: dict[str, Array] = {}
    notes = Beside()
    for name, of in columns.items():
        _, parts = named(table, of)
        beside = Beside()
        beside.meet([table.schema.field(column) for column in of], parts)
        _, found[name] = answered(features, of, parts, beside)
        if len(found[name]) < table.num_rows:
            raise lacking(name, table.num_rows - len(found[name]), table.num_rows)
        add_notes(notes, beside)
    return features, recorded(found), notes


class HeadsProfile:
    """What each of several targets is, from one reading of its rows.

    Parameters
    ----------
    columns : mapping of str to sequence of str
        Names of each head's target.
    tasks : mapping
        Of each, as it was requested.
    """

    def __init__(self, columns: Mapping[str, Sequence[str]], tasks: Mapping[str, TaskName | Family | None]) -> None:
        self._heads = {name: TargetProfile(of, tasks[name]) for name, of in columns.items()}

    def meet(self, values: Array, start: int) -> Array:
        """Rows, by place, that are the first of a label of any head and therefore trained on."""
        return _union(head.meet(values[name], start) for name, head in self._heads.items())

    @property
    def first(self) -> Array:
        """Places of the rows that `meet` returned."""
        return _union(head.first for head in self._heads.values())

    def add(self, values: Array, weights: Array | None = None) -> None:
        """Take in the targets of some training rows."""
        for name, head in self._heads.items():
            head.add(values[name], weights)

    def fitted(self, standardise: Callable[[str], bool]) -> Task:
        """The fitted tasks."""
        return heads_of_tasks(
            {name: head.fitted(partial(_of_head, standardise, name)) for name, head in self._heads.items()}
        )

    @property
    def extremes(self) -> Array:
        """Smallest and largest of each quantity of each head: two records, a field for each head."""
        return recorded({name: head.extremes for name, head in self._heads.items()})

    def counts(self, task: Task) -> Array:
        """Training rows of each class, by head, int64 (classes of all,)."""
        pairs = zip(self._heads.values(), task.parts, strict=True)
        return np.concatenate([head.counts(of) for head, of in pairs])


def _of_head(standardise: Callable[[str], bool], name: str, column: str) -> bool:
    """Whether a head is learnt in units of its standard deviation, which goes by its name and not by its column's."""
    return standardise(name)


def _union(places: Iterable[Array]) -> Array:
    return np.unique(np.concatenate([np.asarray(part, dtype=np.int64) for part in places]))


def lacking(name: str, rows: int, of: int) -> DataError:
    """The error for rows without one of several targets.

    Parameters
    ----------
    name : str
        The target.
    rows, of : int
        Rows that lack it, and all.
    """
    return DataError(
        f"The target {name!r} is missing in {rows:,} of {of:,} rows; of several targets, each row needs all.",
        "Leave such rows out, or train a model for each target.",
    )


def held_heads(held: Any, heads: Mapping[str, Any], csv: str | None, texts: Collection[str]) -> tuple[pa.Table, Array]:
    """Features and targets of held-out rows of their own.

    Parameters
    ----------
    held : Any
        A table with the columns of the targets, or a pair of features and targets as those that are trained on.
    heads : mapping
        See `heads_of`.
    csv : str or None
        How CSV files are written.
    texts : collection of str
        Columns that are known to be text.

    Raises
    ------
    DataError
        If they have other targets.
    """
    if isinstance(held, tuple) and len(held) == 2:
        held, target = held
        heads = given_heads(target, list(heads))
    elif not all(target_names(of, (), -1) for of in heads.values()):
        raise DataError("The validation data needs its answers too.", "--validation (Xv,ysv)")
    _, table, values = part_heads(held, heads, csv, texts)
    return table, values


def given_heads(target: Any, heads: Sequence[str]) -> dict[str, Any]:
    """Targets that someone gave, as those of some heads: by their names, or in their order.

    Raises
    ------
    DataError
        If they are others.
    """
    given = heads_of(target, several=True)
    if set(given) != set(heads) and is_unnamed(list(given)) and len(given) == len(heads):
        given = dict(zip(heads, given.values(), strict=True))
    if set(given) != set(heads):
        found = f"the targets {', '.join(given)}" if given else "one target"
        raise DataError(
            f"The data has {found}; those learnt are {', '.join(heads)}.",
            f"Give {{{', '.join(f'{name!r}: …' for name in heads)}}}, or a tuple of arrays in this order.",
        )
    return {name: given[name] for name in heads}


def add_notes(beside: Beside, of: Beside) -> None:
    """Add the notes on one target to those on all."""
    beside.empty, beside.odd, beside.left = beside.empty or of.empty, beside.odd or of.odd, beside.left or of.left
    beside.spelled |= of.spelled
    beside.units |= of.units


def recorded(values: Mapping[str, Array]) -> Array:
    """Arrays of as many rows as records, a field for each."""
    fields = [(name, of.dtype, of.shape[1:]) for name, of in values.items()]
    records = np.empty(len(next(iter(values.values()))), dtype=fields)
    for name, of in values.items():
        records[name] = of
    return records
