#!/usr/bin/env bash
# polars 2.1.0 and pyarrow 26.0.1: one frame becomes two different Arrow tables, and rows of one of them cannot be picked.
#
# DataFrame.to_arrow() gives text as large_string. pa.table(frame), which takes the same frame through the Arrow
# PyCapsule interface as the protocol means it, gives string_view, at the top and inside structs and lists. pyarrow has
# no kernel that takes, filters or sorts string_view, so a library that reads "anything with __arrow_c_stream__" gets a
# table of which it can neither shuffle nor hold out rows, while equality, casts, unique and slices work. A cast of the
# column helps at the top level; nested text has to be cast through its whole type.
#
# Seen (column t is text, s a struct of text):
#   to_arrow  t large_string               take ok   filter ok   sort ok
#   to_arrow  s struct<b: large_string>    take ok   filter ok
#   pa.table  t string_view                take ArrowNotImplementedError  filter ArrowNotImplementedError  sort ArrowTypeError
#   pa.table  s struct<b: string_view>     take ArrowNotImplementedError  filter ArrowNotImplementedError
#   pa.table  t cast to large_string       take ok
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet polars==2.1.0 pyarrow==26.0.1 numpy==2.4.6 2>/dev/null
"$place/env/bin/python" - <<'PY'
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

frame = pl.DataFrame({"t": ["a", "b"], "s": [{"b": "x"}, {"b": "y"}]})
WAYS = {
    "take": lambda column: column.take(pa.array([1])),
    "filter": lambda column: column.filter(pa.array([True, False])),
    "sort": pc.sort_indices,
}


def outcome(way, column):
    try:
        WAYS[way](column)
    except pa.ArrowException as error:
        return type(error).__name__
    return "ok"


tables = {"to_arrow": frame.to_arrow(), "pa.table": pa.table(frame)}
seen = {}
for name, table in tables.items():
    for column in ("t", "s"):
        ways = ("take", "filter", "sort") if column == "t" else ("take", "filter")
        seen[name, column] = [outcome(way, table[column]) for way in ways]
        print(f"{name:9} {column} {str(table[column].type):26}", *zip(ways, seen[name, column]))
assert seen["to_arrow", "t"] == ["ok"] * 3 and seen["to_arrow", "s"] == ["ok"] * 2, seen
assert seen["pa.table", "t"] == ["ArrowNotImplementedError", "ArrowNotImplementedError", "ArrowTypeError"], seen
assert seen["pa.table", "s"] == ["ArrowNotImplementedError"] * 2, seen
assert outcome("take", tables["pa.table"]["t"].cast(pa.large_string())) == "ok"
PY
