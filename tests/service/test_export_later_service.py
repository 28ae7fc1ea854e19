"""A service that answers for a module that a kernel has trained, and published without its export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from serving import Service, wait_for  # type: ignore[import-not-found]
from torch import nn

from maas_magics.api.requests import PredictRequest, TrainRequest
from maas_magics.local.backend import LocalBackend
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client
from maas_magics.remote.inference import InferenceBackend

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)


@pytest.fixture
def kernel(tmp_path: Path) -> LocalBackend:
    made = LocalBackend(str(tmp_path / "store"))
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    made.submit(TrainRequest(name="net", data=X, target=np.arange(60) % 3, model=net, epochs=1)).result(600)
    return made


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.stop()


def test_the_export_is_made_when_the_model_is_loaded_and_answers_as_the_kernel(
    kernel: LocalBackend, service: Service
) -> None:
    remote = RemoteBackend(Client(service.url, lambda: service.token))
    before = kernel.models.get("net")
    assert before.exports == () and remote.models.get("net").ref == "net:1"
    remote.load("net")
    assert remote.loaded() == {"net:1": True} and remote.models.get("net").exports == ("onnx",)
    assert set(remote.exported("net", "onnx")) == {"model.onnx", "README.md", "artifact.json"}
    asked = PredictRequest(model="net", data=X[:5], probabilities=True)
    ours, theirs = (backend.predict(asked).columns["probabilities"] for backend in (kernel, remote))
    assert np.allclose(ours, theirs, atol=1e-6)


def test_a_model_that_was_not_loaded_is_answered_by_its_graph_until_the_export_is_there(
    kernel: LocalBackend, service: Service
) -> None:
    remote = RemoteBackend(Client(service.url, lambda: service.token))
    named = {kernel.models.get("net").signature.inputs[0].name: X[:5]}
    other = InferenceBackend(Client(service.url, lambda: service.token))
    before = other.models.get("net").architecture
    first = remote.infer("net", named).outputs["probabilities"]
    wait_for(lambda: remote.models.get("net").exports)
    assert (before, other.models.get("net").architecture) == ("pytorch", "onnxruntime_onnx")
    ours = kernel.predict(PredictRequest(model="net", data=X[:5], probabilities=True)).columns["probabilities"]
    for found in (first, remote.infer("net", named).outputs["probabilities"]):
        assert np.allclose(found, ours, atol=1e-6)


def test_a_service_that_is_asked_once_and_stopped_leaves_nothing_half_made(
    kernel: LocalBackend, service: Service
) -> None:
    remote = RemoteBackend(Client(service.url, lambda: service.token))
    remote.infer("net", {kernel.models.get("net").signature.inputs[0].name: X[:5]})
    service.stop()
    wait_for(lambda: not list((service.store / "tmp").iterdir()))
    exports = kernel.models.folder("net", 1) / "exports"
    assert not exports.is_dir() or (exports / "onnx" / "artifact.json").is_file()
