"""Columns of types that only one library has, and tables with odd names and indices."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

Draw = Callable[[np.random.Generator, int], Any]


def _ints(rng: np.random.Generator, n: int) -> Any:
    return rng.integers(0, 5, n)


PANDAS: dict[str, Draw] = {
    "interval": lambda rng, n: pd.cut(rng.normal(size=n), 3),
    "intervals": lambda rng, n: pd.arrays.IntervalArray.from_arrays(_ints(rng, n), 9 + _ints(rng, n)),
    "period": lambda rng, n: pd.period_range("2020-01", periods=n, freq="M"),
    "sparse": lambda rng, n: pd.arrays.SparseArray(np.where(_ints(rng, n) > 2, rng.normal(size=n), 0)),
    "sparse text": lambda rng, n: pd.arrays.SparseArray(rng.choice(["a", "b"], n).astype(object)),
    "categories of numbers": lambda rng, n: pd.Categorical(_ints(rng, n)),
    "categories of floats": lambda rng, n: pd.Categorical(_ints(rng, n) / 10),
    "categories of days": lambda rng, n: pd.Categorical(
        pd.Timestamp("2020-01-01") + pd.to_timedelta(_ints(rng, n), "D")
    ),
    "unused categories": lambda rng, n: pd.Categorical(rng.choice(["a", "b"], n), categories=["c", "b", "a", ""]),
    "nothing but categories": lambda rng, n: pd.Categorical([None] * n, categories=["a"]),
    "zoned": lambda rng, n: pd.to_datetime(_ints(rng, n) * 10**9).tz_localize("America/New_York"),
    "several zones": lambda rng, n: pd.Series(
        [pd.Timestamp(int(i), unit="D", tz=["UTC", "Asia/Tokyo"][i % 2]) for i in _ints(rng, n)], dtype=object
    ),
    "lengths": lambda rng, n: pd.to_timedelta(_ints(rng, n), "h"),
    "complex": lambda rng, n: rng.normal(size=n) + 1j,
    "Int8": lambda rng, n: pd.array(np.where(_ints(rng, n) > 3, None, _ints(rng, n)), dtype="Int8"),
    "boolean": lambda rng, n: pd.array(np.where(_ints(rng, n) > 3, None, _ints(rng, n) > 1), dtype="boolean"),
    "string": lambda rng, n: pd.array(rng.choice(["a", "b"], n), dtype="string"),
    "arrays": lambda rng, n: pd.Series(list(rng.normal(size=(n, 3)))),
    "frames": lambda rng, n: pd.Series([pd.DataFrame({"a": [1]})] * n, dtype=object),
    "types": lambda rng, n: pd.Series([int, str] * n, dtype=object)[:n],
    "nan among texts": lambda rng, n: pd.Series(np.where(_ints(rng, n) > 2, "a", np.nan), dtype=object),
    "numpy scalars": lambda rng, n: pd.Series(
        [np.float32(i) if i % 2 else np.int8(i) for i in _ints(rng, n)], dtype=object
    ),
    "uuids": lambda rng, n: pd.Series([uuid.UUID(int=int(i)) for i in _ints(rng, n)], dtype=object),
}

POLARS: dict[str, Draw] = {
    "lists": lambda rng, n: pl.Series([[1, 2]] * n),
    "arrays": lambda rng, n: pl.Series(rng.normal(size=(n, 2)), dtype=pl.Array(pl.Float64, 2)),
    "structs": lambda rng, n: pl.Series([{"a": int(i), "b": "x"} for i in _ints(rng, n)]),
    "decimals": lambda rng, n: pl.Series([decimal.Decimal(int(i)) / 10 for i in _ints(rng, n)]),
    "enum": lambda rng, n: pl.Series(rng.choice(["a", "b"], n).tolist(), dtype=pl.Enum(["a", "b", "c"])),
    "categorical": lambda rng, n: pl.Series(rng.choice(["a", "b"], n).tolist(), dtype=pl.Categorical),
    "binary": lambda rng, n: pl.Series([bytes([int(i)]) for i in _ints(rng, n)]),
    "null": lambda rng, n: pl.Series([None] * n),
    "object": lambda rng, n: pl.Series([object()] * n, dtype=pl.Object),
    "time": lambda rng, n: pl.Series([dt.time(int(i)) for i in _ints(rng, n)]),
    "durations": lambda rng, n: pl.Series([dt.timedelta(int(i)) for i in _ints(rng, n)]),
    "nan": lambda rng, n: pl.Series(np.where(_ints(rng, n) > 2, np.nan, 1.0)),
    "UInt64": lambda rng, n: pl.Series((2**64 - 1 - _ints(rng, n).astype("uint64")).tolist(), dtype=pl.UInt64),
    "Int128": lambda rng, n: pl.Series(_ints(rng, n).tolist(), dtype=pl.Int128),
}

ARROW: dict[str, Draw] = {
    "struct": lambda rng, n: pa.array([{"a": int(i)} for i in _ints(rng, n)]),
    "map": lambda rng, n: pa.array([[("k", int(i))] for i in _ints(rng, n)], pa.map_(pa.string(), pa.int64())),
    "list": lambda rng, n: pa.array([[int(i)] for i in _ints(rng, n)]),
    "fixed list": lambda rng, n: pa.array([[1.0, float(i)] for i in _ints(rng, n)], pa.list_(pa.float32(), 2)),
    "list view": lambda rng, n: pa.array([[int(i)] for i in _ints(rng, n)], pa.list_view(pa.int64())),
    "union": lambda rng, n: pa.UnionArray.from_sparse(
        pa.array(_ints(rng, n) % 2, pa.int8()), [pa.array(range(n)), pa.array(["x"] * n)]
    ),
    "decimal256": lambda rng, n: pa.array([decimal.Decimal(int(i)) for i in _ints(rng, n)], pa.decimal256(50, 3)),
    "decimal32": lambda rng, n: pa.array([decimal.Decimal(int(i)) for i in _ints(rng, n)], pa.decimal32(5, 1)),
    "half": lambda rng, n: pa.array(rng.normal(size=n).astype("float16")),
    "binary": lambda rng, n: pa.array([b"a", b"\xff"] * n)[:n],
    "fixed binary": lambda rng, n: pa.array([b"ab"] * n, pa.binary(2)),
    "month_day_nano": lambda rng, n: pa.array([pa.MonthDayNano([1, int(i), 0]) for i in _ints(rng, n)]),
    "duration": lambda rng, n: pa.array(_ints(rng, n), pa.duration("ns")),
    "time32": lambda rng, n: pa.array(_ints(rng, n).astype("int32"), pa.time32("s")),
    "run ends": lambda rng, n: pa.RunEndEncodedArray.from_arrays([n], ["a"]),
    "dictionary of ints": lambda rng, n: pa.array(_ints(rng, n)).dictionary_encode(),
    "dictionary with null": lambda rng, n: pa.DictionaryArray.from_arrays(
        pa.array(_ints(rng, n) % 3), pa.array(["a", None, "b"])
    ),
    "doubled dictionary": lambda rng, n: pa.DictionaryArray.from_arrays(
        pa.array(_ints(rng, n) % 3), pa.array(["a", "a", "b"])
    ),
    "string view": lambda rng, n: pa.array(rng.choice(["a", "b"], n).tolist(), pa.string_view()),
    "uuid": lambda rng, n: pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)] * n, pa.binary(16))),
    "json": lambda rng, n: pa.ExtensionArray.from_storage(pa.json_(), pa.array(["[1]", "{}"] * n)[:n]),
    "bool8": lambda rng, n: pa.ExtensionArray.from_storage(pa.bool8(), pa.array(_ints(rng, n).astype("int8"))),
    "nanoseconds": lambda rng, n: pa.array(_ints(rng, n), pa.timestamp("ns", "+05:30")),
    "tensors": lambda rng, n: pa.FixedShapeTensorArray.from_numpy_ndarray(rng.normal(size=(n, 2, 2))),
    "null": lambda rng, n: pa.nulls(n),
}


def draw_native(rng: np.random.Generator, rows: int) -> tuple[Any, Any]:
    """A table of one library with one to three columns of its own kinds, and the name of its target."""
    library = int(rng.integers(4))
    kinds = (PANDAS, POLARS, ARROW, PANDAS)[library]
    parts = {f"c{i}": kinds[str(rng.choice(list(kinds)))](rng, rows) for i in range(int(rng.integers(1, 4)))}
    plain = {"x": rng.normal(size=rows), "y": rng.integers(0, 2, rows)}
    target = "y" if rng.random() < 0.7 else "c0"
    if library == 1:
        return pl.DataFrame({**{k: v.alias(k) for k, v in parts.items()}, **plain}), target
    if library == 2:
        return pa.table({**parts, **plain}), target
    frame = pd.DataFrame({**{k: pd.Series(v) for k, v in parts.items()}, **plain})
    return _oddly_named(rng, frame, target) if library == 3 else (frame, target)


def _oddly_named(rng: np.random.Generator, frame: pd.DataFrame, target: str) -> tuple[Any, Any]:
    match int(rng.integers(8)):
        case 0:
            frame.columns = range(frame.shape[1])
            return frame, str(frame.columns[-1])
        case 1:
            frame.columns = pd.MultiIndex.from_tuples([("g", name) for name in frame.columns])
            return frame, str(frame.columns[-1])
        case 2:
            frame.columns = [None, *frame.columns[1:]]
        case 3:
            frame.columns = ["x", *frame.columns[1:]]
        case 4:
            frame.columns = [1.5, *frame.columns[1:]]
        case 5:
            frame.index = pd.MultiIndex.from_product([range(len(frame)), ["i"]])
        case 6:
            frame.index = [0] * len(frame)
        case _:
            frame.columns = ["", *frame.columns[1:]]
    return frame, target
