"""Rows typed into a cell: CSV, JSON, or JSON lines."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from maas_magics.api.errors import DataError
from maas_magics.api.signature import TensorSpec


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
    text = text.strip()
    if not text:
        raise DataError("The cell has no rows.", "Type CSV with a header, JSON, or one JSON object a line.")
    only = inputs[0] if len(inputs) == 1 and inputs[0].datatype != "BYTES" and inputs[0].shape != (-1, 1) else None
    rows = _json(text) if text[0] in "[{" else None
    if rows is None:
        return _csv(text, inputs, only)
    if any(isinstance(row, dict) for row in rows):
        if not all(isinstance(row, dict) for row in rows):
            raise DataError("Some of the rows are objects, and some are not.", 'Type each as {"column": value}.')
        if only is not None and set(rows[0]) == {only.name}:
            return np.asarray([row[only.name] for row in rows])
        return _table(pa.Table.from_pylist(rows))
    try:
        values = np.asarray(rows, dtype=np.float32 if only is not None else object)
    except (ValueError, TypeError):
        raise DataError("The rows are no array of numbers.", "Type rows of equal length: [[1, 2], [3, 4]]") from None
    if only is not None:
        return values[None] if values.shape == tuple(only.shape[1:]) else values
    values = np.atleast_2d(values)
    if values.shape[1] != len(inputs):
        raise DataError(
            f"The rows have {values.shape[1]} values; the model takes {len(inputs)} columns.",
            'Name them: {"column": value}',
        )
    return _table(pa.table({spec.name: pa.array(values[:, i].tolist()) for i, spec in enumerate(inputs)}))


def _json(text: str) -> list[Any] | None:
    """Rows of JSON or of JSON lines; None where it is neither."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise DataError(f"The cell is no JSON: {error}", "Type one object a line, or CSV.") from None
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
    first = text.splitlines()[0]
    delimiter = max(",;\t", key=first.count)
    cells = [cell.strip().strip('"') for cell in first.split(delimiter)]
    names = [spec.name for spec in inputs]
    header = bool(set(cells) & set(names)) or (only is not None and not _number(cells[0]))
    if not header and only is None and len(cells) != len(names):
        raise DataError(
            f"The first line names no column of the model, and has {len(cells)} values where it takes {len(names)}.",
            f"Begin with a header: {delimiter.join(names[:6])}{' …' if len(names) > 6 else ''}",
        )
    texts = {spec.name: pa.string() for spec in inputs if spec.datatype == "BYTES"}
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(text.encode()),
            pyarrow.csv.ReadOptions(
                column_names=None if header else names if only is None else [str(i) for i in range(len(cells))]
            ),
            pyarrow.csv.ParseOptions(delimiter=delimiter),
            pyarrow.csv.ConvertOptions(column_types=texts, strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        raise DataError(
            f"The cell is no CSV: {str(error).splitlines()[0]}", "Type a header and one row a line."
        ) from None
    if only is None:
        return _table(table.rename_columns([name.strip() for name in table.column_names]))
    try:
        values = np.stack([np.asarray(column.to_numpy(), dtype=np.float32) for column in table.columns], axis=1)
        return values.reshape(-1, *only.shape[1:])
    except ValueError:
        raise DataError(
            f"The rows hold {table.num_columns} values; the model takes {only}.", "Type that many numbers a line."
        ) from None


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _table(table: pa.Table) -> Any:
    return table.to_pandas() if find_spec("pandas") is not None else table
