"""The columns of rows that become the inputs of a graph."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.nested import is_listed
from maas_magics.core.data.sources import ARRAY
from maas_magics.core.features.modalities.given import GivenFeature, given
from maas_magics.core.importers.onnx.source import GraphInput


@dataclass(frozen=True)
class Taken:
    """An input, and the columns that it is made of.

    Attributes
    ----------
    input : GraphInput
    features : tuple of GivenFeature
        Several where each is one column of a matrix.
    """

    input: GraphInput
    features: tuple[GivenFeature, ...]

    @property
    def joined(self) -> bool:
        """Whether columns are laid side by side."""
        return len(self.features) > 1 or (len(self.features) == 1 and self.features[0].row != self.input.row)

    def array(self, raw: Sequence[Array]) -> Array:
        """The input, of the raw arrays of its columns.

        Parameters
        ----------
        raw : sequence of ndarray, shape (n, …)
            One for each feature.
        """
        return np.concatenate([values.reshape(len(values), -1) for values in raw], axis=1) if self.joined else raw[0]


def columns_of(inputs: Sequence[GraphInput], table: pa.Table | None, arrays: bool, column: str | None) -> list[Taken]:
    """Which columns become which inputs: by their names, else a matrix by the order of the columns that are left.

    Parameters
    ----------
    inputs : sequence of GraphInput
        Of the graph, in its order.
    table : pyarrow.Table or None
        Sample rows, without a target.
    arrays : bool
        Whether the rows came as one array without a name.
    column : str or None
        What the only input is to be called.

    Raises
    ------
    DataError
        If the columns do not fit the inputs.
    """
    if table is None or (arrays and table.num_columns == 1 and len(inputs) == 1):
        names = [column] if column and len(inputs) == 1 else [one.name for one in inputs]
        return [_whole(one, name) for one, name in zip(inputs, names, strict=True)]
    there = table.column_names
    found = {one.name: name for one in inputs if (name := _named(one.name, there)) is not None}
    left = [one for one in inputs if one.name not in found]
    if not left:
        return [_whole(one, found[one.name]) for one in inputs]
    rest = [name for name in there if name not in found.values()]
    if len(left) > 1:
        raise DataError(
            f"The sample has no columns {', '.join(repr(one.name) for one in left[:5])}, which the graph takes.",
            f"It takes: {', '.join(repr(one.name) for one in inputs[:12])}.",
        )
    one = left[0]
    if len(rest) == 1 and _fits_whole(one, table.column(rest[0])):
        return [_whole(each, found.get(each.name, rest[0])) for each in inputs]
    if len(one.row) != 1 or one.row[0] not in (-1, len(rest)) or not rest:
        raise _uncounted(one, rest)
    made = tuple(given(name, one.dtype, (1,)) for name in rest)
    return [Taken(each, made) if each is one else _whole(each, found[each.name]) for each in inputs]


def wanted_texts(inputs: Sequence[GraphInput]) -> list[str]:
    """Names of the columns that are texts to a graph, whatever they look like in a file.

    Parameters
    ----------
    inputs : sequence of GraphInput
        Of the graph.
    """
    return [one.name for one in inputs if one.dtype == "object"]


def _whole(one: GraphInput, name: str) -> Taken:
    return Taken(one, (given(name, one.dtype, one.row),))


def _named(name: str, there: Collection[str]) -> str | None:
    """The column of an input's name; makers of graphs write ``_`` for what is no letter."""
    if name in there:
        return name
    alike = [each for each in there if re.sub(r"\W", "_", each) == re.sub(r"\W", "_", name)]
    return alike[0] if len(alike) == 1 else None


def _fits_whole(one: GraphInput, values: pa.ChunkedArray) -> bool:
    arrays = isinstance(values.type, pa.FixedShapeTensorType) or is_listed(values.type)
    return arrays if one.row not in ((), (1,)) else not arrays


def _uncounted(one: GraphInput, rest: Sequence[str]) -> DataError:
    shape = ", ".join("any" if size < 0 else str(size) for size in one.row)
    shown = ", ".join(map(repr, rest[:8])) + (", …" if len(rest) > 8 else "")
    takes = f"The graph takes {one.name!r}, rows of shape ({shape}); the sample has {len(rest)} columns for it"
    more = len(one.row) == 1 and len(rest) == one.row[0] + 1
    if rest == [ARRAY]:
        return DataError(f"{takes}.", f"Give an array of shape (n, {shape}).")
    return DataError(
        f"{takes}: {shown}." if rest else f"{takes}.",
        f"If one has the answers, name it: --target {rest[-1]}" if more else "Give the columns that it was made for.",
    )
