"""A folder of diffusers where the library is not installed, and folders that lack something."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import maas_magics as maas
from maas_magics.api.errors import MissingDependency, ModelError


def written(folder: Path) -> Path:
    """What a pipeline's folder begins with."""
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    (folder / "unet" / "config.json").write_text("{}")
    return folder


def test_the_line_that_installs_it_is_said(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path / "pipe")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "diffusers" else find(name))
    with pytest.raises(MissingDependency, match="needs diffusers, which is not installed") as error:
        maas.import_model(str(folder), "drawer")
    assert error.value.hint == '%pip install "maas-magics[diffusers]"'


def test_a_folder_without_weights_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights as safetensors"):
        maas.import_model(str(written(tmp_path / "pipe")), "drawer")
