"""Metrics that are taken some rows at a time are those of all rows at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from maas_magics.core.tasks.accumulators import accumulator_of
from maas_magics.core.tasks.metrics import LABELS, OURS, QUANTITIES
from maas_magics.core.training import measure

KINDS = ["binary", "multiclass", "multilabel", "quantities", "large", "constant"]


def rows(kind: str, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Answers and targets of so many rows, as metrics take them."""
    draw = torch.Generator().manual_seed(seed)
    if kind in ("binary", "multiclass"):
        k = 2 if kind == "binary" else 4
        decoded = torch.rand(n, k, generator=draw).round(decimals=1)
        return decoded / decoded.sum(1, keepdim=True).clamp(min=1), torch.randint(k, (n,), generator=draw)
    if kind == "multilabel":
        return torch.rand(n, 3, generator=draw), torch.randint(2, (n, 3), generator=draw).float()
    target = torch.randn(n, 2, generator=draw, dtype=torch.float64)
    if kind == "large":
        target = target * torch.tensor([1e160, 1e-160], dtype=torch.float64) + torch.tensor([0.0, 1e6])
    if kind == "constant":
        target[:, 1] = 7.0
    return target + torch.randn(n, 2, generator=draw, dtype=torch.float64) * target.std(0), target


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
@settings(max_examples=25, deadline=None)
@given(n=st.integers(4, 60), cuts=st.sets(st.integers(1, 59), max_size=8), seed=st.integers(0, 99))
def test_parts_of_rows_make_the_figure_of_all(kind: str, weighted: bool, n: int, cuts: set[int], seed: int) -> None:
    decoded, target = rows(kind, n, seed)
    weights = torch.rand(n, generator=torch.Generator().manual_seed(seed)).round(decimals=1) if weighted else None
    if weights is not None and not weights.sum():
        weights += 1
    places = [0, *sorted(cut for cut in cuts if cut < n), n]
    for name, metric in (QUANTITIES if kind in ("quantities", "large", "constant") else LABELS).items():
        if name == "balanced_accuracy" and kind == "multilabel":
            continue
        at_once, in_parts = accumulator_of(metric), accumulator_of(metric)
        at_once.update(decoded, target, weights)
        whole = metric(decoded, target, weights)  # type: ignore[call-arg]
        assert at_once.result() == whole or np.isnan([at_once.result(), whole]).all(), name
        for start, stop in zip(places, places[1:], strict=False):
            part = slice(start, stop)
            in_parts.update(decoded[part], target[part], None if weights is None else weights[part])
        assert in_parts.result() == pytest.approx(whole, rel=1e-12, abs=1e-12, nan_ok=True), name


def test_every_metric_of_the_package_but_one_keeps_no_rows() -> None:
    kept = [metric.__name__ for metric in OURS if type(accumulator_of(metric)).__name__ == "KeptRows"]
    assert kept == ["auc"]


def differing(x: Tensor, y: Tensor) -> float:
    """A metric of the user's, which needs all rows."""
    return float((x - y).abs().median())


CASES: dict[str, dict[str, Any]] = {
    "labels": {"metrics": ("accuracy", "auc", "f1", "log_loss", "MulticlassPrecision")},
    "quantities": {"metrics": ("rmse", "r2", "mae", "MeanSquaredError", differing)},
    "weights": {"class_weights": "balanced"},
    "positions": {},
    "heads": {},
}


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.a(x), self.b(x)


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("limit", [0, 200])
def test_held_out_rows_are_measured_alike_where_their_outputs_are_not_kept(lab, monkeypatch, case, limit):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(70, 4)).astype("float32")
    y: Any = rng.integers(0, 3, 70)
    net: Any = nn.Linear(4, 3)
    if case == "quantities":
        y, net = x[:, 0] * 9, nn.Linear(4, 1)
    elif case == "positions":
        y, net = rng.integers(0, 3, (70, 2)), nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (3, 2)))
    elif case == "heads":
        y, net = (x[:, 0], y), Both()

    def learn() -> Any:
        return lab.train(x, y, model=net, epochs=3, validation=0.5, batch_size=4, **CASES[case])

    before = learn()
    monkeypatch.setattr(measure, "LIMIT", limit)
    after = learn()
    assert after.history.keys() == before.history.keys() and len(after.history) > 4
    for name, figures in before.history.items():
        tolerance = 1e-6 if "loss" in name and "log" not in name else 1e-12
        assert after.history[name] == pytest.approx(figures, rel=tolerance, abs=tolerance), name
