"""A large request takes its rows, its answer and one chunk of memory, and gives them back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from serving import Service
from torch import nn

from maas_magics.api.errors import DataError
from maas_magics.api.requests import ExportRequest, TrainRequest
from maas_magics.core.inference import predictor as chunks
from maas_magics.local.backend import LocalBackend

MB = 2**20
ROWS, WIDTH = 120_000, 64


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store holds a network that makes much of each row."""
    folder = tmp_path_factory.mktemp("wide")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backend = LocalBackend(str(folder / "store"))
    x = np.random.default_rng(0).normal(size=(64, WIDTH)).astype(np.float32)
    net = nn.Sequential(nn.Linear(WIDTH, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    backend.submit(TrainRequest(name="wide", data=x, target=np.arange(64) % 10, model=net, epochs=1)).result(600)
    backend.submit(ExportRequest(model="wide")).result(600)
    return folder


def memory(process: int, word: str) -> float:
    """Megabytes that the system counts for a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(word))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system's figures")
def test_the_peak_is_request_answer_and_a_chunk(wide: Path) -> None:
    x = np.random.default_rng(1).normal(size=(ROWS, WIDTH)).astype("<f4")
    service = Service(wide)
    try:
        for count in (1, 1, 4_096, 4_096):
            ask(service, x[:count])
        process = service.process.pid
        before = memory(process, "VmRSS")
        request, answer = x.nbytes / MB, ROWS * (8 + 40) / MB
        chunk = 4_096 * 2 * 512 * 4 / MB
        for _ in range(3):
            Path(f"/proc/{process}/clear_refs").write_text("5")
            found = ask(service, x)
            assert memory(process, "VmHWM") - before < 1.25 * request + 2 * answer + 2 * chunk + 16
            for _ in range(100):
                if memory(process, "VmRSS") - before < 16:
                    break
                ask(service, x[:1])
            assert memory(process, "VmRSS") - before < 16
    finally:
        service.stop()
    wanted = LocalBackend(str(wide / "store")).infer("wide", {"x": x[-5_000:]}).outputs["probabilities"]
    np.testing.assert_allclose(found[-5_000:], wanted, rtol=1e-4, atol=1e-6)


def ask(service: Service, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Probabilities for rows, in binary both ways."""
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
    answer = httpx2.post(
        f"{service.url}/v2/models/wide/infer",
        content=head + x.tobytes(),
        headers={**service.headers, "inference-header-content-length": str(len(head))},
        timeout=600,
    )
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    return np.frombuffer(answer.content[length:], "<f4").reshape(len(x), 10)


def arrays(here: LocalBackend, rows: int) -> Mapping[str, Any]:
    return {"x": np.random.default_rng(2).normal(size=(rows, 8)).astype(np.float32)}


@pytest.mark.parametrize("rows", [1, 16, 17, 31, 32, 33, 100])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_chunks_answer_as_the_whole_does(rows: int, dtype: str, here: LocalBackend, monkeypatch: Any) -> None:
    inputs = {"x": arrays(here, rows)["x"].astype(dtype)}
    whole = here.infer("net", inputs).outputs
    monkeypatch.setattr(chunks, "CHUNK", 16)
    parts = here.infer("net", inputs).outputs
    assert list(parts) == list(whole)
    for name, values in whole.items():
        assert parts[name].dtype == values.dtype and parts[name].shape == values.shape
        np.testing.assert_allclose(parts[name], values, rtol=1e-5)


def test_large_rows_make_small_chunks(here: LocalBackend, monkeypatch: Any) -> None:
    asked: list[int] = []
    found = here.loader.predictor("net")
    engine = found.engine
    assert engine is not None

    class Counted:
        def run(self, raw: Any) -> Any:
            asked.append(len(raw[0]))
            return engine.run(raw)

    monkeypatch.setattr(found, "engine", Counted())
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 32 * 20)
    answers, _ = found.infer(arrays(here, 50))
    assert len(answers["prediction"]) == 50
    assert asked == [20, 20, 10]


@pytest.mark.parametrize("rows", [5, 40])
def test_inputs_that_do_not_fit_are_told_however_many_rows_there_are(
    rows: int, here: LocalBackend, monkeypatch: Any
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 16)
    x = arrays(here, rows)["x"]
    for inputs, told in (
        ({"x": x[:, :7]}, "has shape"),
        ({"y": x}, "no input 'y'"),
        ({"x": x, "y": x[:3]}, "no input 'y'"),
        ({"x": x.astype(object)}, "BYTES"),
        ({"x": np.float32(1)}, "has shape"),
    ):
        with pytest.raises(DataError, match=told):
            here.infer("net", inputs)
