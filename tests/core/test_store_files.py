"""Files of a version: who may read them, that they are the ones that were published, and rows that are kept."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from maas_magics.api.errors import OptionError, StoreError
from maas_magics.api.requests import ExportRequest, PredictRequest, TrainRequest
from maas_magics.core.store.sample import read_sample
from maas_magics.local.backend import LocalBackend

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": RNG.normal(size=200) * 1e3 + 5e4, "kind": RNG.choice(["p", "q"], 200),
                      "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(RNG.integers(0, 90, 200), unit="D"),
                      "y": RNG.normal(size=200)})  # fmt: skip


def request(**given: Any) -> TrainRequest:
    return TrainRequest(**{"name": "m", "data": FRAME, "target": "y", "model": "linear", "epochs": 2} | given)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    return LocalBackend(str(tmp_path / "store"))


# --- who may read them ---


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_store_that_is_made_is_its_owners_alone(backend: LocalBackend, tmp_path: Path) -> None:
    backend.submit(request()).result(60)
    backend.submit(ExportRequest(model="m")).result(60)
    backend.data.append("0" * 64, 0, b"abc", 10)
    for path in (tmp_path / "store", *(tmp_path / "store").rglob("*")):
        if path.parent.parts[-2:-1] != ("jobs",) or path.is_dir():
            assert mode(path) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_store_that_its_owner_opened_lends_models_and_no_rows(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(0o750)
    backend = LocalBackend(str(store))
    backend.submit(request()).result(60)
    backend.submit(ExportRequest(model="m")).result(60)
    version = store / "models" / "m" / "1"
    assert mode(version) == 0o750 and mode(version / "weights.safetensors") == 0o640
    assert mode(version / "exports" / "onnx" / "model.onnx") == 0o640
    assert mode(version / "sample.arrow") == 0o600 and mode(store / "jobs.sqlite") == 0o600
    assert mode(store / "jobs") == 0o700 and mode(store / "tmp") == 0o700


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_what_an_earlier_release_left_open_is_closed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for place in (store / "data", store / "jobs"):
        place.mkdir(parents=True, mode=0o755)
    (store / "jobs.sqlite").touch(0o644)
    backend = LocalBackend(str(store))
    backend.data.append("0" * 64, 0, b"abc", 10)
    backend.submit(request()).result(60)
    assert [mode(store / name) for name in ("jobs.sqlite", "data", "jobs")] == [0o600, 0o700, 0o700]


# --- that they are the ones that were published ---


def spoil(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o600)
    file.write_bytes(data)


def asks(backend: LocalBackend, folder: str) -> None:
    LocalBackend(folder).predict(PredictRequest(model="m", data=FRAME.drop(columns="y")))


@pytest.mark.parametrize("file", ["weights.safetensors", "preprocess/preprocess.json", "exports/onnx/model.onnx"])
def test_a_file_that_was_changed_is_named_and_not_used(file: str, backend: LocalBackend, tmp_path: Path) -> None:
    backend.submit(request()).result(60)
    if file.startswith("exports"):
        backend.submit(ExportRequest(model="m")).result(60)
    asks(backend, backend.place)
    version = tmp_path / "store" / "models" / "m" / "1"
    spoil(version / file)
    with pytest.raises(StoreError, match=f"m:1 cannot be used: its file {file} was changed"):
        asks(backend, backend.place)
    (version / file).unlink()
    if not file.startswith("exports"):
        with pytest.raises(StoreError, match=f"its file {file} is missing|cannot be read"):
            asks(backend, backend.place)


def test_rows_that_were_changed_verify_no_export(backend: LocalBackend, tmp_path: Path) -> None:
    backend.submit(request()).result(60)
    spoil(tmp_path / "store" / "models" / "m" / "1" / "sample.arrow")
    with pytest.raises(StoreError, match=r"its file sample.arrow was changed"):
        backend.submit(ExportRequest(model="m")).result(60)


def test_every_file_has_its_digest_and_another_export_replaces_its_own(backend: LocalBackend, tmp_path: Path) -> None:
    backend.submit(request()).result(60)
    version = tmp_path / "store" / "models" / "m" / "1"
    there = {path.relative_to(version).as_posix() for path in version.rglob("*") if path.is_file()}
    assert set(json.loads((version / "manifest.json").read_text())["files"]) == there - {"manifest.json"}
    for format in ("onnx", "safetensors", "onnx"):
        artifact = backend.submit(ExportRequest(model="m", format=format)).result(60)
        there = {path.name for path in Path(artifact.path).iterdir()}
        assert set(artifact.files) == there - {"artifact.json"}
        backend.exported("m", format)
    asks(backend, backend.place)


def test_a_version_of_before_still_loads(backend: LocalBackend, tmp_path: Path) -> None:
    backend.submit(request()).result(60)
    backend.submit(ExportRequest(model="m")).result(60)
    version = tmp_path / "store" / "models" / "m" / "1"
    for file in (version / "manifest.json", version / "exports" / "onnx" / "artifact.json"):
        told = json.loads(file.read_text())
        del told["files"]
        file.write_text(json.dumps(told))
    asks(backend, backend.place)
    LocalBackend(backend.place).submit(ExportRequest(model="m", format="pt2")).result(120)


# --- rows that are kept ---


@pytest.mark.parametrize(("sample", "kept"), [(1000, 30), (7, 7), (0, 0)])
def test_as_many_rows_are_kept_as_are_asked_for_and_said(
    sample: int, kept: int, backend: LocalBackend, tmp_path: Path
) -> None:
    result = backend.submit(request(sample=sample)).result(60)
    version = tmp_path / "store" / "models" / "m" / "1"
    assert len(read_sample(version)[0]) == result.sample == kept
    told = result._repr_html_() if hasattr(result, "_repr_html_") else str(result._rows())
    assert ("--sample 0 keeps none" in told) == bool(kept)
    for format in ("onnx", "safetensors"):
        check = backend.submit(ExportRequest(model="m", format=format)).result(120).verification
        assert check.rows == (kept or 300) and bool(check.metrics_before) == bool(kept)


@pytest.mark.parametrize("sample", [-1, 1001])
def test_rows_out_of_bounds_are_refused(sample: int, backend: LocalBackend) -> None:
    with pytest.raises(OptionError, match="0 to 1,000 rows"):
        backend.submit(request(sample=sample)).result(60)
