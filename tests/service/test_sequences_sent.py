"""Rows of different length, learnt and asked over a service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from serving import Service  # type: ignore[import-not-found]
from torch import Tensor, nn

from maas_magics.api.errors import DataError
from maas_magics.api.requests import EvaluateRequest, PredictRequest, TrainRequest
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client

RNG = np.random.default_rng(1)
IDS = [RNG.integers(1, 9, RNG.integers(2, 12)).tolist() for _ in range(120)]
TARGET = np.array([float(np.mean(np.array(row) > 4)) for row in IDS], dtype=np.float32)


class Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4, padding_idx=0), nn.Linear(4, 1)

    def forward(self, ids: Tensor) -> Tensor:
        there = (ids != 0).unsqueeze(-1)
        found: Tensor = self.head((self.table(ids) * there).sum(1) / there.sum(1))
        return found


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[RemoteBackend]:
    service = Service(tmp_path)
    yield RemoteBackend(Client(service.url, lambda: service.token))
    service.stop()


def test_lists_of_any_length_are_learnt_and_answered_by_a_service(remote: RemoteBackend) -> None:
    torch.manual_seed(0)
    request = TrainRequest(name="m", data={"ids": IDS}, target=TARGET, model=Mean(), epochs=15, lr=0.05)
    result = remote.submit(request).result(600)
    assert result.metrics["r2"] > 0.8
    assert [(spec.name, spec.datatype, spec.shape) for spec in remote.models.get("m").signature.inputs] == [
        ("ids", "INT64", (-1, -1))
    ]
    together = remote.predict(PredictRequest(model="m", data={"ids": IDS})).columns["prediction"]
    for length in (2, 5, 11):
        rows = [place for place, row in enumerate(IDS) if len(row) == length]
        found = remote.infer("m", {"ids": np.array([IDS[place] for place in rows])}).outputs["prediction"]
        assert found == pytest.approx(np.asarray(together)[rows], abs=1e-5)
    longer = np.pad(np.array([IDS[0]]), ((0, 0), (0, 30)))
    assert remote.infer("m", {"ids": longer}).outputs["prediction"] == pytest.approx(together[:1], abs=1e-5)
    assert remote.submit(EvaluateRequest(model="m", data={"ids": IDS}, target=TARGET)).result(600)["r2"] > 0.8
    with pytest.raises(DataError, match="ids"):
        remote.infer("m", {"ids": np.array([1, 2, 3])})
