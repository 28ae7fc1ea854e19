"""What each column of features is, fitted on the training rows and saved as JSON.

`maas_magics.core.data.fitting.fit` looks at an Arrow table once; `Columns.encode` turns any later table into the raw
arrays that a model's graph takes, and is all that happens to data outside the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError, did_you_mean
from maas_magics.api.signature import DATATYPES, TensorSpec
from maas_magics.core.data.arrow import Array as Array
from maas_magics.core.data.encode import encode
from maas_magics.core.data.kinds import IDENTIFIER as IDENTIFIER
from maas_magics.core.data.kinds import MOST_CATEGORIES as MOST_CATEGORIES
from maas_magics.core.data.kinds import NAT as NAT
from maas_magics.core.data.kinds import RARE as RARE
from maas_magics.core.data.kinds import Category as Category
from maas_magics.core.data.kinds import Column as Column
from maas_magics.core.data.kinds import Moment as Moment
from maas_magics.core.data.kinds import Numeric as Numeric
from maas_magics.core.data.kinds import Tensor as Tensor
from maas_magics.core.data.kinds import codes as codes
from maas_magics.core.data.sources import ARRAY


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


class Columns(msgspec.Struct, frozen=True):
    """The columns a model takes, in order."""

    columns: tuple[Column, ...]

    def of(self, kind: type[Any]) -> list[Any]:
        """Columns of one kind, in order."""
        return [column for column in self.columns if isinstance(column, kind)]

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Raw inputs of a model with these columns."""
        return tuple(_spec(column) for column in self.columns)

    def encode(self, table: pa.Table) -> list[Array]:
        """Raw arrays of a table, in the order and with the types of `specs`.

        Raises
        ------
        DataError
            If a column is missing or holds another kind of value than in training.
        """
        table = self._respaced(table)
        there = set(table.column_names)
        absent = [column.name for column in self.columns if column.name not in there]
        if absent:
            shown = ", ".join(map(repr, absent[:5])) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
            raise DataError(
                f"The data lacks {'column' if len(absent) == 1 else 'columns'} {shown}.",
                self._instead(absent[0], table.column_names),
            )
        return [encode(column, table.column(column.name)) for column in self.columns]

    def _respaced(self, table: pa.Table) -> pa.Table:
        """The table with the names that a model knows, where they differ by the spaces around them only."""
        takes = {column.name.strip(): column.name for column in self.columns}
        there = {name.strip(): name for name in table.column_names}
        new = {came: takes[bare] for bare, came in there.items() if bare in takes and came != takes[bare]}
        new = {came: name for came, name in new.items() if name not in table.column_names}
        if not new or len(takes) < len(self.columns) or len(there) < table.num_columns:
            return table
        return table.rename_columns([new.get(name, name) for name in table.column_names])

    def _instead(self, absent: str, there: Sequence[str]) -> str:
        """What to type in place of a column that the data lacks: a near name, else what there is."""
        takes = [column.name for column in self.columns]
        near = did_you_mean(absent, set(there) - set(takes))
        if near.startswith("Did you mean"):
            return near
        if set(there) <= {*takes, ARRAY}:
            return f"The model takes: {_listed(takes)}."
        return f"There is: {_listed(there)}."

    @property
    def texts(self) -> list[str]:
        """Names of the columns of text."""
        return [column.name for column in self.columns if isinstance(column, Category)]

    def blank(self, raw: Sequence[Array]) -> Array:
        """Rows of raw arrays none of whose values tells anything: each is missing, or a text that is unknown.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        found = np.ones(len(raw[0]), dtype=bool)
        pairs = zip(self.columns, raw, strict=True)
        for column, values in sorted(pairs, key=lambda pair: isinstance(pair[0], Category)):  # the costly ones last
            match column:
                case Numeric():
                    found &= ~np.isfinite(values).any(axis=1)
                case Moment():
                    found &= values[:, 0] == NAT
                case Category():
                    found[found] = codes(column, values[found])[:, 0] == 0
                case Tensor():
                    found[:] = False
            if not found.any():
                break
        return found


def _spec(column: Column) -> TensorSpec:
    match column:
        case Numeric(name, 1, seconds=seconds):
            return TensorSpec(name, "FP64", (-1, 1), ("seconds; " if seconds else "") + "missing: NaN")
        case Numeric(name, width, exact=exact):
            return TensorSpec(name, "FP64" if exact else "FP32", (-1, width), "missing: NaN")
        case Moment(name):
            return TensorSpec(name, "INT64", (-1, 1), _unit(column))
        case Category(name):
            return TensorSpec(name, "BYTES", (-1, 1), "missing: the empty text")
        case Tensor(name, shape, dtype):
            return TensorSpec(name, DATATYPES[dtype], (-1, *shape))
    raise AssertionError(column)


def _unit(column: Moment) -> str:
    if column.zone is None:
        learnt = ""
    elif column.zone:
        learnt = f" (learnt as times in {column.zone})" if column.zone != "UTC" else ""
    else:
        learnt = " (learnt as times without a zone, taken as UTC)"
    return f"microseconds since 1970-01-01 00:00 UTC{learnt}; missing: {NAT}"
