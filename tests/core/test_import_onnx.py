"""ONNX files of any maker become versions: predicted, scored, exported, compressed, and refused with a reason."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import maas_magics as maas
from maas_magics.api.errors import DataError, MaasError, ModelError, SealError
from maas_magics.api.requests import ImportRequest
from maas_magics.core.seal import chunks
from maas_magics.core.seal.keys import write_key

FLOAT, INT64, STRING, DOUBLE = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.DOUBLE
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(4, 3)).astype(np.float32)
ROWS = pd.DataFrame(RANDOM.normal(size=(60, 4)), columns=["long", "wide", "high", "heavy"])


def info(name: str, kind: int, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def saved(
    file: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], *, weights: Any = (), opset: int = 17
) -> Path:
    constants = [numpy_helper.from_array(values, name) for name, values in dict(weights).items()]
    graph = helper.make_graph(nodes, "theirs", inputs, outputs, constants)
    versions = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=8), str(file))
    return file


def classifier(file: Path, labels: list[Any], mapped: bool, batch: Any = "N", shown: str = "probabilities") -> Path:
    """A linear classifier as skl2onnx writes it, its probabilities as maps or as a tensor."""
    text = isinstance(labels[0], str)
    said = {"classlabels_strings" if text else "classlabels_ints": labels}
    kind, to = (STRING, "classlabels_strings") if text else (INT64, "classlabels_int64s")
    ml = {"domain": "ai.onnx.ml"}
    nodes = [
        helper.make_node(
            "LinearClassifier", ["X"], ["label", "raw"], coefficients=WEIGHTS.T.ravel().tolist(),
            intercepts=[0.0, 0.1, 0.2], post_transform="SOFTMAX", multi_class=0, **said, **ml,
        )
    ]  # fmt: skip
    outputs = [info("label", kind, batch)]
    if mapped:
        nodes.append(helper.make_node("ZipMap", ["raw"], [shown], **{to: labels}, **ml))
        key = helper.make_tensor_type_proto(FLOAT, [])
        outputs.append(
            helper.make_value_info(shown, helper.make_sequence_type_proto(helper.make_map_type_proto(kind, key)))
        )
    else:
        nodes.append(helper.make_node("Identity", ["raw"], [shown]))
        outputs.append(info(shown, FLOAT, batch, 3))
    return saved(file, nodes, [info("X", FLOAT, batch, 4)], outputs)


def told(rows: Any) -> np.ndarray:
    scores = np.asarray(rows, dtype=np.float32) @ WEIGHTS + [0.0, 0.1, 0.2]
    scores = np.exp(scores - scores.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True)


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("labels", [["pear", "apple", "fig"], [7, 3, 5]])
def test_a_classifier_answers_by_its_own_labels(labels: list[Any], mapped: bool, tmp_path: Path, store: Path) -> None:
    file = classifier(tmp_path / "fruit.onnx", labels, mapped)
    truth = np.array(labels, dtype=object)[told(ROWS).argmax(1)]
    truth[:6] = labels[0]
    data = ROWS.assign(fruit=truth if isinstance(labels[0], str) else truth.astype(np.int64))
    made = maas.import_model(str(file), "fruit", sample=data, target="fruit")
    assert (made.task, made.architecture, made.classes) == ("multiclass", "onnx", tuple(map(str, labels)))
    assert [(spec.name, spec.datatype, spec.shape) for spec in made.signature.inputs] == [
        (name, "FP32", (-1, 1)) for name in ROWS
    ]
    wanted = told(ROWS)
    found = maas.predict("fruit", ROWS[["heavy", "high", "wide", "long"]])  # by name, in any order
    assert list(found["prediction"]) == [labels[place] for place in wanted.argmax(1)]
    given = found[[f"probability_{label}" for label in labels]].to_numpy()
    np.testing.assert_allclose(given, wanted, atol=1e-6)
    right = (np.array(labels, dtype=object)[wanted.argmax(1)] == truth).mean()
    assert made.metrics["accuracy"] == pytest.approx(right) == maas.evaluate("fruit", data, "fruit").values["accuracy"]
    artifact = maas.export("fruit", out=str(tmp_path / "again.onnx"))
    assert artifact.verification.max_abs_diff == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "again.onnx"))
    inputs = {name: ROWS[[name]].to_numpy(np.float32) for name in ROWS}
    prediction, probabilities = session.run(["prediction", "probabilities"], inputs)
    np.testing.assert_allclose(probabilities, wanted, atol=1e-6)
    assert list(prediction) == list(found["prediction"])


def test_without_rows_the_inputs_are_those_of_the_graph(tmp_path: Path, store: Path) -> None:
    file = classifier(tmp_path / "fruit.onnx", ["a", "b", "c"], True)
    made = maas.import_model(str(file), "fruit")
    assert [(spec.name, spec.shape) for spec in made.signature.inputs] == [("X", (-1, 4))]
    assert list(maas.predict("fruit", ROWS.to_numpy(np.float32))) == ["abc"[place] for place in told(ROWS).argmax(1)]
    assert made.metrics == {}
    with pytest.raises(MaasError, match="keeps no held-out rows"):
        maas.export("fruit", compress="int8")


def test_several_inputs_and_outputs_of_several_types(tmp_path: Path, store: Path) -> None:
    nodes = [
        helper.make_node("LabelEncoder", ["colour"], ["code"], domain="ai.onnx.ml", keys_strings=["red", "blue"],
                         values_floats=[1.0, 2.0], default_float=-1.0),
        helper.make_node("Cast", ["count"], ["counted"], to=FLOAT),
        helper.make_node("Cast", ["is new"], ["new"], to=FLOAT),
        helper.make_node("Sum", ["code", "counted", "new", "size"], ["total"]),
        helper.make_node("Cast", ["count"], ["wide"], to=DOUBLE),
        helper.make_node("Mul", ["wide", "large"], ["exact"]),
        helper.make_node("Concat", ["size", "total"], ["both"], axis=1),
    ]  # fmt: skip
    inputs = [
        info("colour", STRING, "N", 1), info("count", INT64, "N", 1),
        info("is new", TensorProto.BOOL, "N", 1), info("size", FLOAT, "N", 1),
    ]  # fmt: skip
    outputs = [info("total", FLOAT, "N", 1), info("exact", DOUBLE, "N", 1), info("both", FLOAT, "N", 2)]
    file = saved(tmp_path / "m.onnx", nodes, inputs, outputs, weights={"large": np.array([1e9 + 1])})
    rows = pd.DataFrame(
        {
            "size": [1.5, np.nan, 2.5], "colour": ["red", "blue", "green"], "count": [1, 2, 3],
            "is new": [True, False, True], "unread": [1, 1, 1],
        }
    )  # fmt: skip
    made = maas.import_model(str(file), "m", sample=rows)
    assert made.task == "heads" and made.target == ("total", "exact", "both")
    assert [spec.datatype for spec in made.signature.inputs] == ["BYTES", "INT64", "BOOL", "FP32"]
    found = maas.predict("m", rows)
    np.testing.assert_allclose(found["total"], [4.5, np.nan, 5.5 - 2 + 2])
    assert list(found["exact"]) == [1e9 + 1, 2e9 + 2, 3e9 + 3]  # more digits than float32 has
    assert maas.export("m").verification.max_abs_diff == 0
    with pytest.raises(DataError, match="'count' holds 1 missing"):
        maas.predict("m", rows.assign(count=[1, None, 3]))
    with pytest.raises(DataError, match="holds fractions"):
        maas.predict("m", rows.assign(count=[1.5, 2, 3]))


def test_an_output_whose_name_is_a_word_keeps_it(tmp_path: Path, store: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y:0"]), helper.make_node("Abs", ["x"], ["y_0"])]
    ends = [info(name, FLOAT, "N", 1) for name in ("x", "y:0", "y_0")]
    maas.import_model(str(saved(tmp_path / "m.onnx", nodes, ends[:1], ends[1:])), "m")
    found = maas.predict("m", np.array([[-2.0], [3.0]], dtype=np.float32))
    assert list(found) == ["y_0_", "y_0"]
    assert found["y_0"].tolist() == [2, 3] and found["y_0_"].tolist() == [2, -3]


def test_a_network_of_torch_is_compressed_and_asked_as_a_variant(tmp_path: Path, store: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 4), nn.Softmax(-1)).eval()
    file = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (torch.zeros(2, 16),), str(file), dynamo=True, dynamic_shapes=({0: "batch"},), input_names=["x"],
            output_names=["out"], verbose=False, external_data=False,
        )  # fmt: skip
    rows = RANDOM.normal(size=(200, 16)).astype(np.float32)
    wanted = net(torch.from_numpy(rows)).detach().numpy()
    made = maas.import_model(str(file), "net", sample=(rows, wanted.argmax(1)))
    assert made.task == "multiclass" and made.metrics["accuracy"] == 1 and made.parameters > 5_000
    np.testing.assert_allclose(maas.predict("net", rows, probabilities=True).T, wanted.T, atol=1e-6)
    smaller = maas.export("net", compress="int8", max_drop="10%")
    assert smaller.verification.bytes_after < 0.7 * smaller.verification.bytes_before
    assert (maas.predict("net@int8", rows) == wanted.argmax(1)).mean() > 0.9
    with pytest.raises(ModelError, match="no network of torch"):
        maas.export("net", format="pt2")
    with pytest.raises(ModelError, match="no network of torch"):
        maas.load("net")


def test_a_graph_for_one_row_at_a_time_takes_any_number(tmp_path: Path, store: Path) -> None:
    file = classifier(tmp_path / "one.onnx", ["a", "b", "c"], False, batch=1)
    maas.import_model(str(file), "one", sample=ROWS)
    assert (maas.predict("one", ROWS)["prediction"] == np.array(list("abc"))[told(ROWS).argmax(1)]).all()
    nodes = [helper.make_node("Reshape", ["X", "shape"], ["flat"])]
    fixed = saved(tmp_path / "fixed.onnx", nodes, [info("X", FLOAT, 1, 4)], [info("flat", FLOAT, 1, 4)],
                  weights={"shape": np.array([1, 4])})  # fmt: skip
    with pytest.raises(ModelError, match="no batch of any size"):
        maas.import_model(str(fixed), "fixed", sample=ROWS)


def test_labels_whose_scores_are_no_probabilities_are_answered_by_themselves(tmp_path: Path, lab: Any) -> None:
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["scores"]),
        helper.make_node("ArgMin", ["scores"], ["least"], axis=1, keepdims=0),
        helper.make_node("LabelEncoder", ["least"], ["label"], domain="ai.onnx.ml", keys_int64s=[0, 1, 2],
                         values_strings=["x", "y", "z"]),
        helper.make_node("ArrayFeatureExtractor", ["names", "least"], ["named"], domain="ai.onnx.ml"),
        helper.make_node("Reshape", ["named", "line"], ["said"]),
    ]  # fmt: skip
    weights = {"W": WEIGHTS, "names": np.array(["x", "y", "z"], dtype=object), "line": np.array([-1])}
    file = saved(
        tmp_path / "m.onnx", nodes, [info("X", FLOAT, "N", 4)],
        [info("said", STRING, "N"), info("scores", FLOAT, "N", 3)], weights=weights,
    )  # fmt: skip
    lab.last = lab.session.run(ImportRequest(path=str(file), name="m", data=ROWS), background=True)
    lab.last.result(600)
    assert any("are not probabilities" in text for text in lab.messages)
    wanted = (ROWS.to_numpy(np.float32) @ WEIGHTS).argmin(1)
    found = maas.predict("m", ROWS)
    assert list(found["prediction"]) == ["xyz"[place] for place in wanted]
    assert set(found["probability_x"]) == {0.0, 1.0}


def test_pictures_are_arrays_of_the_shape_that_the_graph_says(tmp_path: Path, store: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0)]
    file = saved(tmp_path / "m.onnx", nodes, [info("pixels", FLOAT, "N", 3, 8, 8)], [info("mean", FLOAT, "N")])
    pixels = RANDOM.normal(size=(9, 3, 8, 8)).astype(np.float32)
    made = maas.import_model(str(file), "m", sample=pixels)
    assert [(spec.name, spec.shape) for spec in made.signature.inputs] == [("pixels", (-1, 3, 8, 8))]
    np.testing.assert_allclose(maas.predict("m", pixels), pixels.mean((1, 2, 3)), atol=1e-6)
    with pytest.raises(DataError, match="shape"):
        maas.predict("m", pixels[:, :2])


def test_weights_beside_the_file(tmp_path: Path, store: Path) -> None:
    file = tmp_path / "m.onnx"
    nodes = [helper.make_node("MatMul", ["X", "W"], ["out"])]
    saved(file, nodes, [info("X", FLOAT, "N", 4)], [info("out", FLOAT, "N", 300)],
          weights={"W": RANDOM.normal(size=(4, 300)).astype(np.float32)})  # fmt: skip
    model = onnx.load(str(file))
    onnx.save(model, str(file), save_as_external_data=True, location="weights.bin", size_threshold=16)
    maas.import_model(str(file), "m")
    assert maas.predict("m", ROWS.to_numpy()).shape == (60, 300)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"keeps weights in weights\.bin"):
        maas.import_model(str(file), "m")
    assert [one.version for one in maas.models()] == [1]


def unknown(file: Path) -> None:
    saved(file, [helper.make_node("Fancy", ["X"], ["out"], domain="my.own")], [info("X", FLOAT, "N", 4)],
          [info("out", FLOAT, "N", 4)])  # fmt: skip


def garbage(file: Path) -> None:
    file.write_bytes(b"\x00not onnx\xff" * 9)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut_off(file: Path) -> None:
    classifier(file, ["a", "b", "c"], True)
    file.write_bytes(file.read_bytes()[:-40])


def scalar(file: Path) -> None:
    saved(file, [helper.make_node("Identity", ["X"], ["out"])], [info("X", FLOAT)], [info("out", FLOAT)])


def of_all_rows(file: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["X"], ["out"], keepdims=0)]
    saved(file, nodes, [info("X", FLOAT, "N", 4)], [info("out", FLOAT)])


def mixes_rows(file: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["X"], ["mean"], axes=[0]), helper.make_node("Sub", ["X", "mean"], ["out"])]
    saved(file, nodes, [info("X", FLOAT, "N", 4)], [info("out", FLOAT, "N", 4)])


def breaks(file: Path) -> None:
    nodes = [helper.make_node("MatMul", ["X", "W"], ["out"])]
    saved(file, nodes, [info("X", FLOAT, "N", 4)], [info("out", FLOAT, "N", 4)], weights={"W": np.eye(5, dtype="f4")})


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (unknown, r"operators that ONNX Runtime does not know: my\.own:Fancy"),
        (garbage, "not an ONNX"),
        (empty, "not an ONNX graph"),
        (cut_off, "not an ONNX|cannot answer"),
        (scalar, "has one value for all rows"),
        (of_all_rows, r"has the shape \(\) for 300 rows|has the shape"),
        (mixes_rows, "batches of another size"),
        (breaks, "cannot answer with"),
        (lambda file: None, "There is no file"),
    ],
)
def test_what_is_no_model_is_refused_in_two_lines(write: Any, said: str, tmp_path: Path, store: Path) -> None:
    file = tmp_path / "m.onnx"
    write(file)
    with pytest.raises(ModelError, match=said) as raised:
        maas.import_model(str(file), "m")
    assert raised.value.hint and len(str(raised.value).splitlines()) == 2
    assert not list(maas.models())
    assert not list((store / "tmp").glob("*"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (ROWS[["long", "wide"]], "the sample has 2 columns"),
        (ROWS.assign(fruit="a"), "the sample has 5 columns"),
        (ROWS.assign(long="no number"), "holds"),
        (ROWS.to_numpy()[:, :3], "shape"),
        (ROWS[:0], "no rows"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows: Any, said: str, tmp_path: Path, store: Path) -> None:
    file = classifier(tmp_path / "m.onnx", ["a", "b", "c"], True)
    with pytest.raises(DataError, match=said) as raised:
        maas.import_model(str(file), "m", sample=rows)
    assert raised.value.hint
    assert not list(maas.models())


def test_the_best_file_of_an_imported_one_is_found(tmp_path: Path, store: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 300), nn.ReLU(), nn.Linear(300, 3), nn.Softmax(1)).eval()
    file = tmp_path / "net.onnx"
    axes = {"x": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.zeros(2, 4),), file, dynamo=False, dynamic_axes=axes, input_names=["x"])
    best = net(torch.from_numpy(ROWS.to_numpy().astype(np.float32))).argmax(1).numpy()
    maas.import_model(str(file), "m", sample=ROWS.assign(best=best), target="best")
    made = maas.export("m", auto=True, max_drop="90%")
    assert {"onnx", "int8"} <= {each.name for each in made.frontier if each.bytes}
    assert sum(each.best for each in made.frontier) == 1
    assert len(maas.predict(f"m@{made.variant}", ROWS)) == len(ROWS)


@pytest.mark.parametrize("encrypt", [False, True])
def test_an_export_comes_back_with_its_labels(
    encrypt: bool, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_key(tmp_path / "key")
    monkeypatch.setenv("MAAS_KEY", f"file:{tmp_path / 'key'}")
    rows = ROWS.assign(good=ROWS["long"] > 0)
    maas.train("m", data=rows, target="good", model="linear", epochs=2)
    maas.export("m", out=str(tmp_path / "out"), encrypt=encrypt)
    made = maas.import_model(str(tmp_path / "out"), "back", data=rows, target="good")
    assert made.task == "binary" and made.classes == ("False", "True")
    pd.testing.assert_frame_equal(maas.predict("back", ROWS), maas.predict("m", ROWS), rtol=1e-4)
    file = store / "models/back/1/exports/onnx/model.onnx"
    assert file.read_bytes().startswith(chunks.MAGIC) == encrypt
    if encrypt:
        write_key(tmp_path / "another")
        monkeypatch.setenv("MAAS_KEY", f"file:{tmp_path / 'another'}")
        with pytest.raises(SealError, match="is encrypted with the key"):
            maas.import_model(str(tmp_path / "out"), "other")
        monkeypatch.delenv("MAAS_KEY")
        with pytest.raises(SealError, match="no key is known"):
            maas.import_model(str(tmp_path / "out"), "other")
        assert not (store / "models/other").exists()


def test_truth_values_are_labels(store: Path, tmp_path: Path) -> None:
    nodes = [helper.make_node("Greater", ["X", "least"], ["is"])]
    file = saved(
        tmp_path / "a.onnx", nodes, [info("X", FLOAT, "N", 1)], [info("is", TensorProto.BOOL, "N", 1)],
        weights={"least": np.array([[0.5]], dtype=np.float32)},
    )  # fmt: skip
    made = maas.import_model(str(file), "is", data=pd.DataFrame({"X": [0.0, 1.0, 2.0]}))
    assert made.task == "binary"
    found = maas.predict("is", pd.DataFrame({"X": [3.0, -1.0]}), probabilities=True)
    assert found["prediction"].tolist() == [True, False] and found["probability_True"].tolist() == [1.0, 0.0]
