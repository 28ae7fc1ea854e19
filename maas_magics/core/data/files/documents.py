"""JSON: one object a line, a list of rows, or a table as pandas' ``to_json`` writes it, in any of its orients."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.json

from maas_magics.api.errors import DataError
from maas_magics.core.data.files.delimited import other_format
from maas_magics.core.data.files.dialect import HEAD
from maas_magics.core.data.files.places import Place
from maas_magics.core.data.files.schemas import unified
from maas_magics.core.data.values import mixed, objects

BLOCK = 4 * 2**20
"""Bytes of lines that are read at a time."""


class Documents:
    """Reads JSON files: lines a block at a time, anything else as a whole."""

    def __init__(self) -> None:
        self._whole: dict[str, pa.Table] = {}

    def notes(self, places: list[Place]) -> list[str]:
        """Nothing but their columns is inferred from them."""
        return []

    def schema(self, place: Place) -> pa.Schema:
        """Columns of a file."""
        if place.path not in self._whole:
            with place.stream() as stream:
                head = bytes(stream.read(BLOCK))
            if are_lines(head):
                try:
                    return _parsed(head[: head.rfind(b"\n") + 1] if len(head) == BLOCK else head, None).schema
                except pa.ArrowInvalid:
                    pass  # values of several kinds in a column
            self._read(place)
        return self._whole[place.path].schema

    def _read(self, place: Place) -> pa.Table:
        if place.path not in self._whole:
            with place.stream() as stream:
                data = bytes(stream.read())
            what = other_format(data[:HEAD])
            if what:
                raise DataError(f"{place.name!r} is not JSON: it is {what}.", "Give it its own ending.")
            self._whole[place.path] = document(data, place.name)
        return self._whole[place.path]

    def table(self, place: Place, schema: pa.Schema) -> pa.Table:
        """All rows of a file."""
        if place.path in self._whole:
            return self._whole[place.path]
        return pa.concat_tables(self.batches(place, schema, BLOCK))

    def batches(self, place: Place, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
        """Rows of a file, at most ``rows`` at a time."""
        for whole in [self._whole[place.path]] if place.path in self._whole else self._blocks(place, schema):
            for start in range(0, len(whole), rows):
                yield whole.slice(start, rows)

    def _blocks(self, place: Place, schema: pa.Schema) -> Iterator[pa.Table]:
        rest = b""
        with place.stream() as stream:
            while block := bytes(stream.read(BLOCK)):
                lines, end, after = (rest + block).rpartition(b"\n")
                rest = after
                if lines.strip():
                    yield _parsed(lines + end, schema)
        if rest.strip():
            yield _parsed(rest, schema)

    def size(self, place: Place, schema: pa.Schema) -> int:
        """Bytes that the rows take in memory, estimated from the size of the file."""
        return place.size * (4 if place.packed else 1)

    def wider(self, error: pa.ArrowInvalid, place: Place, schema: pa.Schema) -> pa.Schema | None:
        """The columns after the whole file was read by Python, which takes values of several kinds."""
        if place.path in self._whole:
            return None
        return unified([schema, self._read(place).schema])


def _parsed(lines: bytes, schema: pa.Schema | None) -> pa.Table:
    return pyarrow.json.read_json(
        BytesIO(lines),
        read_options=pyarrow.json.ReadOptions(block_size=max(len(lines), 1)),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "ignore"
        ),
    )


def are_lines(head: bytes) -> bool:
    """Whether a file that begins so has one object a line, each of them a row."""
    first = head.lstrip().partition(b"\n")[0]
    if not first.startswith(b"{"):
        return False
    try:
        row = json.loads(first)
    except ValueError:
        return False
    return bool(head.lstrip().partition(b"\n")[2].strip()) or not _is_table(row)


def _is_table(found: Mapping[str, Any]) -> bool:
    """Whether an object is a whole table rather than a row of one."""
    values = list(found.values())
    if {"columns", "data"} <= set(found) or {"schema", "data"} <= set(found):
        return isinstance(found["data"], list)
    return bool(values) and (
        all(isinstance(value, Mapping) for value in values)
        or (all(isinstance(value, list) for value in values) and len({len(value) for value in values}) == 1)
    )


def document(data: bytes, name: str) -> pa.Table:
    """Rows of JSON in any form.

    Raises
    ------
    DataError
        If it is not JSON, or not a table.
    """
    try:
        found = json.loads(data)
    except UnicodeDecodeError:
        raise DataError(
            f"{name!r} is not UTF-8, in which JSON is written.", "Save it as UTF-8: open(path, encoding='utf-8')"
        ) from None
    except json.JSONDecodeError as error:
        found = _lines(data, name, error)
    except RecursionError:
        raise DataError(f"{name!r} is nested too deeply to be a table.") from None
    columns = _columns(found, name)
    made = {key: objects(values) for key, values in columns.items()}
    fields = [pa.field(key, made[key].type, metadata=mixed(made[key], values)) for key, values in columns.items()]
    return pa.table(list(made.values()), schema=pa.schema(fields))


def _lines(data: bytes, name: str, error: json.JSONDecodeError) -> list[Any]:
    found = []
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except ValueError:
            if number > 1 and not found:
                break
            text = error if not found else f"line {number} is not an object"
            raise DataError(f"{name!r} cannot be read as JSON: {text}.".replace("..", ".")) from None
    return found


def _columns(found: Any, name: str) -> dict[str, list[Any]]:
    """Columns of a table in one of pandas' forms: records, split, table, columns, index, values; or lists by name."""
    if isinstance(found, Mapping) and isinstance(found.get("data"), list):
        if "schema" in found:
            index = found["schema"].get("primaryKey", []) if isinstance(found["schema"], Mapping) else []
            return _records([{k: v for k, v in row.items() if k not in index} for row in found["data"]], name)
        if isinstance(found.get("columns"), list):
            return _listed(found["data"], [str(column) for column in found["columns"]], name)
    if isinstance(found, Mapping) and _is_table(found):
        if all(isinstance(values, list) for values in found.values()):
            return {str(key): list(values) for key, values in found.items()}
        inner = list(dict.fromkeys(key for values in found.values() for key in values))
        if all(str(key).isdecimal() for key in found) and not all(str(key).isdecimal() for key in inner):
            return _records(list(found.values()), name)
        return {str(key): [values.get(row) for row in inner] for key, values in found.items()}
    rows = [found] if isinstance(found, Mapping) else found
    if isinstance(rows, list) and rows and all(isinstance(row, list) for row in rows):
        return _listed(rows, [str(i) for i in range(len(rows[0]))], name)
    if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
        return _records(rows, name)
    raise DataError(f"{name!r} is JSON, but not a table.", "Write it with df.to_json(path), or one object a line.")


def _records(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, list[Any]]:
    columns = list(dict.fromkeys(str(key) for row in rows for key in row))
    if not columns:
        raise DataError(f"{name!r} has no rows.", "Give at least a few rows.")
    return {column: [row.get(column) for row in rows] for column in columns}


def _listed(rows: Sequence[Any], columns: list[str], name: str) -> dict[str, list[Any]]:
    if not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
        raise DataError(f"The rows of {name!r} differ in length.", f"Give {len(columns)} values a row.")
    return {column: [row[i] for row in rows] for i, column in enumerate(columns)}
