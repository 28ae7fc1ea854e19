"""What columns beside the target are for: features or not, weights of rows, and which rows are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError, OptionError, did_you_mean
from maas_magics.api.requests import is_named_split
from maas_magics.api.specs import DataSpec
from maas_magics.core.data.arrow import Array, dates, is_number, is_text, numbers
from maas_magics.core.data.origin import as_dates, with_weights

SHARE = 0.15
"""Share of the rows that is held out by default."""


@dataclass(frozen=True)
class NamedSplit:
    """Which rows are held out, by a column.

    Attributes
    ----------
    kind : {"time", "group"}
        The latest rows, or whole groups of rows.
    column : str
    share : float
        Of the rows, 0 < share < 1.
    """

    kind: str
    column: str
    share: float


@dataclass(frozen=True)
class Roles:
    """Columns that a request names beside its target.

    Attributes
    ----------
    drop : tuple of str
    features : tuple of str
        The only ones that are features; all others where there are none.
    weights : str or None
    split : NamedSplit or None
    """

    drop: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    weights: str | None = None
    split: NamedSplit | None = None

    def parted(self, table: pa.Table, *, held: bool = False) -> tuple[pa.Table, Array | None, pa.ChunkedArray | None]:
        """Features of some rows, their weights, and what they are split by.

        Parameters
        ----------
        table : pyarrow.Table
            Every column but the target's.
        held : bool
            Rows of a table of its own that are held out, whose columns may be fewer.

        Raises
        ------
        DataError
            If a column is absent, the weights are none, or no feature is left.
        """
        there = table.column_names
        split = self.split
        named = [*self.drop, *self.features, *((self.weights,) if self.weights is not None else ())]
        named += [split.column] if split else []
        absent = next((name for name in named if name not in there), None)
        if absent is not None and not (held and absent in self.drop):
            raise DataError(f"The data has no column {absent!r} beside the target.", did_you_mean(absent, there))
        weights = None if self.weights is None else weights_of(self.weights, table.column(self.weights))
        key = None if split is None else table.column(split.column)
        out = {*self.drop, self.weights}
        kept = [name for name in there if name not in out and (not self.features or name in self.features)]
        if not kept:
            raise DataError("No column is left to be a feature.", "Drop fewer columns, or name other --features.")
        return table.select(kept), weights, key


def roles_of(data: DataSpec) -> Roles:
    """The roles of columns.

    Raises
    ------
    OptionError
    """
    found = Roles(_names(data.drop), _names(data.features), data.weights, named_split(data.validation))
    both = next((name for name in found.features if name in (*found.drop, found.weights)), None)
    if both is not None:
        raise OptionError(f"{both!r} is named as a feature, and as one to drop.", "Name it in one of them.")
    return found


def named_split(asked: object) -> NamedSplit | None:
    """The split that ``time:COLUMN``, ``group:COLUMN:SHARE`` name; None for a share or for rows of their own.

    Raises
    ------
    OptionError
        If it names no column, or a share that leaves no rows.
    """
    if not isinstance(asked, str) or not is_named_split(asked):
        return None
    kind, _, rest = asked.partition(":")
    column, colon, last = rest.rpartition(":")
    share = SHARE
    try:
        given = float(last) if colon else None
    except ValueError:
        given = None
    if given is None:
        column = rest
    elif not 0 < given < 1:
        raise OptionError(f"A share of {given:g} cannot be held out.", f"--validation {kind}:{column}:0.2")
    else:
        share = given
    if not column:
        raise OptionError(f"{asked!r} names no column.", f"--validation {kind}:COLUMN, or {kind}:COLUMN:0.2")
    return NamedSplit(kind, column, share)


def _names(asked: str | Sequence[str]) -> tuple[str, ...]:
    return (asked,) if isinstance(asked, str) else tuple(asked)


def weights_of(name: str, values: pa.ChunkedArray) -> Array:
    """Weights of rows, float64 (n,).

    Raises
    ------
    DataError
        If they are not numbers from 0.
    """
    if not is_number(values.type):
        raise DataError(
            f"The weights {name!r} are {values.type}; numbers from 0 were expected.", "Give another column."
        )
    found = np.array(numbers(values))  # a copy: torch takes no array that cannot be written
    bad = int((~np.isfinite(found) | (found < 0)).sum())
    if bad:
        raise DataError(
            f"The weights {name!r} are missing, negative or infinite in {bad:,} rows; numbers from 0 were expected.",
            with_weights(name),
        )
    return found


def mean_weight(name: str, total: float, rows: int) -> float:
    """Mean weight of the rows that are trained on.

    Raises
    ------
    DataError
        If it is nothing.
    """
    if rows and not total:
        raise DataError(
            f"The weights {name!r} of the rows to learn from are all 0.", "Give some rows a weight above 0."
        )
    return total / max(rows, 1)


def times(name: str, values: pa.ChunkedArray) -> Array:
    """Times of rows as values that grow, (n,): whole numbers as such, decimals as objects, else float64.

    Raises
    ------
    DataError
        If they are none, or some are missing.
    """
    kind = values.type
    if is_text(kind):
        found = dates(values)
        if found is None:
            raise DataError(f"The column {name!r} holds texts that are not times.", as_dates(name))
        return _nanoseconds(found) if not found.null_count else times(name, found)
    temporal = pa.types.is_temporal(kind)
    if not temporal and not is_number(kind):
        raise DataError(f"The column {name!r} holds {kind}, which is not a time.", "Name a column of times or numbers.")
    missing = pc.sum(pc.is_null(values, nan_is_null=True)).as_py() or 0
    if missing:
        raise DataError(
            f"The column {name!r} is missing in {missing:,} rows, which are neither early nor late.", "Drop those rows."
        )
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return np.asarray(values.to_numpy())
    if not temporal:
        return np.asarray(numbers(values), np.float64)
    wide = pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else pa.int64()
    return np.asarray(values.cast(wide).to_numpy(), np.int64)


def _nanoseconds(values: pa.ChunkedArray) -> Array:
    """Moments as nanoseconds since 1970: texts of some rows may be finer than those of others."""
    whole = np.asarray(values.cast(pa.int64()).to_numpy())
    if values.type.unit == "ns":
        return whole
    return whole * 1000 if np.abs(whole).max(initial=0) < 2**63 // 1000 else whole.astype(object) * 1000


def threshold(name: str, found: Array, share: float) -> Any:
    """Time from which on rows are held out: the earliest one that leaves no more than the share, or nearly.

    Rows of one time stay together.

    Raises
    ------
    DataError
        If all rows have one time.
    """
    each, counts = np.unique(found, return_counts=True)
    if len(each) < 2:
        raise DataError(f"The column {name!r} holds one time only; no rows are later.", "--validation 0.2")
    held = counts[::-1].cumsum()[::-1][1:]  # rows from each time on, but for the first
    return each[1:].tolist()[int(np.abs(held - share * len(found)).argmin())]


def keys(values: pa.ChunkedArray, seed: int) -> Array:
    """A number for each row, the same for all rows of a group, uint64 (n,): where it stands in an order by chance."""
    if pa.types.is_nested(values.type) or isinstance(values.type, pa.BaseExtensionType):
        raise DataError(
            f"The column of groups is of type {values.type}; labels or numbers were expected.",
            "Name a column of labels: --validation group:COLUMN",
        )
    encoded = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(encoded, pa.ChunkedArray):
        encoded = pa.concat_arrays(encoded.chunks)
    if not pa.types.is_dictionary(encoded.type):
        encoded = pc.dictionary_encode(encoded, null_encoding="encode")
    own = np.array([_key(value, seed) for value in encoded.dictionary.to_pylist()] or [0], np.uint64)
    index = encoded.indices.fill_null(0).to_numpy()
    found = own[index]
    empty = encoded.indices.is_null().to_numpy(zero_copy_only=False)
    return np.asarray(np.where(empty, np.uint64(_key(None, seed)), found))


def _key(value: object, seed: int) -> int:
    told = f"{seed} {type(value).__name__} {value!r}" if value is not None else f"{seed}"
    return int.from_bytes(hashlib.blake2b(told.encode(), digest_size=8).digest(), "little")


def groups_held(name: str, counts: dict[int, int], share: float) -> Array:
    """Keys of the groups that are held out: the first of the order, as many as come nearest to the share of the rows.

    Raises
    ------
    DataError
        If there is one group only.
    """
    if len(counts) < 2:
        raise DataError(f"The column {name!r} holds one group only; none can be held out.", "--validation 0.2")
    each = np.array(sorted(counts), np.uint64)
    rows = np.array([counts[int(key)] for key in each]).cumsum()[:-1]  # one group at least is trained on
    return each[: int(np.abs(rows - share * sum(counts.values())).argmin()) + 1]


def held_by(split: NamedSplit, values: pa.ChunkedArray, seed: int) -> Array:
    """Which of all rows are held out, bool (n,)."""
    if split.kind == "time":
        found = times(split.column, values)
        return np.asarray(found >= threshold(split.column, found, split.share))
    own = keys(values, seed)
    each, counts = np.unique(own, return_counts=True)
    told = dict(zip(each.tolist(), counts.tolist(), strict=True))
    return np.isin(own, groups_held(split.column, told, split.share))
