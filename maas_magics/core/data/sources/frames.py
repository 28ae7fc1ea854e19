"""Tables of pandas, polars, pyarrow, duckdb and anything with an Arrow stream."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.sources import Answers, as_arrow, as_pandas, comes_from, plain, sources
from maas_magics.core.data.values import mixed, objects

LIBRARIES = {"pandas": ("pandas",), "polars": ("polars",), "duckdb": ("duckdb", "_duckdb")}
"""Top-level packages whose types each library's tables are."""


BEYOND_ARROW = ("Object", "Int128", "UInt128")
"""Types of polars' columns that Arrow has none for."""


class FrameSource:
    """A table in memory."""

    arrays = False

    def __init__(self, data: Any, origin: str = "") -> None:
        self._kind = next(
            (name for name, packages in LIBRARIES.items() if comes_from(data, *packages)),
            "pyarrow",
        )
        self.origin = origin or ("polars" if self._kind == "polars" else "table")
        if self._kind == "pandas":
            if data.ndim == 1:
                data = data.to_frame(data.name if data.name is not None else "value")
        elif self._kind == "polars":
            data = data.collect() if hasattr(data, "collect") else data
            data = data if hasattr(data, "columns") else data.to_frame()
        else:
            data = _arrow(data)
        self._data = data
        self._plain = self._kind == "pandas" and all(
            isinstance(dtype, np.dtype) and dtype.kind in "biufM" for dtype in data.dtypes
        )
        """Whether pandas holds nothing but numbers and moments, which Arrow takes all at once."""
        self.rows: int | None = len(data)
        if not self._columns():
            raise DataError("The table has no columns.", "Give a table with at least one column of features.")

    def _columns(self) -> list[str]:
        if self._kind == "pandas":
            return [str(column) for column in self._data.columns]
        return list(self._data.schema.names) if isinstance(self._data, pa.Table) else list(self._data.columns)

    def table(self) -> pa.Table:
        """All rows."""
        return plain(self._slice(0, self.rows or 0), whole=True)

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """All rows, at most ``rows`` at a time."""
        for start in range(0, max(self.rows or 0, 1), rows):
            yield self._slice(start, min(start + rows, self.rows or 0))

    def _slice(self, start: int, stop: int) -> pa.Table:
        names = self._columns()
        if len(set(names)) < len(names):
            doubled = next(name for name in names if names.count(name) > 1)
            raise DataError(f"The table has more than one column named {doubled!r}.", "Rename one of them.")
        if self._kind == "pandas":
            # Whole numbers for names: pandas takes many times longer to look up a column by text.
            part = self._data.iloc[start:stop].set_axis(range(len(names)), axis=1)
            if self._plain:
                return pa.Table.from_pandas(part, preserve_index=False, nthreads=1).rename_columns(names)
            return _table(names, [_pandas_column(part.iloc[:, i]) for i in range(len(names))])
        if self._kind == "polars":
            return _polars_table(self._data[start:stop])
        return plain(self._data.slice(start, stop - start))

    def restore(self, columns: Answers) -> Any:
        """Answers as a table of the same library; a pandas index is kept."""
        if self._kind == "pandas":
            return as_pandas(columns, self._data.index)
        if self._kind == "polars":
            import polars as pl

            return pl.from_arrow(as_arrow(columns))
        table = as_arrow(columns)
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
        try:
            return pa.table(data)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            told = str(error).splitlines()[0]
            raise DataError(
                f"The table cannot be read as Arrow: {told}", "Convert its column to another type."
            ) from None
    method = next((name for name in ("to_arrow_table", "fetch_arrow_table") if hasattr(data, name)), None)
    if method is None:
        raise DataError(f"Cannot read data of type {type(data).__qualname__}.", "Give a table or a result.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duckdb advises against what is the only way to read a result
        return getattr(data, method)()


Column = tuple[pa.Array | pa.ChunkedArray, dict[bytes, bytes] | None]
"""A column, and the metadata of its field."""


def _table(names: list[str], columns: list[Column]) -> pa.Table:
    fields = [
        pa.field(name, values.type, metadata=metadata) for name, (values, metadata) in zip(names, columns, strict=True)
    ]
    return pa.table([values for values, _ in columns], schema=pa.schema(fields))


def _polars_table(part: Any) -> pa.Table:
    odd = [name for name, kind in part.schema.items() if str(kind) in BEYOND_ARROW]
    if not odd:
        return plain(_arrow(part))
    whole = plain(_arrow(part.drop(odd))) if len(odd) < part.width else None
    columns = [
        _objects(part[name].to_list()) if name in odd or whole is None else (whole.column(name), None)
        for name in part.columns
    ]
    return _table(list(part.columns), columns)


def _objects(values: list[Any]) -> Column:
    made = objects(values)
    return made, mixed(made, values)


def _pandas_column(series: Any) -> Column:
    """Column as Arrow; pandas' own kinds that Arrow has no numbers for go as moments, dense numbers, or objects."""
    if hasattr(series.array, "to_timestamp"):
        series = series.dt.to_timestamp()
    if series.dtype == object:
        return _objects(series.tolist())
    try:
        values = pa.array(series, from_pandas=True)
        kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        if not isinstance(kind, pa.BaseExtensionType):
            return values, None
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        dense = series.to_numpy()
        if dense.dtype.kind in "biuf":
            return pa.array(dense, from_pandas=True), None
    return _objects(series.astype(object).tolist())


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
