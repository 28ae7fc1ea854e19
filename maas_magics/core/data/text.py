"""Rows typed into a cell: CSV, JSON, or JSON lines.

A column that the model takes as text is read letter for letter, as `maas_magics.core.data.columns.Category` has it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from maas_magics.api.errors import DataError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.files.delimited import options
from maas_magics.core.data.files.dialect import Dialect
from maas_magics.core.data.sources.frames import FrameSource
from maas_magics.core.data.values import number_of, objects, spelled


def read_rows(text: str, inputs: Sequence[TensorSpec]) -> Any:
    """Rows of a text: a table where the model takes columns, an array where it takes one array.

    Parameters
    ----------
    text : str
        JSON (an object, a list of objects, a list of rows), JSON lines, or CSV with or without a header.
    inputs : sequence of TensorSpec
        What the model takes.

    Raises
    ------
    DataError
        If it is none of these.
    """
    text = text.strip("\r\n")
    text = text if text.strip() else ""
    if not text:
        raise DataError("The cell has no rows.", "Type CSV with a header, JSON, or one JSON object a line.")
    only = inputs[0] if len(inputs) == 1 and inputs[0].datatype != "BYTES" and inputs[0].shape != (-1, 1) else None
    texts = {spec.name for spec in inputs if spec.datatype == "BYTES"}
    rows = _json(text.strip()) if text.lstrip()[0] in "[{" else None
    if rows is None:
        return _csv(text, inputs, only)
    if any(isinstance(row, dict) for row in rows):
        if not all(isinstance(row, dict) for row in rows):
            raise DataError("Some of the rows are objects, and some are not.", 'Type each as {"column": value}.')
        if only is not None and set(rows[0]) == {only.name}:
            return np.asarray([row[only.name] for row in rows])
        names = dict.fromkeys(name for row in rows for name in row)
        return _table(_objects({name: [row.get(name) for row in rows] for name in names}, texts))
    try:
        values = np.asarray(rows, dtype=np.float64 if only is not None else object)
    except (ValueError, TypeError):
        raise DataError("The rows are not an array of numbers.", "Type rows of one length: [[1, 2], [3, 4]]") from None
    if only is not None:
        return values[None] if values.shape == tuple(only.shape[1:]) else values
    values = np.atleast_2d(values)
    if values.shape[1] != len(inputs):
        raise DataError(
            f"The rows have {values.shape[1]} values; the model takes {len(inputs)} columns.",
            'Name them: {"column": value}',
        )
    return _table(_objects({spec.name: values[:, i].tolist() for i, spec in enumerate(inputs)}, texts))


def from_cell(rows: Any) -> Any:
    """Rows of `read_rows` as a source that knows that they were typed; an array as it is."""
    return rows if isinstance(rows, np.ndarray) else FrameSource(rows, "cell")


def _objects(columns: Mapping[str, list[Any]], texts: Collection[str]) -> pa.Table:
    """Values of JSON as a table; the columns ``texts`` as they are spelled."""
    return pa.table(
        {
            name: pa.array([None if value is None else spelled(value) for value in values], pa.string())
            if name in texts
            else objects(values)
            for name, values in columns.items()
        }
    )


def one_text(text: str, inputs: Sequence[TensorSpec]) -> Any:
    """One row of a model that takes a text and nothing else.

    Raises
    ------
    DataError
        If it takes something else.
    """
    if len(inputs) == 1 and inputs[0].datatype == "BYTES":
        return _table(pa.table({inputs[0].name: pa.array([text], pa.string())}))
    names = ", ".join(spec.name for spec in inputs[:6]) + (", …" if len(inputs) > 6 else "")
    raise DataError(
        f"Text in quotes is one row of text, not a file; the model takes {names}.",
        "%predict NAME df, without quotes, or %%predict NAME and rows in the cell",
    )


def texts_as_rows(texts: Sequence[str], inputs: Sequence[TensorSpec]) -> Any:
    """Rows of a model that takes a text and nothing else."""
    return pa.table({inputs[0].name: pa.array(list(texts), pa.string())})


def _json(text: str) -> list[Any] | None:
    """Rows of JSON or of JSON lines; None where it is neither."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise DataError(f"The cell is not JSON: {error}", "Type one object a line, or CSV.") from None
    if isinstance(found, dict):
        columns = list(found.values())
        if (
            columns
            and all(isinstance(values, list) for values in columns)
            and len({len(values) for values in columns}) == 1
        ):
            return [dict(zip(found, row, strict=True)) for row in zip(*columns, strict=True)]
        return [found]
    return list(found)


def _csv(text: str, inputs: Sequence[TensorSpec], only: TensorSpec | None) -> Any:
    lines = text.splitlines(keepends=True)
    delimiter = max(",;\t", key=lines[0].count)
    parted = _cells(lines[:1], delimiter, skip=True)
    cells = [cell.strip() for cell in parted[0]] if parted else []
    names = [spec.name for spec in inputs]
    header = bool(set(cells) & set(names)) or (only is not None and number_of(cells[0]) is None)
    if not header and only is None and len(cells) != len(names):
        raise DataError(
            f"The first line names no column of the model, and has {len(cells)} values where it takes {len(names)}.",
            f"Begin with a header: {delimiter.join(names[:6])}{' …' if len(names) > 6 else ''}",
        )
    # Cells after a delimiter and a space are taken without it where the header is written so.
    spaced = header and delimiter in lines[0] and re.search(f"{delimiter}(?! )", lines[0]) is None
    rows = _cells(lines[1:] if header else lines, delimiter, skip=spaced)
    columns = cells if header else names if only is None else [str(i) for i in range(len(cells))]
    for number, row in enumerate(rows, start=1 + header):
        if len(row) != len(columns):
            raise DataError(
                f"The cell is not CSV: line {number} has {len(row)} values, where {len(columns)} were expected.",
                "Type a header and one row a line, and quotes around a text with the delimiter in it.",
            )
    if len(set(columns)) < len(columns):
        raise DataError("The header names a column twice.", "Name each column once.")
    texts = {spec.name for spec in inputs if spec.datatype == "BYTES"}
    table = _read(columns, rows, texts, delimiter)
    if only is None:
        return _table(table)
    try:
        values = np.stack([np.asarray(column.to_numpy(), dtype=np.float64) for column in table.columns], axis=1)
        return values.reshape(-1, *only.shape[1:])
    except ValueError:
        raise DataError(
            f"The rows hold {table.num_columns} values; the model takes {only}.", "Type that many numbers a line."
        ) from None


def _cells(lines: Sequence[str], delimiter: str, *, skip: bool) -> list[list[str]]:
    """Cells of lines as they were typed; empty lines are none."""
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=skip) if row]
    except csv.Error as error:
        raise DataError(f"The cell is not CSV: {error}.", "Type a header and one row a line.") from None


def _read(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: Collection[str], delimiter: str) -> pa.Table:
    """Typed cells as a file's reader takes them; the columns ``texts`` letter for letter."""
    dialect = Dialect(decimal="," if delimiter != "," and _commas(columns, rows, texts) else ".")
    found = {}
    for i, name in enumerate(columns):
        values = [row[i] for row in rows]
        if name in texts:
            found[name] = pa.array(values, pa.string())
            continue
        sink = io.StringIO()
        csv.writer(sink, quoting=csv.QUOTE_ALL).writerows([["x"], *([value] for value in values)])
        with io.BytesIO(sink.getvalue().encode()) as file:
            found[name] = pyarrow.csv.read_csv(file, **options(dialect, None)).column(0)
    return pa.table(found)


def _commas(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: Collection[str]) -> bool:
    """Whether numbers are typed with a decimal comma."""
    plain = [row[i].strip() for row in rows for i, name in enumerate(columns) if name not in texts]
    return any(re.fullmatch(r"[+-]?\d*,\d+", cell) for cell in plain)


def _table(table: pa.Table) -> Any:
    return table.to_pandas() if find_spec("pandas") is not None else table
