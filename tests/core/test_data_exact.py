"""Numbers that float64 rounds, or cannot scale: told where that loses something, and only there."""

from __future__ import annotations

import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from maas_magics.core.data.cut import Cut
from maas_magics.core.data.roles import NamedSplit, held_by
from maas_magics.core.data.values import objects

I = np.arange(60)
Z = np.random.default_rng(0).normal(size=60)
AT = 2**53

TOGETHER: dict[str, Any] = {
    "int64": AT * 4 + I,
    "uint64": np.uint64(2**63) + I.astype(np.uint64),
    "pandas Int64": pd.array(AT + I, "Int64"),
    "decimals": [Decimal(AT) + k for k in range(60)],
    "fractions of decimals": [Decimal(k // 2) + Decimal("1e-20") * (k % 2) for k in range(60)],
    "beyond int64": [2**70 + k for k in range(60)],
    "lengths of time": pd.to_timedelta(2**60 + I * 7, "ns"),
    "nanoseconds": pd.DatetimeIndex(np.datetime64("2024-01-01", "ns") + I * 300),
    "texts of nanoseconds": [f"2024-01-01T00:00:00.12{k:07d}" for k in range(60)],
}
OBJECTS = ("beyond int64", "texts of nanoseconds")
"""What Parquet does not hold as pandas does."""

APART: dict[str, Any] = {
    "small": I,
    "int64": AT * 4 + I * 2**20,
    "decimals": [Decimal(k) / 3 for k in range(60)],
    "beyond int64": [2**70 * (k + 1) for k in range(60)],
    "microseconds": pd.DatetimeIndex(np.datetime64("2024-01-01", "ns") + I * 1000),
    "lengths of time": pd.to_timedelta(I, "ns"),
}


def frame(x: Any) -> pd.DataFrame:
    return pd.DataFrame({"x": x, "z": Z, "y": I / 7})


def told(lab: Any) -> list[str]:
    return [text for text in lab.messages if "one to a model" in text]


@pytest.mark.parametrize(
    ("kind", "stream"),
    [(kind, stream) for kind in TOGETHER for stream in (False, True) if not stream or kind not in OBJECTS],
)
def test_values_that_fall_together_are_named(lab, tmp_path, kind, stream):
    data: Any = frame(TOGETHER[kind])
    if stream:
        data.to_parquet(tmp_path / "rows.parquet")
        data = str(tmp_path / "rows.parquet")
    lab.train(data, "y", stream=stream)
    assert len(told(lab)) == 1 and told(lab)[0].startswith("Column 'x' holds different ")


@pytest.mark.parametrize("kind", APART)
def test_values_that_stay_apart_are_not_named(lab, kind):
    lab.train(frame(APART[kind]), "y")
    expected = ("counts the rows", "alone tells 'y'")  # the target is that number in another unit
    assert not [text for text in lab.messages if not any(part in text for part in expected)] and "x" in lab.columns


def test_arrays_polars_and_files_say_so_too(lab, tmp_path):
    lab.train({"x": np.stack([AT + I, I], axis=1), "y": I / 7}, "y")
    assert len(told(lab)) == 1
    wide = pl.Series([2**100 + k for k in range(60)], dtype=pl.Int128)
    lab.train(pl.DataFrame({"x": wide, "z": Z, "y": I / 7}), "y")
    assert len(told(lab)) == 1
    rows = frame([str(10**19 + k) for k in range(60)])
    rows.to_csv(tmp_path / "rows.csv", index=False)
    for stream in (False, True):
        lab.train(str(tmp_path / "rows.csv"), "y", stream=stream)
        assert "10000000000000000000 and 10000000000000000001" in told(lab)[0]


def test_a_long_number_in_a_file_is_one_of_others(lab, tmp_path):
    for last in ("1.5", "1e50", "9" * 50, "word"):
        text = "x,z,y\n" + "".join(f"{10**19 + k},{k % 7},{k}\n" for k in range(120_000)) + f"{last},1,1\n"
        (tmp_path / "rows.csv").write_text(text)
        lab.train(str(tmp_path / "rows.csv"), "y", epochs=1, batch_size=4096)


TIMES: dict[str, Any] = {
    "int64": list(AT * 4 + I),
    "decimals": [Decimal(AT * 4) + k for k in range(60)],
    "beyond int64": [2**70 + k for k in range(60)],
    "texts of nanoseconds": [f"2024-01-01T00:00:00.12{k:07d}" for k in range(60)],
    "texts some of which are finer": [
        f"2024-01-01T00:00:{k:02d}" + (".000000001" if k > 40 else "") for k in range(60)
    ],
    "texts in UTC": [f"2024-01-01T00:{k:02d}:00Z" for k in range(60)],
    "far dates": [f"{k + 1000}-01-01" for k in range(60)],
}


@pytest.mark.parametrize("kind", TIMES)
def test_the_latest_rows_are_the_latest_exactly(kind):
    order = np.random.default_rng(1).permutation(60)
    values = pa.chunked_array([objects([TIMES[kind][i] for i in order])])
    split = NamedSplit("time", "t", 0.25)
    held = held_by(split, values, 0)
    assert sorted(order[held]) == list(range(45, 60))
    cut = Cut(split, 0, 1000)
    assert cut.find([values.slice(0, 20), values.slice(20)]) and np.array_equal(cut(values), held)


@pytest.mark.parametrize("stream", [False, True])
def test_numbers_that_cannot_be_scaled_are_named_and_count_as_one(lab, tmp_path, stream):
    rows = pd.DataFrame({"a": Z * 1e-310, "b": 1e-320 * I, "c": 1e16 + 2 * Z, "z": Z, "y": Z})
    rows.to_parquet(tmp_path / "rows.parquet")
    data: Any = str(tmp_path / "rows.parquet") if stream else rows
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        lab.train(data, "y", stream=stream, epochs=20, lr=0.05)
    assert [text[:10] for text in lab.messages if "too little for float64" in text] == [
        f"Column {name!r}" for name in "abc"
    ]
    assert lab.evaluate(rows)["r2"] > 0.5
    assert lab.export().verification.max_abs_diff < 1e-5


def test_numbers_as_small_that_differ_by_more_are_scaled(lab):
    lab.train(pd.DataFrame({"a": Z * 1e-300, "y": Z}), "y", epochs=20, lr=0.05)
    assert lab.messages == [] and lab.evaluate(pd.DataFrame({"a": Z * 1e-300, "y": Z}))["r2"] > 0.5
    lab.train({"x": np.stack([Z * 1e-310, Z], axis=1), "y": Z}, "y")
    assert lab.messages[0].startswith("1 of the 2 numbers of 'x' differ by too little")
