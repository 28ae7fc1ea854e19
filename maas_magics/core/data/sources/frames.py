"""Tables of pandas, polars, pyarrow, duckdb and anything with an Arrow stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.sources import comes_from, sources

LIBRARIES = {"pandas": ("pandas",), "polars": ("polars",), "duckdb": ("duckdb", "_duckdb")}
"""Top-level packages whose types each library's tables are."""


class FrameSource:
    """A table in memory."""

    arrays = False

    def __init__(self, data: Any) -> None:
        self._kind = next(
            (name for name, packages in LIBRARIES.items() if comes_from(data, *packages)),
            "pyarrow",
        )
        if self._kind == "pandas":
            if data.ndim == 1:
                data = data.to_frame(data.name if data.name is not None else "value")
        elif self._kind == "polars":
            data = data.collect() if hasattr(data, "collect") else data
            data = data if hasattr(data, "columns") else data.to_frame()
        else:
            data = _arrow(data)
        self._data = data
        self.rows: int | None = len(data)
        if not self._columns():
            raise DataError("The table has no columns.", "Give a table with at least one column of features.")

    def _columns(self) -> list[str]:
        if self._kind == "pandas":
            return [str(column) for column in self._data.columns]
        return list(self._data.schema.names) if isinstance(self._data, pa.Table) else list(self._data.columns)

    def table(self) -> pa.Table:
        """All rows."""
        return self._slice(0, self.rows or 0)

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """All rows, at most ``rows`` at a time."""
        for start in range(0, max(self.rows or 0, 1), rows):
            yield self._slice(start, min(start + rows, self.rows or 0))

    def _slice(self, start: int, stop: int) -> pa.Table:
        names = self._columns()
        doubled = {name for name in names if names.count(name) > 1}
        if doubled:
            raise DataError(f"The table has more than one column named {sorted(doubled)[0]!r}.", "Rename one of them.")
        if self._kind == "pandas":
            part = self._data.iloc[start:stop]
            return pa.table([_pandas_column(part.iloc[:, i], name) for i, name in enumerate(names)], names=names)
        return _arrow(self._data[start:stop] if self._kind == "polars" else self._data.slice(start, stop - start))

    def restore(self, columns: dict[str, np.ndarray[Any, Any]]) -> Any:
        """Answers as a table of the same library; a pandas index is kept."""
        if self._kind == "pandas":
            import pandas as pd

            return pd.DataFrame(columns, index=self._data.index)
        if self._kind == "polars":
            import polars as pl

            return pl.DataFrame(columns)
        table = pa.table(columns)
        if self._kind == "duckdb":
            import duckdb

            return duckdb.from_arrow(table)
        return table


def _arrow(data: Any) -> pa.Table:
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    fetched = data.fetch_arrow_table() if hasattr(data, "fetch_arrow_table") else data.arrow()
    return fetched.read_all() if isinstance(fetched, pa.RecordBatchReader) else fetched


def _pandas_column(series: Any, name: str) -> pa.Array | pa.ChunkedArray:
    try:
        return pa.array(series, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        missing = series.isna()
        try:
            return pa.array(series.astype(str).mask(missing, None), type=pa.string(), from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"Column {name!r} cannot be read: {error}", f"Drop it: .drop(columns=[{name!r}])") from None


@sources.register("frames")
class Frames:
    """Opens tables."""

    @staticmethod
    def accepts(data: Any) -> bool:
        """Arrow streams, record batches, and tables, series and results of pandas, polars and duckdb."""
        return hasattr(data, "__arrow_c_stream__") or comes_from(
            data, "pandas", "polars", "pyarrow", "duckdb", "_duckdb"
        )

    @staticmethod
    def open(data: Any) -> FrameSource:
        """Table as a source."""
        return FrameSource(data)
