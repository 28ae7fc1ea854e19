"""`%maas import` of ONNX files and of estimators, `push` and `pull`, as a cell has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def file(tmp_path: Path, ip: InteractiveShell) -> Path:
    weights = numpy_helper.from_array(np.array([[1.0], [2.0]], dtype=np.float32), "W")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ("N", k)) for n, k in (("X", 2), ("out", 1))]
    graph = helper.make_graph([helper.make_node("MatMul", ["X", "W"], ["out"])], "g", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(tmp_path / "sum.onnx"))
    ip.user_ns["df"] = pd.DataFrame({"one": [1.0, 2.0, 3.0], "two": [4.0, 5.0, 6.0], "total": [9.0, 12.0, 15.0]})
    return tmp_path / "sum.onnx"


def test_lines_import_push_pull_and_say_what_is_wrong(
    cell: Callable[[str], Any],
    failing: Callable[[str], str],
    file: Path,
    tmp_path: Path,
    ip: InteractiveShell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = cell(f"%maas import {file} --as sums --sample df --target total")
    assert made.ref == "sums:1" and made.target == ("total",) and made.metrics["rmse"] < 1e-5
    assert list(cell("%predict sums df")["prediction"]) == [9.0, 12.0, 15.0]
    there = tmp_path / "elsewhere"
    assert cell(f"%maas push sums {there}").files
    assert cell(f"%maas pull {there}/models/sums --as again").here == ("again:1",)
    assert cell(f"%maas sync {there}").pushed
    assert "holds 2 models" in failing(f"%maas pull {there}")
    assert "There is no file" in failing(f"%maas import {tmp_path}/none.onnx --as sums")
    assert "5 columns" not in failing(f"%maas import {file} --as sums --sample df")
    ip.user_ns["thing"] = {"not": "an estimator"}
    assert "not an estimator" in failing("%maas import thing --as sums --sample df")
    ip.user_ns["sum"] = 3
    monkeypatch.chdir(tmp_path)
    assert cell("%maas import sum.onnx --as sums").ref == "sums:2"  # a file, whatever a variable is called
    assert "none is opened here" in failing("%maas import sum.pkl --as sums")
    cell(f"%export sums --to {(tmp_path / 'bucket').as_uri()}/sums")
    assert (tmp_path / "bucket" / "sums" / "model.onnx").is_file()
    assert (tmp_path / "bucket" / "sums" / "artifact.json").is_file()


def test_a_fitted_estimator_is_named_by_its_variable(
    cell: Callable[[str], Any], file: Path, ip: InteractiveShell
) -> None:
    pytest.importorskip("skl2onnx")
    from sklearn.linear_model import LinearRegression

    df = ip.user_ns["df"]
    ip.user_ns["pipe"] = LinearRegression().fit(df[["one", "two"]], df["total"])
    assert cell("%maas import pipe --as line --sample df --target total").architecture == "LinearRegression"
    np.testing.assert_allclose(cell("%predict line df")["prediction"], df["total"], atol=1e-4)
