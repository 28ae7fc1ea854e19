"""Rows without a target are left out, and the result says how many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from maas_magics.api.errors import DataError
from maas_magics.api.requests import EvaluateRequest

X = np.linspace(-1, 1, 60)
Y = np.where(np.arange(60) % 3 == 0, np.nan, X * 2)
TOLD = "20 of 60 rows have no target and are left out."


def _some(values: Any, other: Any) -> list[Any]:
    return [other if np.isnan(value) else value for value in values]


@pytest.mark.parametrize(
    ("data", "target"),
    [
        (pd.DataFrame({"x": X, "y": Y}), "y"),
        (pd.DataFrame({"x": X, "y": pd.array(_some(Y, pd.NA), "Float64")}), "y"),
        (pd.DataFrame({"x": X, "y": _some(np.where(np.isnan(Y), np.nan, 1) * np.sign(X + 0.001), None)}), "y"),
        (pl.DataFrame({"x": X, "y": _some(Y, None)}), "y"),
        ({"x": X}, np.ma.MaskedArray(X, np.isnan(Y))),
        (X[:, None], Y),
        (X[:, None], pd.Series(Y)),
        ((X[:, None], Y), None),
    ],
)
def test_rows_without_a_target_are_counted(lab, data, target):
    trained = lab.train(data, target)
    assert TOLD in trained.notes and TOLD in lab.messages
    lab.last = lab.session.run(EvaluateRequest(model="m", data=data, target=target), background=True)
    assert lab.last.result().rows == 40 and TOLD in lab.messages


@pytest.mark.parametrize("stream", [False, True])
def test_rows_of_a_file_without_a_target_are_counted(lab, tmp_path, stream):
    path = str(tmp_path / "rows.parquet")
    pd.DataFrame({"x": X, "y": Y}).to_parquet(path)
    assert TOLD in lab.train(path, "y", stream=stream).notes
    full = str(tmp_path / "full.parquet")
    pd.DataFrame({"x": X, "y": X}).to_parquet(full)
    assert not any("left out" in note for note in lab.train(full, "y", stream=stream).notes)
    lab.train(full, "y", stream=stream, validation=path)
    assert any(TOLD in text for text in lab.messages)


def test_rows_that_lack_one_of_several_targets_are_counted(lab):
    rows = pd.DataFrame({"x": X, "y": X, "z": np.where(np.arange(60) == 7, np.nan, X**2)})
    assert "1 of 60 rows lacks a target and is left out." in lab.train(rows, ["y", "z"]).notes


@pytest.mark.parametrize("values", [[b"cat", b"dog"] * 20, [b"\xff\x00", b"\xfe"] * 20])
def test_bytes_as_a_target_are_told_how_they_become_labels(lab, values):
    rows = pd.DataFrame({"a": np.arange(40) % 7, "b": np.arange(40) * 0.5, "kind": values})
    with pytest.raises(
        DataError, match="'kind' holds bytes, or files, which are neither labels nor quantities"
    ) as error:
        lab.train(rows, "kind", epochs=1)
    assert "df['kind'].str.decode()" in error.value.hint
