"""Formats for phones and boards: verified in their own runtime, or said to be not."""

from __future__ import annotations

import os
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

import maas_magics as maas
from maas_magics.api.errors import ExportError, MissingDependency
from maas_magics.api.results import Artifact

rng = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {"a": rng.normal(size=120), "c": rng.choice(list("xyz"), 120), "y": rng.choice(["no", "yes"], 120)}
)
PICTURES, DIGITS = rng.normal(size=(60, 1, 8, 8)).astype(np.float32), np.arange(60) % 3
NET = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def table() -> None:
    frame = TABLE.copy()
    frame.loc[::7, "a"] = None
    maas.train("m", frame, "y", model="mlp", epochs=1)


def pictures() -> None:
    maas.train("m", PICTURES, DIGITS, model=NET, epochs=1)


def needs(format: str) -> None:
    module = {"executorch": "executorch", "coreml": "coremltools", "litert": "ai_edge_litert"}[format]
    if find_spec(module) is None:  # not imported: coremltools beside TensorFlow ends the process
        pytest.skip(f"no {module}")
    if format == "litert" and not os.environ.get("MAAS_LITERT_PYTHON") and find_spec("litert_torch") is None:
        pytest.skip("no Python with litert-torch")


@pytest.mark.slow
@pytest.mark.parametrize("format", ["executorch", "litert"])
@pytest.mark.parametrize("made", [table, pictures])
def test_answers_in_its_own_runtime_as_the_model_does(made: Any, format: str, store: Path) -> None:
    needs(format)
    made()
    artifact = maas.export("m", format)
    check = artifact.verification
    assert check.rows > 5
    assert check.max_abs_diff is not None and check.max_abs_diff <= 1e-4
    assert check.metrics_after == check.metrics_before
    assert str(store).encode() not in next(Path(artifact.path).glob("model.*")).read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="it is opened here")
@pytest.mark.parametrize("made", [table, pictures])
def test_core_ml_is_written_and_said_to_be_not_verified(made: Any, store: Path) -> None:
    needs("coreml")
    made()
    artifact = maas.export("m", "coreml")
    check = artifact.verification
    assert (check.rows, check.max_abs_diff, check.metrics_after) == (0, None, {})
    assert "Core ML answers on macOS alone" in check.unverified
    assert "not verified" in repr(artifact)
    assert "not verified" in artifact.report()
    assert "max |Δ|" not in artifact.report()
    with zipfile.ZipFile(Path(artifact.path) / "model.mlpackage.zip") as package:
        assert "model.mlpackage/Manifest.json" in package.namelist()
    assert "was not verified" in (Path(artifact.path) / "README.md").read_text()
    found = [each for each in maas.models() if each.name == "m"]
    assert "coreml" in found[0].exports
    assert isinstance(artifact, Artifact)


@pytest.mark.parametrize("format", ["executorch", "coreml"])
def test_rows_of_any_length_are_refused(format: str, store: Path) -> None:
    needs(format)
    texts = pd.DataFrame({"t": ["a word", "some more words", "a", "b"] * 20, "y": ["n", "y"] * 40})
    maas.train("m", texts, "y", model="textcnn", epochs=1, feature={"t": "text"})
    with pytest.raises(ExportError, match="rows of any length") as raised:
        maas.export("m", format)
    assert raised.value.hint == "--format onnx"
    assert not list(store.glob(f"models/m/1/exports/{format}"))


@pytest.mark.parametrize(
    ("format", "module"),
    [("executorch", "executorch"), ("coreml", "coremltools"), ("litert", "ai_edge_litert")],
)
def test_what_is_not_installed_is_named(format: str, module: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maas.train("m", TABLE, "y", model="linear", epochs=1)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency) as raised:
        maas.export("m", format)
    assert f"maas-magics[{format}]" in raised.value.hint
    assert not list(store.glob(f"models/m/1/exports/{format}"))


def test_the_converter_of_litert_is_asked_for(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert")
    maas.train("m", TABLE, "y", model="linear", epochs=1)
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    monkeypatch.delenv("MAAS_LITERT_PYTHON", raising=False)
    with pytest.raises(MissingDependency, match="litert-torch, in an environment of its own") as raised:
        maas.export("m", "litert")
    assert "MAAS_LITERT_PYTHON" in raised.value.hint
    monkeypatch.setenv("MAAS_LITERT_PYTHON", "/nowhere/python")
    with pytest.raises(ExportError, match="cannot be written by /nowhere/python"):
        maas.export("m", "litert")
    monkeypatch.setenv("MAAS_LITERT_PYTHON", sys.executable)
    with pytest.raises(ExportError, match="cannot express the network"):
        maas.export("m", "litert")
    assert not list(store.glob("models/m/1/exports/litert"))
