"""Files on a magic's line, and variables that are named as their columns are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from maas_magics.remote.connect import stop_local

Cell = Callable[[str], Any]


@pytest.fixture
def files(ip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Rows in files of several kinds, and variables of the same names that hold something else."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=120)})
    frame["k"] = np.where(frame.a > 0, "yes", "no")
    frame.to_csv("k.csv", index=False)
    frame.to_csv("semi.csv", index=False, sep=";")
    frame.to_parquet("k.parquet")
    (tmp_path / "parts").mkdir()
    for i in range(2):
        frame[60 * i : 60 * (i + 1)].to_csv(f"parts/{i}.csv", index=False)
    ip.user_ns.update(np=np, k=rng.normal(size=120), place=tmp_path / "k.csv")
    return frame


DATA = ["k.csv", "k.parquet", "parts", "parts/*.csv", "place", "['k.csv', 'parts/0.csv']", "semi.csv --csv sep=;"]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("where", ["kernel", "local"])
def test_a_column_of_a_file_is_learnt_though_a_variable_has_its_name(where: str, cell: Cell, store: Path) -> None:
    try:
        cell(f"%connect {where}")
        for data in DATA if where == "kernel" else DATA[:3]:
            model = cell(f"%train m --data {data} --target k --model linear --epochs 20 --lr 0.1")
            assert model.info.task == "binary"
            assert cell(f"%evaluate m --data {data} --target k").values["accuracy"] > 0.9
            cell(f"def f(k):\n    return %train g --data {data} --target k --model linear --epochs 1")
            assert cell("f(np.ones(120))").info.task == "binary"
    finally:
        if where == "local":
            cell("%connect kernel")
            stop_local(store)


@pytest.mark.usefixtures("files")
def test_an_array_is_the_target_where_the_file_has_no_such_column(cell: Cell) -> None:
    cell("other = k.copy()")
    assert cell("%train m --data k.csv --target other --model linear --epochs 1").info.task == "regression"
