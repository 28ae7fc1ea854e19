"""Columns of several files as one table's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from maas_magics.core.data.arrow import is_moment, is_number, is_text
from maas_magics.core.data.values import text_of


def unified(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Every column of some schemas, each of the narrowest type that takes what all of them hold.

    An empty one is like any other, whole numbers become floats beside floats, and what is of different kinds is text.
    """
    if all(schema.equals(schemas[0]) for schema in schemas[1:]):
        return schemas[0]
    found: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            found[field.name] = _both(found[field.name], field.type) if field.name in found else field.type
    return pa.schema(list(found.items()))


def _both(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one.equals(other) or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    try:
        merged = pa.unify_schemas([pa.schema([("", one)]), pa.schema([("", other)])], promote_options="permissive")
        return merged.field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pass
    if is_moment(one) and is_moment(other):
        return pa.timestamp("us", getattr(one, "tz", None) or getattr(other, "tz", None))
    numbers = is_number(one) and is_number(other)
    plain = not (pa.types.is_duration(one) or pa.types.is_duration(other))
    if numbers and plain:
        return pa.float64()
    if all(is_text(kind) or is_number(kind) or is_moment(kind) for kind in (one, other)):
        return pa.string()
    return one


def conform(table: pa.Table, schema: pa.Schema, keys: Mapping[str, str | None]) -> pa.Table:
    """Rows of one file in the columns of all: with what its folders say, and null where a column is absent."""
    if table.schema.equals(schema):
        return table
    columns = []
    for field in schema:
        if field.name in table.column_names:
            columns.append(_cast(table.column(field.name), field.type))
        elif field.name in keys:
            columns.append(_cast(pa.array([keys[field.name]], pa.string()).take(_zeros(len(table))), field.type))
        else:
            columns.append(pa.nulls(len(table), field.type))
    return pa.table(columns, schema=schema)


def _cast(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if values.type.equals(kind):
        return values
    if pa.types.is_string(kind):
        return text_of(values)
    return values.cast(kind, safe=False) if not is_text(values.type) else values.cast(kind)


def _zeros(rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(0, pa.int64()), rows)


def key_types(keys: Sequence[Mapping[str, str | None]]) -> dict[str, pa.DataType]:
    """Types of the columns that folders name: whole numbers where all are written as such, else text."""
    names = dict.fromkeys(name for each in keys for name in each)
    found: dict[str, pa.DataType] = {}
    for name in names:
        values = {each.get(name) for each in keys} - {None}
        whole = all(str(value).lstrip("-").isdecimal() and len(str(value)) < 18 for value in values)
        found[name] = pa.int64() if values and whole else pa.string()
    return found
