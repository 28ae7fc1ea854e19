"""Columns of whole numbers that count the rows: their numbers, or names of single ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.core.data.arrow import Array

LEAST = 20
"""Rows from which whole numbers in a row are taken to count them."""

_PART = 1_000_000
_NAMES = frozenset({"id", "ids", "index", "idx", "row", "nr", "no", "num", "number", "nummer", "key", "unnamed"})
_ENDINGS = ("id", "nr", "index", "row", "number", "nummer")


class ConsecutiveRun:
    """Whether whole numbers are consecutive ones, each there once, in any order; given in parts."""

    def __init__(self) -> None:
        self.rows = 0
        self.low: int | None = None
        self.high = 0
        self._sum = 0
        self._gaps = False

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""
        self._gaps = self._gaps or values.null_count > 0
        if self._gaps or not len(values):
            return
        ends = pc.min_max(values)
        low, high = ends["min"].as_py(), ends["max"].as_py()
        self.low, self.high = (low, high) if self.low is None else (min(self.low, low), max(self.high, high))
        self.rows += len(values)
        self._sum += _mixed(values.to_numpy())

    @property
    def counts(self) -> bool:
        """Whether they are so many in a row."""
        if self._gaps or self.low is None or self.rows < LEAST or self.high - self.low + 1 != self.rows:
            return False
        if self.high >= 2**63:
            return False
        starts = range(self.low, self.high + 1, _PART)
        whole = sum(_mixed(np.arange(start, min(start + _PART, self.high + 1))) for start in starts)
        return whole % 2**64 == self._sum % 2**64


def _mixed(values: Array) -> int:
    """Sum of numbers each of which is mixed so that other numbers have another sum."""
    found = values.astype(np.int64, copy=False).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return int((found ^ (found >> np.uint64(27))).sum(dtype=np.uint64))


class ConsecutiveRuns:
    """A `ConsecutiveRun` for each column of whole numbers."""

    def __init__(self) -> None:
        self._runs: dict[str, ConsecutiveRun] = {}

    def add(self, table: pa.Table) -> None:
        """Take in some rows."""
        for field, values in zip(table.schema, table.columns, strict=True):
            if pa.types.is_integer(field.type):
                self._runs.setdefault(field.name, ConsecutiveRun()).add(values)

    @property
    def found(self) -> dict[str, tuple[int, int]]:
        """First and last number of each column that counts the rows."""
        return {name: (run.low or 0, run.high) for name, run in self._runs.items() if run.counts}


def counting(table: pa.Table) -> dict[str, tuple[int, int]]:
    """First and last number of each column of a table that counts its rows."""
    runs = ConsecutiveRuns()
    for field, values in zip(table.schema, table.columns, strict=True):
        if table.num_rows >= LEAST and pa.types.is_integer(field.type) and not values.null_count:
            ends = pc.min_max(values)
            if ends["max"].as_py() - ends["min"].as_py() == table.num_rows - 1:
                runs.add(pa.table([values], [field.name]))
    return runs.found


def names_rows(name: str) -> bool:
    """Whether a column is called as row numbers and keys are; pandas writes its index without a name."""
    words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    return not name.strip() or bool(words & _NAMES) or name.lower().endswith(_ENDINGS)


def row_numbers(
    names: Sequence[str], counting: Mapping[str, tuple[int, int]], notify: Callable[[str], None], *, leave: bool
) -> set[str]:
    """Columns that name single rows by counting them, and so should be left out.

    Parameters
    ----------
    names : sequence of str
        The columns.
    counting : mapping of str to (int, int)
        First and last number of columns that count the rows.
    notify : callable
        Gets a sentence about each of them.
    leave : bool
        Whether a column may be left out.
    """
    found = [name for name in names if name in counting]
    out = {name for name in found if leave and names_rows(name)}
    if len(out) == len(names):
        out = set()
    for name in found:
        low, high = counting[name]
        what = f"Column {name!r} counts the rows, from {low} to {high},"
        if name in out:
            notify(f"{what} so it names single rows, and is left out. Named among the features, it is one: --features")
        else:
            notify(
                f"{what} and is a feature. Where it is their number, and nothing that is known of new rows, "
                f"leave it out: --drop {name}"
            )
    return out
