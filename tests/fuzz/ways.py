"""One table, given in every way that the package takes."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
from kinds import Column

Table = Mapping[str, Column]


class CannotHold(Exception):
    """The library, not the package, cannot hold such a table."""


def as_pandas(table: Table) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(column.values) for name, column in table.items()})


def as_objects(table: Table) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(column.values, dtype=object) for name, column in table.items()})


def as_nullable(table: Table) -> pd.DataFrame:
    return as_objects(table).convert_dtypes()


def as_arrow_backed(table: Table) -> pd.DataFrame:
    return as_objects(table).convert_dtypes(dtype_backend="pyarrow")


def as_categories(table: Table) -> pd.DataFrame:
    frame = as_pandas(table)
    texts = [name for name, column in table.items() if column.kind == "words"]
    return frame.astype(dict.fromkeys(texts, "category"))


def as_polars(table: Table) -> pl.DataFrame:
    return pl.DataFrame([pl.Series(name, column.values, strict=True) for name, column in table.items()])


def as_arrow(table: Table) -> pa.Table:
    return pa.table({name: pa.array(column.values, from_pandas=True) for name, column in table.items()})


def as_duckdb(table: Table) -> Any:
    return duckdb.connect().from_arrow(as_arrow(table))


def as_dict(table: Table) -> dict[str, list[Any]]:
    return {name: list(column.values) for name, column in table.items()}


def as_rows(table: Table) -> list[dict[str, Any]]:
    columns = as_dict(table)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def as_masked(table: Table) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, column in table.items():
        gone = [value is None for value in column.values]
        if not any(gone) or all(gone):
            found[name] = np.array(column.values, dtype=object) if all(gone) else np.array(column.values)
        else:
            filler = next(value for value in column.values if value is not None)
            filled = np.array([filler if value is None else value for value in column.values])
            found[name] = np.ma.masked_array(filled, gone)
    return found


IN_MEMORY: dict[str, Callable[[Table], Any]] = {
    "pandas": as_pandas,
    "objects": as_objects,
    "nullable": as_nullable,
    "arrow-backed": as_arrow_backed,
    "categories": as_categories,
    "polars": as_polars,
    "arrow": as_arrow,
    "duckdb": as_duckdb,
    "dict": as_dict,
    "rows": as_rows,
    "masked": as_masked,
}


def _text(value: Any) -> str:
    """A value as a file of text holds it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value.isoformat() if isinstance(value, (dt.date, dt.datetime)) else str(value)


def csv_text(table: Table) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*([_text(value) for value in column.values] for column in table.values()), strict=True))
    return written.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.isoformat() if isinstance(value, (dt.date, dt.datetime)) else value


def json_text(table: Table) -> str:
    return json.dumps([{name: _plain(value) for name, value in row.items()} for row in as_rows(table)])


def json_lines(table: Table) -> str:
    return "\n".join(json.dumps({name: _plain(value) for name, value in row.items()}) for row in as_rows(table))


def _written(text: Callable[[Table], str], name: str) -> Callable[[Table, Path], str]:
    def write(table: Table, folder: Path) -> str:
        file = folder / name
        file.write_text(text(table), encoding="utf-8")
        return str(file)

    return write


def _parquet(table: Table, folder: Path) -> str:
    pyarrow.parquet.write_table(as_arrow(table), folder / "t.parquet")
    return str(folder / "t.parquet")


def _feather(table: Table, folder: Path) -> str:
    pyarrow.feather.write_feather(as_arrow(table), folder / "t.arrow")
    return str(folder / "t.arrow")


FILES: dict[str, Callable[[Table, Path], str]] = {
    "parquet": _parquet,
    "feather": _feather,
    "csv": _written(csv_text, "t.csv"),
    "jsonl": _written(json_lines, "t.jsonl"),
}

TYPED: dict[str, Callable[[Table], str]] = {"typed csv": csv_text, "typed json": json_text}
"""What is typed into a cell below `%%predict`."""


def given(way: str, table: Table, folder: Path) -> Any:
    """The table in one way.

    Raises
    ------
    CannotHold
        If the library that is the way's own refuses these values.
    """
    try:
        return IN_MEMORY[way](table) if way in IN_MEMORY else FILES[way](table, folder)
    except Exception as error:
        raise CannotHold(way) from error
