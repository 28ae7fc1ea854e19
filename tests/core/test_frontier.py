"""`%export NAME --auto`: the sensible compressions are tried, told, drawn, and the best within the budget is kept."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import onnx
import pytest
import torch
from torch import nn

import maas_magics as maas
from maas_magics.api.errors import ExportError, MissingDependency, OptionError, Stopped
from maas_magics.api.frontier import Tried, picture
from maas_magics.api.requests import ExportRequest
from maas_magics.api.results import Artifact
from maas_magics.core.compressors import compressors
from maas_magics.core.exporters import frontier
from maas_magics.session import current

rng = np.random.default_rng(3)
X = rng.normal(size=(400, 40)).astype("float32")
KIND = (X[:, 0] + X[:, 1] > 0).astype(int)


def train(**given: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    maas.train("m", X, KIND, **{"model": net, "epochs": 6, "batch_size": 64, "validation": 0.25} | given)


class Sunk:
    """A compression whose file takes the process that opens it with it."""

    format = "onnx"

    def compress(self, file: Path, smaller: Path, inputs: Any) -> str:
        smaller.write_bytes(b"sunk")
        return ""


def test_the_smallest_within_the_budget_is_kept_with_the_table_of_all(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train()
    monkeypatch.setitem(compressors._entries, "sunk", Sunk())
    monkeypatch.setattr(frontier, "WAYS", ("fp16", "int8", "int4", "int4+fp16", "int4+int8", "sunk"))
    made = maas.export("m", auto=True, max_drop="20%")
    known = {each.name: each for each in made.frontier}
    assert set(known) == {"onnx", "fp16", "int8", "int4", "int4+fp16", "int4+int8", "sunk"}
    assert known["sunk"].why == "the file cannot be used" and not known["sunk"].bytes
    sizes = {name: each.bytes for name, each in known.items() if each.fits}
    assert made.variant == min(sizes, key=lambda name: sizes[name]) and [known[made.variant]] == [
        each for each in made.frontier if each.best
    ]
    assert known["onnx"].lost["accuracy"].lost == 0 and known["int8"].bytes < 0.5 * known["onnx"].bytes
    for each in made.frontier:
        if each.bytes:
            assert 0 < each.spread[0] <= each.latency <= each.spread[1] and each.metric == "accuracy"
    kept = msgspec.json.decode((Path(made.path) / "artifact.json").read_bytes(), type=Artifact)
    assert kept.frontier == made.frontier
    assert set(maas.models()[0].exports) == {"onnx", made.variant}, "the trace is kept for the next variant"
    assert len(maas.predict(f"m@{made.variant}", X[:5])) == 5
    shown = made._repr_html_()
    assert "<svg" in shown and "kept" in made.report() and list((store / "tmp").iterdir()) == []


def test_nothing_within_the_budget_keeps_the_plain_export(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rough:
        format = "onnx"

        def compress(self, file: Path, smaller: Path, inputs: Any) -> str:
            model = onnx.load(file)
            for weight in model.graph.initializer:
                if weight.data_type == onnx.TensorProto.FLOAT:
                    weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), weight.name))
            onnx.save(model, smaller)
            return ""

    train()
    monkeypatch.setitem(compressors._entries, "rough", Rough())
    monkeypatch.setattr(frontier, "WAYS", ("rough", "rough+fp16", "nothing"))
    made = maas.export("m", auto=True, max_drop="2%", target="latency")
    assert made.variant == "onnx" and not any(each.fits for each in made.frontier if each.name == "rough")
    assert "past the budget" in made.report()
    assert next(each for each in made.frontier if each.name == "nothing").why.startswith("There is no compression")
    assert maas.models()[0].exports == ("onnx",)


def test_a_stop_publishes_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train()
    backend: Any = current().backend

    class Slow:
        format = "onnx"

        def compress(self, file: Path, smaller: Path, inputs: Any) -> str:
            job[0].stop()
            return ""

    job: list[Any] = []
    monkeypatch.setitem(compressors._entries, "slow", Slow())
    monkeypatch.setattr(frontier, "WAYS", ("wait", "slow", "int8"))
    gate = threading.Event()

    class Wait(Slow):
        def compress(self, file: Path, smaller: Path, inputs: Any) -> str:
            gate.wait(60)
            raise ExportError("It waited.", "")

    monkeypatch.setitem(compressors._entries, "wait", Wait())
    job.append(backend.submit(ExportRequest(model="m", auto=True)))
    gate.set()
    with pytest.raises(Stopped):
        job[0].result()
    folder = store / "models/m/1/exports"
    assert not folder.is_dir() or os.listdir(folder) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "price"}, "size or latency was expected"),
        ({"auto": False, "target": "latency"}, "what the best of --auto has least of"),
        ({"compress": "int8"}, "chooses the compression"),
        ({"format": "pt2"}, "chooses the compression"),
        ({"max_drop": "much"}, "max drop is much"),
    ],
)
def test_what_it_cannot_choose_by_is_told(store: Path, options: dict[str, Any], said: str) -> None:
    train(epochs=1)
    with pytest.raises(OptionError, match=said):
        maas.export("m", **({"auto": True} | options))


def test_the_picture_is_whole_and_labels_stand_apart() -> None:
    many = [
        Tried(name=f"way<{i}>", bytes=1000 + i, metric="rmse", score=1.0, latency=1.0, spread=(0.9, 1.2), fits=True)
        for i in range(9)
    ]
    tree = ElementTree.fromstring(picture(many))
    assert len(tree.findall(".//{*}circle")) == 18
    assert picture(many[:1]) == "" and "way&lt;0&gt;" in picture(many)


def test_ort_format_answers_by_its_name(store: Path) -> None:
    train()
    made = maas.export("m", "ort")
    assert (Path(made.path) / "model.ort").read_bytes()[4:8] == b"ORTM" and made.verification.memory >= 0
    assert np.array_equal(maas.predict("m@ort", X[:9]), maas.predict("m", X[:9]))


def test_openvino_is_verified_in_its_own_runtime_or_names_its_extra(store: Path) -> None:
    train()
    try:
        made = maas.export("m", "openvino", tolerance=1e-3)
    except MissingDependency as error:
        assert "maas-magics[openvino]" in error.hint
        return
    assert sorted(os.listdir(made.path))[-2:] == ["model.bin", "model.xml"] and made.versions["openvino"]
