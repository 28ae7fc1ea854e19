"""`%export --compress`: a smaller variant of a version, judged on held-out rows, that answers under a name of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import maas_magics as maas
from maas_magics.api.errors import ExportError, InvalidName, MaasError, ModelNotFound, OptionError, ToleranceExceeded
from maas_magics.api.requests import PredictRequest
from maas_magics.core.compressors import compressors
from maas_magics.core.exporters.trial import trial_of
from maas_magics.session import current

rng = np.random.default_rng(1)
X = rng.normal(size=(600, 40)).astype("float32")
KIND = (X[:, 0] + X[:, 1] > 0).astype(int)
SIZE = (X[:, 2] * 3 + X[:, 3]).astype("float32")


def net(outputs: int = 2, width: int = 256) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))


def ask(ref: str, rows: Any = X[:40]) -> Any:
    """Answers, with the reference that gave them."""
    return current().run(PredictRequest(model=ref, data=rows))


def train(name: str = "m", target: Any = KIND, **given: Any) -> None:
    maas.train(name, X, target, **{"model": net(), "epochs": 2, "batch_size": 64, "validation": 0.25} | given)


@pytest.mark.parametrize(("target", "outputs"), [(KIND, 2), (SIZE, 1)])
def test_a_compressed_variant_is_smaller_judged_and_answers(store: Path, target: Any, outputs: int) -> None:
    train(target=target, model=net(outputs), epochs=8)
    plain, small = maas.export("m"), maas.export("m", compress="int8", max_drop="5%")
    assert (small.variant, small.format, small.model) == ("int8", "onnx", "m:1")
    check = small.verification
    assert check.max_drop == 0.05 and 0 < check.max_abs_diff < 0.3
    assert check.bytes_after < 0.35 * plain.verification.bytes_after
    name = next(iter(check.metrics_after))
    assert abs(check.metrics_before[name] - check.metrics_after[name]) <= 0.05 * max(1, check.metrics_before[name])
    answers, exact = ask("m@int8"), ask("m")
    assert answers.model == "m:1@int8" and exact.model == "m:1" and ask("m@onnx").model == "m:1@onnx"
    if outputs == 1:
        apart = np.abs(np.asarray(answers.columns["prediction"]) - np.asarray(exact.columns["prediction"]))
        assert 0 < apart.max() < 1
    else:
        assert np.mean(np.asarray(answers.columns["prediction"]) == np.asarray(exact.columns["prediction"])) > 0.9
    assert ask("m:1@int8").model == "m:1@int8"
    scored = maas.evaluate("m@int8", X, target)
    assert scored.model == "m:1@int8" and scored[name] > 0
    assert maas.models()[0].exports == ("int8", "onnx")


@pytest.mark.parametrize("way", ["int8", "int8-static"])
def test_batched_weights_of_an_ensemble_are_stored_as_integers_and_the_file_runs(store: Path, way: str) -> None:
    train(target=KIND, model="tabm", epochs=2)
    small = maas.export("m", compress=way, max_drop=0.2)
    assert any("stored as integers and computed in floats" in text for text in small.stayed)
    assert small.verification.bytes_after < 0.6 * maas.export("m").verification.bytes_after
    file = onnx.load(Path(small.path) / "model.onnx")
    assert any("Quantize" in node.op_type or "Integer" in node.op_type for node in file.graph.node)
    assert len(maas.predict(f"m@{way}", X[:5])) == 5


def test_a_loss_past_the_budget_publishes_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(epochs=8)

    class Rough:
        format = "onnx"

        def compress(self, file: Path, smaller: Path, inputs: Any) -> str:
            assert inputs[0].shape[1:] == (40,)
            model = onnx.load(file)
            for weight in model.graph.initializer:
                if weight.data_type == onnx.TensorProto.FLOAT:
                    weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), weight.name))
            onnx.save(model, smaller)
            return ""

    monkeypatch.setitem(compressors._entries, "rough", Rough())
    with pytest.raises(ToleranceExceeded, match="rough file answers with accuracy") as told:
        maas.export("m", compress="rough", max_drop="2%")
    assert "--max-drop" in told.value.hint
    folder = store / "models/m/1/exports"
    assert not folder.is_dir() or "rough" not in os.listdir(folder)
    assert maas.export("m", compress="rough", max_drop=0.99).variant == "rough"


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"compress": "int9"}, MaasError, "no compression 'int9'"),
        ({"compress": "int8", "max_drop": "much"}, OptionError, "max drop is much"),
        ({"compress": "int8", "max_drop": -1}, OptionError, "max drop is -1"),
        ({"compress": "int8+int8"}, OptionError, "named twice"),
        ({"compress": "int8,fp16"}, OptionError, r"joined with \+"),
        ({"compress": "int8", "format": "pt2"}, OptionError, "compresses onnx files, not pt2"),
    ],
)
def test_what_cannot_be_compressed_is_told(store: Path, options: dict[str, Any], kind: type, said: str) -> None:
    train()
    with pytest.raises(kind, match=said):
        maas.export("m", **options)


class Scaled(nn.Module):
    """Weights that are added and multiplied with, number by number."""

    def __init__(self) -> None:
        super().__init__()
        self.factor, self.shift = nn.Parameter(torch.rand(64, 40)), nn.Parameter(torch.zeros(64, 40))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return (rows[:, None] * self.factor + self.shift).sum(2)


def test_a_network_without_products_is_told_where_its_weights_are(store: Path) -> None:
    maas.train("c", X[:60], rng.normal(size=(60, 64)).astype("float32"), model=Scaled(), epochs=1)
    for way in ("int8", "int4", "int8-static"):
        with pytest.raises(ExportError, match="the weights stand in (Add, )?Mul"):
            maas.export("c", compress=way)


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.scale = nn.Embedding(300, 64), nn.Parameter(torch.ones(6, 192))
        self.hidden, self.last = nn.Linear(192, 70), nn.Linear(70, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        words = self.table(ids).repeat(1, 1, 3) * self.scale
        found: torch.Tensor = self.last(torch.relu(self.hidden(words.mean(1))))
        return found


def test_four_bits_for_layers_that_are_one_operator_and_for_tables(store: Path) -> None:
    ids = rng.integers(0, 300, (400, 6))
    maas.train("r", ids, (ids[:, 0] > 150).astype(int), model=Reader(), epochs=2)
    four = maas.export("r", compress="int4", max_drop=0.9)
    kinds = {node.op_type for node in onnx.load(Path(four.path) / "model.onnx").graph.node}
    assert "MatMulNBits" in kinds and not kinds & {"Gemm", "MatMul"}
    with pytest.raises(ExportError, match="that is not in integers already"):
        maas.export("r", compress="int8+int4", max_drop=0.9)
    assert four.verification.bytes_after < 0.3 * maas.export("r").verification.bytes_after


def test_a_network_that_only_looks_up_has_a_table_of_integers(store: Path) -> None:
    texts = [f"this was a {'lovely' if i % 2 else 'dreadful'} evening, the number {i} of many" for i in range(80)]
    maas.train("b", {"review": texts, "mood": [i % 2 for i in range(80)]}, "mood", model="bow", epochs=1)
    made = maas.export("b", compress="int4", max_drop=0.9)
    assert made.stayed[0].startswith("int4: ") and "stored as integers" in made.stayed[0]
    assert made.verification.bytes_after < 0.3 * maas.export("b").verification.bytes_after


class Layers(nn.Module):
    """Layers whose weights no integer product takes."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.last = kind, nn.Linear(24, 1)
        if kind == "conv":
            self.layer: nn.Module = nn.Sequential(nn.Conv1d(16, 48, 3), nn.Conv1d(48, 24, 5, groups=2))
        elif kind == "transposed":
            self.layer = nn.Sequential(nn.ConvTranspose1d(16, 40, 3), nn.Conv1d(40, 24, 3))
        elif kind == "gru":
            self.layer = nn.GRU(16, 24, batch_first=True, bidirectional=False)
        else:
            self.weights = nn.Parameter(torch.randn(8, 16, 24) / 4)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if self.kind == "gru":
            hidden = self.layer(rows)[0].mean(1)
        elif self.kind == "each":
            hidden = torch.relu(rows.transpose(0, 1) @ self.weights).mean(0)
        else:
            hidden = self.layer(rows.transpose(1, 2)).mean(2)
        found: torch.Tensor = self.last(hidden)
        return found


@pytest.mark.parametrize("kind", ["conv", "transposed", "gru", "each"])
@pytest.mark.parametrize(("way", "share", "most"), [("int8", 0.34, 0.03), ("int4", 0.2, 0.5)])
def test_weights_that_no_integer_product_takes_are_stored_as_integers(
    store: Path, kind: str, way: str, share: float, most: float
) -> None:
    from openvino import Core

    rows = rng.normal(size=(120, 8, 16)).astype("float32")
    maas.train("l", rows, rows[:, 0, 0] * 2, model=Layers(kind), epochs=1, validation=0.25)
    made = maas.export("l", compress=way, max_drop=0.9)
    assert 0 < made.verification.max_abs_diff < most
    file = onnx.load(Path(made.path) / "model.onnx")
    held = {each.name: each for each in file.graph.initializer}
    packed = {name: each for name, each in held.items() if name.rpartition("/")[2] in ("int8", "int4")}
    assert packed and all(name.endswith(way) for name in packed)
    shapes = [onnx.numpy_helper.to_array(held[name.rpartition("/")[0] + "/shape"]) for name in packed]
    scales = sum(4 * np.prod(held[name.rpartition("/")[0] + "/scale"].dims) for name in packed)
    numbers = sum(int(np.prod(shape)) for shape in shapes)
    assert sum(len(each.raw_data) for each in packed.values()) + scales < share * 4 * numbers
    few = rows[:9]
    asked = np.asarray(ask(f"l@{way}", few).columns["prediction"])
    there = Core().compile_model(str(Path(made.path) / "model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.abs(next(iter(there([few]).values())).ravel() - asked.ravel()).max() < 1e-4


def test_groups_of_integers_are_the_nearest_to_a_weight() -> None:
    from maas_magics.core.compressors.stored import in_groups

    weight = rng.normal(size=(5, 96, 7)).astype("float32")
    weight[0, :, 0] = 0
    for bits, width, groups in ((8, 96, 1), (4, 96, 3), (8, 67, 1), (4, 67, 3), (4, 27, 1), (4, 72, 3)):
        given = weight[:, :width]
        integers, scales = in_groups(given, 1, bits)
        assert integers.shape[:2] == (5, groups) and scales.shape == (5, groups, 1, 7)
        made = (integers * scales).reshape(5, -1, 7)[:, :width]
        largest = np.abs(given).max(1, keepdims=True)
        assert (np.abs(made - given) <= largest * (1 / 127 if bits == 8 else 1 / 8) + 1e-7).all()
        assert np.abs(integers).max() <= 1 << (bits - 1)


def test_a_version_without_held_out_rows_is_not_judged(store: Path) -> None:
    train(validation=0.0)
    try:
        assert maas.export("m", compress="int8", max_drop="20%").verification.rows > 0  # training rows are kept then
    except ExportError as error:
        assert "held-out" in error.message


def test_a_variant_is_no_version_to_remove_copy_or_name(store: Path) -> None:
    train()
    maas.export("m", compress="int8", max_drop=0.5)
    models = current().backend.models
    with pytest.raises(InvalidName, match="is the variant 'int8' of m:1"):
        models.delete("m@int8")
    with pytest.raises(InvalidName):
        models.alias("m@int8", "best")
    with pytest.raises(ModelNotFound, match="has no export of that name"):
        maas.predict("m@int4", X[:2])
    with pytest.raises(InvalidName, match="names an export of m:1"):
        models.alias("m:1", "int8")
    with pytest.raises(InvalidName, match="is the variant"):
        maas.export("m@int8")
    assert ask("m:1@int8").model == "m:1@int8"


class Two(nn.Module):
    """Two heads, of which one hangs on a column that is always 0, and has a weight that spoils its scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 64)
        with torch.no_grad():
            self.a.weight.copy_(torch.eye(64))
            weight = torch.randn(64, 64) * 0.2
            weight[:, 0] = 1e3
            self.b.weight.copy_(weight)
            self.a.bias.zero_()
            self.b.bias.zero_()

    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"a": self.a(rows).mean(1), "b": self.b(rows).mean(1)}


def test_every_head_is_judged(store: Path) -> None:
    rows = rng.normal(size=(400, 64)).astype("float32")
    rows[:, 0] = 0
    net = Two()
    with torch.no_grad():
        found = net(torch.from_numpy(rows))
    noise = rng.normal(size=(2, 400)).astype("float32") * 0.05
    target = {name: found[name].numpy() + noise[place] for place, name in enumerate("ab")}
    maas.train("h", rows, target, model=net, epochs=1, lr=1e-9, optimizer="SGD")
    with pytest.raises(ToleranceExceeded, match="b_rmse"):
        maas.export("h", compress="int8")


def test_an_alias_in_the_way_is_told(store: Path) -> None:
    train()
    current().backend.models.alias("m:1", "int8")
    with pytest.raises(OptionError, match="is an alias"):
        maas.export("m", compress="int8", max_drop=0.9)


def operators(artifact: Any) -> dict[str, int]:
    """How often each operator of an exported file occurs."""
    found: dict[str, int] = {}
    for node in onnx.load(Path(artifact.path) / "model.onnx").graph.node:
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return found


class Residual(nn.Module):
    """Convolutions, statistics of batches, a sum, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.norm = nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.b, self.last = nn.Conv2d(32, 32, 3, padding=1), nn.Linear(32, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.norm(self.a(rows)))
        found: torch.Tensor = self.last(torch.relu(first + self.b(first)).mean((2, 3)))
        return found


def test_a_convolutional_network_is_calibrated_and_stays_in_integers(store: Path) -> None:
    pictures = rng.normal(size=(200, 1, 8, 8)).astype("float32")
    kind = (pictures[:, 0, :4].mean((1, 2)) > 0).astype(int)
    maas.train("c", pictures, kind, model=Residual(), epochs=2, validation=0.25)
    made = maas.export("c", compress="int8-static", max_drop="50%")
    assert made.variant == "int8-static" and made.verification.max_abs_diff < 0.2
    weights = {each.name: each for each in onnx.load(Path(made.path) / "model.onnx").graph.initializer}
    scales = [each for name, each in weights.items() if name.endswith("_scale") and list(each.dims) == [32]]
    assert scales, "a scale for each channel"
    assert operators(made)["DequantizeLinear"] > 3 and "BatchNormalization" not in operators(made)
    assert made.verification.bytes_after < 0.6 * maas.export("c").verification.bytes_after
    assert set(made.opset) <= {"", "ai.onnx.ml", "com.microsoft"}
    assert len(maas.predict("c@int8-static", pictures[:5])) == 5


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.layers, self.last = nn.TransformerEncoder(layer, 1), nn.Linear(32, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(self.layers(rows).mean(1))
        return found


def test_attention_and_normalisation_stay_in_floats(store: Path) -> None:
    rows = rng.normal(size=(200, 6, 32)).astype("float32")
    maas.train("a", rows, (rows[:, 0, 0] > 0).astype(int), model=Attentive(), epochs=1, validation=0.25)
    made = maas.export("a", compress="int8-static", max_drop="50%")
    graph = onnx.load(Path(made.path) / "model.onnx").graph
    quantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    for node in graph.node:
        if node.op_type in ("Softmax", "LayerNormalization", "Add"):
            assert not quantised & set(node.input), node.op_type
    assert made.verification.max_abs_diff < 0.1


@pytest.mark.parametrize(("kind", "most"), [("fp16", 2e-3), ("bf16", 2e-2)])
def test_halves_are_stored_computed_in_floats_and_asked_in_a_second_runtime(
    store: Path, kind: str, most: float
) -> None:
    train(target=SIZE, model=net(1))
    plain, made = maas.export("m"), maas.export("m", compress=kind, max_drop="5%")
    check = made.verification
    assert 0 < check.max_abs_diff < most and check.mean_abs_diff and check.mean_abs_diff < check.max_abs_diff
    assert check.bytes_after < 0.6 * plain.verification.bytes_after
    assert check.second.startswith("the ONNX reference agrees on 32 rows")
    assert operators(made)["Cast"] == 2 and made.operators == operators(made) and made.opset[""] == 20
    assert set(check.lost) == {"rmse"} and check.lost["rmse"].low is not None
    assert check.slowest_after["1"] >= check.latency_after["1"] and made.versions["onnxruntime"]
    assert "second runtime" in made.report() and "loss of rmse" in made.report()


def test_halves_that_find_nothing_behind_integers_are_to_be_left_out(store: Path) -> None:
    train(epochs=1)
    with pytest.raises(ExportError, match="fp16 finds nothing to store in two bytes") as told:
        maas.export("m", compress="int8+fp16", max_drop=0.9)
    assert told.value.hint == "Leave out fp16."


def test_a_weight_too_large_for_halves_stays_and_is_told(store: Path) -> None:
    big = net(1)
    with torch.no_grad():
        big[2].weight[0, 0] = 7e4  # type: ignore[index]
    maas.train("m", X, SIZE, model=big, epochs=1, lr=1e-30, optimizer="SGD", validation=0.25)
    made = maas.export("m", compress="fp16", max_drop="90%")
    assert any("stay in floats" in text for text in made.stayed) and operators(made)["Cast"] == 1
    assert operators(maas.export("m", compress="bf16", max_drop="90%"))["Cast"] == 2


def test_several_in_the_order_that_works_answer_by_the_name_that_was_typed(store: Path) -> None:
    ids = rng.integers(0, 300, (400, 6))
    maas.train("r", ids, (ids[:, 0] > 150).astype(int), model=Reader(), epochs=1)
    made = maas.export("r", compress="fp16+int4", max_drop=0.9)
    assert made.variant == "fp16+int4" and {"Cast", "MatMulNBits"} <= set(operators(made))
    assert made.verification.second.startswith(("not verified", "OpenVINO agrees"))
    assert ask("r@fp16+int4", ids[:3]).model == "r:1@fp16+int4"
    assert maas.evaluate("r@fp16+int4", ids, (ids[:, 0] > 150).astype(int)).model == "r:1@fp16+int4"


def test_a_second_runtime_is_asked_the_batch_by_which_integers_are_scaled(store: Path) -> None:
    rows = rng.normal(size=(400, 8)).astype(np.float32)
    rows[::7] *= 30.0
    wide = nn.Sequential(nn.Linear(8, 1_100), nn.ReLU(), nn.Linear(1_100, 1))  # biases stay for halves
    maas.train("m", rows, rows[:, 0], model=wide, epochs=1, validation=0.5)
    made = maas.export("m", compress="int8+fp16", max_drop="50%")
    assert made.verification.second.startswith("the ONNX reference agrees on 32 rows")


def test_a_loss_has_an_interval_of_rows_drawn_for_both_alike(store: Path) -> None:
    from maas_magics.core.exporters.judge import judge, losses

    train(epochs=4)
    model = current().backend.loader.model("m", 1)  # type: ignore[attr-defined]
    truth = np.arange(200) % 2
    before = np.eye(2)[truth]
    after = before.copy()
    assert losses(model, before, after, truth)["accuracy"].high == 0
    after[:10] = 1 - after[:10]
    found = losses(model, before, after, truth)
    loss = found["accuracy"]
    assert loss.lost == pytest.approx(0.05) and loss.low is not None and loss.high is not None
    assert 0.015 < loss.low < 0.04 < 0.06 < loss.high < 0.1
    figures = {"accuracy": 1.0}, {"accuracy": 0.95}
    with pytest.raises(ToleranceExceeded, match=r"a loss of 5\.00% \(95 %"):
        judge(found, 0.04, *figures, "small")
    assert "may lose more than 6.00%" in judge(found, 0.06, *figures, "small")
    assert judge(found, 0.2, *figures, "small") == ""
    figures = {"accuracy": 1.0, "f1": 0.9}, {"accuracy": 0.95, "f1": 0.1}
    assert "f1 falls from 0.9 to 0.1" in judge(found, 0.2, *figures, "small")


def test_answers_of_a_network_are_asked_once_and_again_once_it_has_changed(store: Path) -> None:
    train()
    backend: Any = current().backend
    model = backend.loader.model("m", 1)
    trial = trial_of(model, store / "models" / "m" / "1")
    first = trial.answers()
    assert trial.answers() is first
    with torch.no_grad():
        next(model.net.parameters()).mul_(3)
    assert not np.array_equal(trial.answers(), first)
