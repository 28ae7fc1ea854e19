"""A label comes back as it came, of whatever type it is and wherever it is asked for."""

from __future__ import annotations

import decimal
import json
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from maas_magics.api.backend import Inferred
from maas_magics.api.signature import NUMPY
from maas_magics.remote.oip import _tensor
from maas_magics.service.oip import Call, Wanted
from maas_magics.service.oip_answer import write_answer

N = 90
THREE = np.arange(N) % 3
X = (np.arange(N) % 3)[:, None] + np.random.default_rng(0).normal(scale=0.1, size=(N, 2))

KINDS = {
    "fractions": np.array([0.1, 0.2, 0.3]),
    "fractions in float32": np.array([0.1, 0.2, 0.3], dtype="float32"),
    "fractions in float16": np.array([0.1, 0.2, 0.3], dtype="float16"),
    "floats beyond whole numbers": np.array([1e300, 2e-300, -0.5]),
    "whole floats": np.array([1.0, 2.0, 3.0]),
    "large whole floats": np.array([1e20, 2e20, 3e20]),
    "unsigned beyond int64": np.array([2**63 + 5, 2**63 + 6, 2**64 - 1], dtype="uint64"),
    "whole numbers that float64 merges": np.array([2**53, 2**53 + 1, 2**53 + 2]),
    "booleans": np.array([True, False, True]),
    "texts": np.array(["ü", "1", "True"], dtype=object),
    **{
        kind: np.array([1, 2, 3], dtype=kind)
        for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
}


def same(found: np.ndarray, label: np.ndarray) -> None:
    assert found.dtype == label.dtype
    assert set(found.tolist()) <= set(label.tolist())
    assert (found == label).mean() > 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_comes_back_with_its_value_and_its_type(lab, kind):
    label = KINDS[kind][THREE]
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": label})
    model = lab.train(frame, "y", task="binary" if kind == "booleans" else "multiclass", epochs=12, lr=0.1)
    torch = lab.predict(frame)
    spec = model.info.signature.outputs[0]
    assert spec.datatype == {"O": "BYTES"}.get(label.dtype.kind, spec.datatype)
    same(torch["prediction"].to_numpy().astype(label.dtype, copy=False), label)
    if label.dtype != object:
        assert torch["prediction"].dtype == label.dtype
    for name, value in zip(model.info.classes, sorted(set(label.tolist())), strict=True):
        assert f"probability_{name}" in torch.columns
        assert np.array([name]).astype(label.dtype)[0] == value or label.dtype.kind == "b"
    evaluated = lab.evaluate(frame)
    assert evaluated["accuracy"] == pytest.approx((torch["prediction"].to_numpy() == label).mean())
    lab.export(format="onnx")
    same(lab.predict(frame)["prediction"].to_numpy().astype(label.dtype, copy=False), label)
    assert lab.predict(frame, top=2)["top_1"].tolist() == torch["prediction"].tolist()
    inputs = {name: frame[[name]].to_numpy() for name in "ab"}
    inferred = lab.session.backend.infer("m", inputs)
    assert inferred.outputs["prediction"].dtype == label.dtype
    for binary in (False, True):
        assert told(inferred, binary).tolist() == torch["prediction"].tolist()


def told(inferred: Inferred, binary: bool) -> np.ndarray:
    """The labels of an answer as a client reads them."""
    parts, head = write_answer(Call({}, "", binary, {"prediction": Wanted(binary)}), inferred)
    body = b"".join(parts)
    answer = json.loads(body[:head])["outputs"][0]
    values = np.array(answer.get("data", []), dtype=inferred.outputs["prediction"].dtype)
    if not binary:
        return values
    from maas_magics.remote.oip import _Output

    size = answer["parameters"]["binary_data_size"]
    output = _Output(answer["name"], tuple(answer["shape"]), answer["datatype"])
    return _tensor(output, body[head : head + size])


@pytest.mark.parametrize("library", ["pandas", "pyarrow", "polars"])
def test_decimals_come_back_as_decimals(lab, library):
    labels = [decimal.Decimal("1.10"), decimal.Decimal("2.20"), decimal.Decimal("123456789012345678.90")]
    table = pa.table({"a": X[:, 0], "y": pa.array([labels[i] for i in THREE], pa.decimal128(38, 2))})
    frame = {"pandas": table.to_pandas, "pyarrow": lambda: table, "polars": lambda: pl.from_arrow(table)}[library]()
    model = lab.train(frame, "y", task="multiclass", epochs=12, lr=0.1)
    assert model.info.classes == ("1.10", "2.20", "123456789012345678.90")
    assert model.info.signature.outputs[0].datatype == "BYTES"
    for _ in range(2):
        answers = lab.predict(frame)["prediction"]
        found = answers.to_pylist() if library == "pyarrow" else answers.to_list()
        assert set(found) == set(labels) and all(isinstance(label, decimal.Decimal) for label in found)
        lab.export(format="onnx")
    assert set(lab.session.backend.infer("m", {"a": X[:, :1]}).outputs["prediction"].tolist()) <= {*model.info.classes}
    assert lab.evaluate(frame)["accuracy"] > 0.6


@pytest.mark.parametrize(
    ("where", "dtype"), [("table", "int64"), ("table", "bool"), ("array", "uint8"), ("loader", "float32")]
)
def test_several_labels_of_a_row_come_back_as_zeros_and_ones_of_their_type(lab, where, dtype):
    several = np.stack([X[:, 0] > 0.5, X[:, 1] > 1.5], axis=1).astype(dtype)
    rows: Any = X.astype("float32")
    net = torch.nn.Linear(X.shape[1], 2)
    match where:
        case "table":
            rows = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
            lab.train(rows.assign(p=several[:, 0], q=several[:, 1]), ["p", "q"], epochs=12, lr=0.1)
        case "array":
            lab.train(rows, several, epochs=12, lr=0.1)
        case "loader":
            data = torch.utils.data.TensorDataset(torch.from_numpy(rows), torch.from_numpy(several))
            lab.train(torch.utils.data.DataLoader(data, 32), model=net, task="multilabel", epochs=12, lr=0.1)
    for exported in (False, True):
        if exported:
            lab.export(format="onnx")
        said = lab.predict(rows, probabilities=False)
        said = said.to_numpy() if isinstance(said, pd.DataFrame) else said
        assert said.dtype == several.dtype and (said == several).mean() > 0.9
    [spec] = [s for s in lab.session.backend.models.get("m").signature.outputs if s.name == "prediction"]
    assert np.dtype(NUMPY[spec.datatype]) == several.dtype


def test_an_array_of_labels_comes_back_as_one(lab):
    label = KINDS["fractions"][THREE]
    lab.train(X.astype("float32"), label, task="multiclass", epochs=12, lr=0.1)
    lab.export(format="onnx")
    for rows in (X, X.astype("float32")):
        found = lab.predict(rows, probabilities=False)
        same(found["prediction"] if isinstance(found, dict) else found, label)


def test_a_label_is_known_in_another_type_that_holds_the_same_value(lab):
    frame = pd.DataFrame({"a": X[:, 0], "y": KINDS["fractions in float32"][THREE]})
    lab.train(frame, "y", task="multiclass", epochs=12, lr=0.1)
    expected = lab.evaluate(frame)["accuracy"]
    assert lab.evaluate(frame.assign(y=KINDS["fractions"][THREE]))["accuracy"] == expected
    decimals = [decimal.Decimal(str(value)) for value in KINDS["fractions"][THREE]]
    assert lab.evaluate(frame.assign(y=decimals))["accuracy"] == expected


def test_labels_of_a_file_that_is_streamed_come_back_as_they_came(lab, tmp_path):
    for number, label in enumerate((KINDS["fractions in float32"], KINDS["unsigned beyond int64"])):
        file = tmp_path / f"{number}.parquet"
        table = pa.table({"a": X[:, 0], "y": label[THREE]})
        pa.parquet.write_table(table, file)
        lab.train(str(file), "y", stream=True, task="multiclass", epochs=12, lr=0.1)
        same(lab.predict(table)["prediction"].to_numpy(), label[THREE])
    decimals = pa.array([decimal.Decimal(i) / 10 for i in THREE.tolist()], pa.decimal128(5, 1))
    pa.parquet.write_table(pa.table({"a": X[:, 0], "y": decimals}), tmp_path / "d.parquet", row_group_size=20)
    lab.train(str(tmp_path / "d.parquet"), "y", stream=True, task="multiclass", epochs=2)
    assert set(lab.predict(pa.table({"a": X[:, 0]}))["prediction"].to_pylist()) <= set(decimals.to_pylist())


SPELLINGS = [
    decimal.Decimal("1.5"),
    decimal.Decimal("2.25"),
    decimal.Decimal("3"),
    decimal.Decimal("1.50"),
    decimal.Decimal("4.0"),
]


@pytest.mark.parametrize("given", ["frame", "series", "list", "array", "dict"])
def test_decimals_come_back_with_the_digits_that_they_came_with(lab, given):
    x, y = np.arange(60.0), SPELLINGS * 12
    data: dict[str, Any] = {
        "frame": (pd.DataFrame({"x": x, "y": y}), "y"),
        "series": (pd.DataFrame({"x": x}), pd.Series(y)),
        "list": (pd.DataFrame({"x": x}), y),
        "array": (pd.DataFrame({"x": x}), np.array(y)),
        "dict": ({"x": x, "y": np.array(y, dtype=object)}, "y"),
    }
    trained = lab.train(*data[given], task="multiclass")
    assert trained.info.classes == ("1.5", "2.25", "3", "4.0")
    answers = lab.predict(pd.DataFrame({"x": x}))["prediction"]
    assert set(map(str, answers)) <= {"1.5", "2.25", "3", "4.0"}
    found = lab.session.backend.infer("m", {"x": x[:, None]}).outputs["prediction"]
    assert list(map(str, found)) == list(map(str, answers))
    lab.evaluate(pd.DataFrame({"x": x, trained.info.target[0]: y}), trained.info.target[0])
    lab.export()
    engine = lab.session.backend.loader.predictor("m").engine
    assert engine is not None
    texts = engine.run([x[:, None]])["prediction"]
    assert list(texts) == list(map(str, answers))


@pytest.mark.parametrize("kind", ["object", "category", "polars"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_empty_text_that_was_a_label_is_told_with_the_result(lab, tmp_path, kind, stream):
    labels = ["", "a", "b"] * 20
    rows: Any = pd.DataFrame({"x": np.arange(60.0), "y": pd.Categorical(labels) if kind == "category" else labels})
    rows = pl.DataFrame({"x": np.arange(60.0), "y": labels}) if kind == "polars" else rows
    data = rows
    if stream:
        data = str(tmp_path / "rows.parquet")
        rows.write_parquet(data) if kind == "polars" else rows.to_parquet(data)
    trained = lab.train(data, "y", stream=stream)
    told = [text for text in trained.notes if "empty text" in text]
    assert len(told) == 1 and told[0] in lab.messages and trained.info.classes == ("a", "b")
    assert not any("empty text" in text for text in lab.train(_full(rows), "y").notes)


def _full(rows: Any) -> Any:
    return rows.filter(pl.col("y") != "") if isinstance(rows, pl.DataFrame) else rows[rows["y"] != ""]
