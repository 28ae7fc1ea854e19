"""Columns of lists, records, bytes and the like, which models do not take."""

from __future__ import annotations

from typing import Self

import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import is_length, is_number
from maas_magics.core.data.nested import is_listed
from maas_magics.core.features.base import Feature
from maas_magics.core.features.fitting import FitConfig, Tell


class RefusedProfile:
    """Says of a column that no model takes it, unless nothing is in it.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        What it is fitted for.
    """

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        self.name, self.kind, self.fit = field.name, field.type, fit
        self._some = False

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """Anything."""
        return True

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""
        self._some = self._some or values.null_count < len(values)

    def merge(self, other: Self) -> None:
        """Take in what was found in other rows."""
        self._some = self._some or other._some

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> Feature | None:
        """Nothing, where nothing is in it."""
        if self._some or not self.fit.joined:
            raise not_taken(self.name, self.kind, "model here" if self.fit.joined else "module")
        notify(f"Column {self.name!r} is empty and is left out.")
        return None


def not_taken(name: str, kind: pa.DataType, who: str) -> DataError:
    """The error for such a column, with what to do."""
    if is_listed(kind):
        inner = kind
        while is_listed(inner):
            inner = inner.value_type
        if is_number(inner) and not is_length(inner):
            return DataError(
                f"Column {name!r} holds {kind}, lists of several lengths; arrays of one shape were expected.",
                f"Pad or cut them to one length, or leave the column out: --drop {name}",
            )
        return DataError(
            f"Column {name!r} holds {kind}, which no {who} takes.",
            f"Turn it into numbers or text, such as a column of 0 and 1 for each label, or leave it out: --drop {name}",
        )
    return DataError(
        f"Column {name!r} holds {kind}, which no {who} takes.",
        f"Turn it into columns of numbers or text, or leave it out: --drop {name}",
    )
