"""Models of several named tensors, asked over a service by their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from serving import Service  # type: ignore[import-not-found]
from torch import Tensor, nn

from maas_magics.api.errors import DataError, MaasError
from maas_magics.api.requests import PredictRequest, TrainRequest
from maas_magics.local.backend import LocalBackend
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client

RNG = np.random.default_rng(0)
IDS, MASK = RNG.integers(0, 9, (60, 5)), RNG.random((60, 5)) < 0.8


class Reader(nn.Module):
    """The mean of the embeddings that a mask leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        there = mask.float()[..., None]
        found: Tensor = self.head((self.table(ids) * there).sum(1) / there.sum(1).clamp(min=1))
        return found


@pytest.fixture
def kernel(tmp_path: Path) -> LocalBackend:
    return LocalBackend(str(tmp_path / "store"))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.stop()


def test_inputs_go_by_their_names_and_keep_their_types(kernel: LocalBackend, service: Service) -> None:
    torch.manual_seed(0)
    rows = {"mask": MASK, "ids": IDS}
    request = TrainRequest(name="net", data=rows, target=IDS.sum(1) % 3, model=Reader(), epochs=1)
    kernel.submit(request).result(600)
    remote = RemoteBackend(Client(service.url, lambda: service.token))
    inputs = remote.models.get("net").signature.inputs
    assert [(spec.name, spec.datatype) for spec in inputs] == [("ids", "INT64"), ("mask", "BOOL")]
    ours = kernel.predict(PredictRequest(model="net", data=rows, probabilities=True)).columns["probabilities"]
    theirs = remote.infer("net", rows).outputs["probabilities"]
    assert np.allclose(ours, theirs, atol=1e-6)
    for wrong, said in (
        ({"ids": IDS}, "'mask' is missing"),
        ({**rows, "maks": MASK}, "no input 'maks'"),
        ({"ids": IDS, "mask": MASK[:-1]}, "differ in their number of rows"),
        ({"ids": IDS + 0.5, "mask": MASK}, "INT64 was expected"),
    ):
        with pytest.raises(MaasError, match=said) as told:
            remote.infer("net", wrong)
        assert isinstance(told.value, DataError)


class Both(nn.Module):
    """Two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.size, self.kind = nn.Linear(5, 1), nn.Linear(5, 3)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        x = ids.float()
        return {"size": self.size(x), "kind": self.kind(x)}


def test_heads_are_answered_by_their_names(kernel: LocalBackend, service: Service) -> None:
    torch.manual_seed(0)
    targets = {"size": IDS.sum(1) / 7.5, "kind": np.array(["a", "b", "c"])[IDS.sum(1) % 3]}
    request = TrainRequest(name="net", data={"ids": IDS}, target=targets, model=Both(), epochs=1)
    kernel.submit(request).result(600)
    remote = RemoteBackend(Client(service.url, lambda: service.token))
    info = remote.models.get("net")
    assert [spec.name for spec in info.signature.outputs] == ["size", "kind", "kind_probabilities"]
    ours = kernel.predict(PredictRequest(model="net", data={"ids": IDS})).columns
    theirs = remote.infer("net", {"ids": IDS}).outputs
    assert np.allclose(ours["size"], theirs["size"], atol=1e-5)
    assert ours["kind"].to_pylist() == theirs["kind"].tolist() and set(ours["kind"].to_pylist()) <= set("abc")
    asked = remote.predict(PredictRequest(model="net", data={"ids": IDS[:4]})).columns
    assert np.allclose(asked["size"], ours["size"][:4], atol=1e-5) and list(asked) == list(ours)
