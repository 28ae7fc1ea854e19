"""Where rows come from. One file for each kind of source; a new file registers itself.

Every source yields `pyarrow.Table` chunks: plain columns for tables, fixed-shape-tensor
columns for arrays, and can put answers back into the library the rows came from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.registry import Registry

ARRAY = "x"
"""Column name of an unnamed array of features."""


class Source(Protocol):
    """Rows that can be read once as a whole or in chunks."""

    arrays: bool
    """Whether the rows are arrays, so that answers go back as arrays."""

    rows: int | None
    """How many, if that is known without reading."""

    def table(self) -> pa.Table:
        """All rows."""

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """All rows, at most ``rows`` at a time."""

    def restore(self, columns: dict[str, np.ndarray[Any, Any]]) -> Any:
        """Answers, one entry a row, in the library the rows came from."""


class Opener(Protocol):
    """What a module of this package registers."""

    def accepts(self, data: Any) -> bool:
        """Whether it can read ``data``; must not import the library it is for."""

    def open(self, data: Any) -> Source:
        """``data`` as a source."""


sources: Registry[Opener] = Registry("data source", __name__)


def open_source(data: Any) -> Source:
    """Source of ``data``.

    Raises
    ------
    DataError
        If no registered source reads it.
    """
    for name in sources:
        opener = sources.get(name)
        if opener.accepts(data):
            return opener.open(data)
    raise DataError(
        f"Cannot read data of type {type(data).__module__}.{type(data).__qualname__}.",
        "Give a pandas, polars, pyarrow or duckdb table, a numpy or torch array, a dict of arrays, or a path.",
    )


def comes_from(data: Any, *packages: str) -> bool:
    """Whether the type of ``data``, or a base of it, is defined in one of ``packages``."""
    return any(base.__module__.partition(".")[0] in packages for base in type(data).__mro__)
