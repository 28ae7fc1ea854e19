"""Where rows that are only passing by are cut into those that are trained on and those that are held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array, is_text
from maas_magics.core.data.reservoir import Reservoir, draws
from maas_magics.core.data.roles import NamedSplit, groups_held, keys, threshold, times

MOST_GROUPS = 2_000_000
"""Groups that are counted at most."""


class Cut:
    """Which rows a named split holds out; found in one reading of its column.

    Parameters
    ----------
    split : NamedSplit
    seed : int
    rows : int
        Times that are looked at, at most: where there are more, the share that is held out is that of a sample.
    """

    def __init__(self, split: NamedSplit, seed: int, rows: int) -> None:
        self._split, self._seed, self._rows = split, seed, rows
        self._from: Any = 0
        self._held: Array = np.empty(0, np.uint64)

    def find(self, parts: Iterable[pa.ChunkedArray]) -> bool:
        """Read the column; False if its type became another one half-way, and it must be read again.

        Raises
        ------
        DataError
            If it leaves no rows to hold out.
        """
        name, share = self._split.column, self._split.share
        if self._split.kind == "time":
            sample, start, kind = Reservoir(self._rows), 0, None
            for values in parts:
                if kind not in (None, values.type):
                    return False
                kind = values.type
                found = times(name, values)
                # Decimals and texts have a type of Arrow's as a whole column only.
                kept = values if found.dtype == object or is_text(kind) else pa.chunked_array([found])
                sample.add(pa.table({"": kept}), draws(start, len(found), self._seed, 2))
                start += len(found)
            table = sample.table()
            self._from = threshold(name, np.empty(0) if table is None else times(name, table.column("")), share)
            return True
        counts: Counter[int] = Counter()
        for values in parts:
            each, rows = np.unique(keys(values, self._seed), return_counts=True)
            counts.update(dict(zip(each.tolist(), rows.tolist(), strict=True)))
            if len(counts) > MOST_GROUPS:
                raise DataError(f"The column {name!r} holds more than {MOST_GROUPS:,} groups.", "--validation 0.2")
        self._held = groups_held(name, counts, share)
        return True

    def __call__(self, values: pa.ChunkedArray) -> Array:
        """Which of some rows are held out, bool (n,)."""
        if self._split.kind == "time":
            return np.asarray(times(self._split.column, values) >= self._from)
        return np.isin(keys(values, self._seed), self._held)
