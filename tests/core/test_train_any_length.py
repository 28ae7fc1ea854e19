"""Modules that were trained on rows of one length, and take others: found by trying, and verified at other lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maas_magics.api.errors import DataError
from maas_magics.api.requests import PredictRequest
from maas_magics.session import Session

RNG = np.random.default_rng(2)
N, LENGTH = 90, 8
WAVES = RNG.normal(size=(N, LENGTH, 3)).astype("float32")
IDS, MASK = RNG.integers(0, 9, (N, LENGTH)), RNG.random((N, LENGTH)) < 0.8
TARGET = np.arange(N) % 3


class Filters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.filters, self.head = nn.Conv1d(3, 5, 3, padding=1), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.filters(x.transpose(1, 2))).mean(2))
        return found


class Recurrent(nn.Module):
    """Torch's exporter counts the steps of its layer out, and so fixes their number."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.head = nn.GRU(3, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.read(x)[0][:, -1])
        return found


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        found = self.layer(self.table(ids), src_key_padding_mask=~mask)
        there = mask.unsqueeze(-1).float()
        answer: Tensor = self.head((found * there).sum(1) / there.sum(1).clamp(min=1))
        return answer


class Placed(nn.Module):
    """Knows as many places as it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places, self.head = nn.Embedding(9, 4), nn.Embedding(LENGTH, 4), nn.Linear(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.head((self.table(ids) + self.places(torch.arange(ids.shape[1]))).mean(1))
        return found


class Tagging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 3)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.table(ids).transpose(1, 2)
        return found


def shapes(result: Any) -> list[tuple[int, ...]]:
    return [spec.shape for spec in result.info.signature.inputs]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_filters_answer_at_any_length(lab: Any, store: Path, exported: None) -> None:
    result = lab.train(WAVES, TARGET, model=Filters(), epochs=1)
    assert shapes(result) == [(-1, -1, 3)]
    longer = np.concatenate([WAVES, WAVES], axis=1)[:5]
    found = lab.predict(longer, probabilities=True)
    with torch.no_grad():
        expected = lab.net()(torch.from_numpy(longer)).softmax(1).numpy()
    assert np.allclose(found, expected, atol=1e-6)
    other = Session(str(store), notify=lambda text: None)
    again = other.predict(PredictRequest(model="m", data=longer, probabilities=True))
    assert np.allclose(again, expected, atol=1e-5)
    for format in ("onnx", "pt2"):
        assert lab.export(format=format).verification.max_abs_diff < 1e-5
    with pytest.raises(DataError, match=r"trained on shape \(-1, 3\)|\(n, any, 3\)"):
        lab.predict(np.zeros((2, 5, 4), "float32"))


def test_inputs_of_one_length_are_opened_together(lab: Any) -> None:
    result = lab.train({"ids": IDS, "mask": MASK}, TARGET, model=Attending(), epochs=1)
    assert shapes(result) == [(-1, -1), (-1, -1)]
    few = {"ids": IDS[:4, :3], "mask": np.ones((4, 3), bool)}
    assert len(lab.predict(few)) == 4


@pytest.mark.parametrize(
    ("data", "target", "net"),
    [
        (IDS, TARGET, Placed()),
        (IDS, IDS % 3, Tagging()),
        (WAVES, TARGET, Recurrent()),
        (RNG.normal(size=(N, 6)).astype("float32"), TARGET, nn.Linear(6, 3)),
        (RNG.normal(size=(N, 1, 9, 9)).astype("float32"), TARGET, nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(98, 3))),
    ],
    ids=["places", "a label at each place", "steps", "quantities", "pictures"],
)  # fmt: skip
def test_others_keep_their_length(lab: Any, data: Any, target: Any, net: nn.Module) -> None:
    result = lab.train(data, target, model=net, epochs=1)
    assert shapes(result) == [(-1, *data.shape[1:])]
