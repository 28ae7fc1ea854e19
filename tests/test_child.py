"""Processes of ours import nothing from the notebook's folder, whatever files lie there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maas_magics.api.child import ROOT, clear, python
from maas_magics.api.errors import ModelError
from maas_magics.core.networks.source import run_source

SHADOWS = ("secrets", "random", "json", "numpy", "torch", "msgspec", "uvicorn", "pyarrow", "sqlite3", "inspect",
           "logging", "safetensors", "maas_magics", "project")  # fmt: skip
"""What a person may call a file; each raises when it is imported."""

X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
Y = X[:, 0] - X[:, 1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook's folder full of names that shadow others; the process stands in it, as a kernel does."""
    place = tmp_path / "notebooks"
    place.mkdir()
    for name in SHADOWS:
        (place / f"{name}.py").write_text(f"raise RuntimeError('{name}.py of the notebook was imported')")
    monkeypatch.chdir(place)
    return place


def told(words: list[str], **variables: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", ["", ".", ":", "..", os.pathsep.join(("", "/nowhere"))])
def test_a_process_of_ours_runs_a_module_with_its_words(path: str, folder: Path) -> None:
    told(python("maas_magics.service", "serve", "--help"), PYTHONPATH=path)
    told(python("maas_magics.service", "serve", "--help"), PYTHONPATH=f"{folder}{os.pathsep}{path}")


def test_the_folder_is_nowhere_in_its_path(folder: Path) -> None:
    code = "import sys, json; json.dump([sys.path, sys.argv], sys.stdout)"
    (folder.parent / "beside").mkdir()
    (folder.parent / "beside" / "shown.py").write_text(code)
    path = os.pathsep.join((str(folder), ".", str(folder.parent / "beside")))
    found, words = json.loads(told(python("shown", "a", "b c"), PYTHONPATH=path))
    assert str(folder) not in found and "" not in found and "." not in found
    assert str(folder.parent / "beside") in found
    assert words[1:] == ["a", "b c"]


def test_this_package_is_found_even_if_it_lies_there() -> None:
    path = ["", ".", ROOT, *sys.path]
    clear(path, ROOT)
    assert [entry for entry in path if os.path.realpath(entry) == os.path.realpath(ROOT)] == path[-1:]
    packages = [entry for entry in sys.path if entry.endswith("site-packages")]
    clear(path, packages[0])
    assert packages[0] in path


def test_a_kernels_processes_do_not_import_from_it(folder: Path, store: Path) -> None:
    from maas_magics.api.requests import ExportRequest, TrainRequest
    from maas_magics.local.backend import LocalBackend

    backend = LocalBackend(str(store))
    asked: dict[str, Any] = {"name": "m", "data": X, "target": Y, "epochs": 2, "workers": 2}
    assert backend.submit(TrainRequest(**asked)).result(120).epochs == 2
    assert backend.submit(ExportRequest(model="m")).result(120).verification.rows > 0


def test_a_service_and_its_workers_do_not_import_from_it(folder: Path, store: Path) -> None:
    from maas_magics.api.requests import TrainRequest
    from maas_magics.remote.backend import RemoteBackend
    from maas_magics.remote.client import Client
    from maas_magics.remote.connect import start_local, stop_local

    running = start_local(str(store), store)
    try:
        backend = RemoteBackend(Client(running.url, lambda: (store / "service.token").read_text().strip()))
        asked: dict[str, Any] = {"name": "m", "data": X, "target": Y, "epochs": 2}
        assert backend.submit(TrainRequest(**asked)).result(120).epochs == 2
        assert backend.submit(TrainRequest(**asked, workers=2)).result(120).epochs == 2
        backend.close()
    finally:
        stop_local(store)


def test_a_compiler_does_not_import_from_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "graph").mkdir()
    told(python("maas_magics.core.training.compiling.compile_process", str(tmp_path / "graph")))
    assert "graph.pt" in (tmp_path / "graph" / "failed.txt").read_text()


def test_a_cell_that_needs_a_module_of_the_project_is_told_so() -> None:
    with pytest.raises(ModelError, match="No module named 'my_project'") as caught:
        run_source("from my_project import Net\nNet(inputs)")(3, 1)
    assert "Install" in caught.value.hint
