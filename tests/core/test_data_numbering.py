"""Columns that count the rows are no features without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from maas_magics.core.data.numbering import ConsecutiveRun, names_rows

N = 300
RNG = np.random.default_rng(0)


def _rows(name: str, values: Any) -> pd.DataFrame:
    noise = {"b": RNG.normal(size=N), "c": RNG.normal(size=N)}
    return pd.DataFrame({name: values, **noise, "y": np.repeat(["p", "q", "r"], N // 3)})


RUNS = {"in order": np.arange(1000, 1000 + N), "in any order": RNG.permutation(N), "backwards": np.arange(N)[::-1] - 7}
NO_RUNS = {
    "twice": np.r_[np.arange(N - 1), 5],
    "a gap": np.r_[np.arange(N - 1), N + 1],
    "groups": np.arange(N) // 2,
    "floats": np.arange(N) * 1.0,
    "same sums": np.r_[np.arange(N - 7) + 8, [2, 2, 3, 3, 4, 7, 7]],
}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("stream", [None, True])
@pytest.mark.parametrize("name", ["PatientID", ""])
def test_row_numbers_are_left_out_and_told(lab, tmp_path: Path, kind, stream, name):
    rows: Any = _rows(name, RUNS[kind])
    rows.loc[[3, 77], "y"] = None  # rows without a target do not hide it
    if stream or not name:
        rows.to_csv(tmp_path / "rows.csv", index=False)
        rows = str(tmp_path / "rows.csv")
    lab.train(rows, "y", stream=stream)
    assert list(lab.columns) == ["b", "c"]
    assert len([text for text in lab.messages if "counts the rows" in text and "left out" in text]) == 1


@pytest.mark.parametrize("stream", [None, True])
def test_features_bring_it_back_and_another_name_is_told_only(lab, tmp_path: Path, stream):
    rows: Any = _rows("id", np.arange(N))
    path = str(tmp_path / "rows.csv")
    rows.to_csv(path, index=False)
    lab.train(path, "y", stream=stream, features=["id", "b"])
    assert list(lab.columns) == ["id", "b"] and not any("counts" in text for text in lab.messages)
    lab.train(path, "y", stream=stream, drop=["b", "c"])
    assert list(lab.columns) == ["id"] and any("--drop id" in text for text in lab.messages)
    rows.rename(columns={"id": "week"}).to_csv(path, index=False)
    lab.train(path, "y", stream=stream)
    assert list(lab.columns) == ["week", "b", "c"] and any("--drop week" in text for text in lab.messages)


@pytest.mark.parametrize("kind", NO_RUNS)
def test_what_counts_no_rows_is_a_feature(lab, kind):
    lab.train(_rows("id", NO_RUNS[kind]), "y")
    assert "id" in lab.columns and not any("counts" in text for text in lab.messages)


def test_a_run_is_told_from_its_parts():
    for values in (*RUNS.values(), *NO_RUNS.values()):
        run = ConsecutiveRun()
        for part in np.array_split(np.asarray(values, np.int64), 7):
            run.add(pa.chunked_array([part]))
        whole = np.sort(np.asarray(values, np.int64))
        assert run.counts == bool((np.diff(whole) == 1).all())


def test_arrays_are_as_they_are(lab):
    rows = _rows("id", np.arange(N))
    lab.train(np.c_[np.arange(N), np.arange(N) % 5], rows["y"].to_numpy())
    assert not any("counts the rows" in text for text in lab.messages)


def test_names():
    assert all(
        map(names_rows, ["", "Unnamed: 0", "id", "ID", "PatientID", "patient_id", "userid", "Lfd Nr", "rowNumber"])
    )
    assert not any(map(names_rows, ["week", "t", "year", "idea", "x"]))
