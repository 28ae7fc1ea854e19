"""A learning rate is found where the loss falls fastest, and finding it leaves nothing behind."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from maas_magics.api.errors import OptionError
from maas_magics.api.events import RateSearch, Started
from maas_magics.core.training.tuning.lr_range import steepest
from maas_magics.widgets.chart import HEIGHT, SEARCH, draw, height
from maas_magics.widgets.history import History

pytestmark = pytest.mark.usefixtures("unexported")


@pytest.fixture
def rows(rng: np.random.Generator) -> tuple[Any, Any]:
    x = rng.normal(size=(400, 6)).astype("float32")
    return x, (x @ rng.normal(size=6) > 0).astype(int)


def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))


def search(lab: Any) -> RateSearch:
    return next(event for event in lab.last.events(follow=False) if isinstance(event, RateSearch))


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_the_training_is_the_one_with_that_rate_to_the_bit(lab: Any, rows: tuple[Any, Any], optimizer: str) -> None:
    found = lab.train(*rows, model=network(), epochs=4, lr="auto", optimizer=optimizer)
    weights, rate = copy.deepcopy(lab.net().state_dict()), search(lab).chosen
    assert found.history["lr"] == [rate] * 4
    given = lab.train(*rows, model=network(), epochs=4, lr=rate, optimizer=optimizer)
    assert given.history == found.history
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), lab.net().state_dict().values(), strict=True))


def test_a_rate_that_was_found_learns_more_than_a_bad_one(lab: Any, rows: tuple[Any, Any]) -> None:
    found = lab.train(*rows, model=network(), epochs=4, lr="auto", optimizer="SGD")
    low = lab.train(*rows, model=network(), epochs=4, lr=1e-5, optimizer="SGD")
    assert found.metrics["loss"] < 0.7 * low.metrics["loss"]


def test_it_is_told_and_drawn(lab: Any, rows: tuple[Any, Any]) -> None:
    lab.train(*rows, model=network(), lr="auto", optimizer="Adam")
    events = list(lab.last.events(follow=False))
    told = next(event for event in events if isinstance(event, Started)).summary["optimizer"]
    assert told == f"Adam, lr {search(lab).chosen:g}, constant, rate found"
    history = History.of(events)
    assert height(history) == HEIGHT + SEARCH
    assert len(draw(history).subfigs) == 2


def test_rates_of_their_own_keep_their_share(lab: Any, rows: tuple[Any, Any]) -> None:
    made = lab.train(*rows, model=network(), lr="auto", optimizer="Adam", lr_of={"4.*": 1e-4}, schedule="OneCycleLR")
    assert made.epochs == 1
    assert search(lab).chosen > 0


def test_the_steepest_place_comes_before_the_lowest() -> None:
    rates = [10 ** (-6 + 6 * k / 99) for k in range(100)]
    losses = [1 - 0.8 / (1 + math.exp(-(k - 40) / 4)) + math.exp((k - 85) / 4) for k in range(100)]
    assert steepest(rates, losses) == pytest.approx(rates[40])
    assert steepest(rates, [1 + k / 100 for k in range(100)]) is None
    assert steepest([], []) is None


def test_a_loss_that_never_falls_leaves_the_usual_rate(lab: Any, rows: tuple[Any, Any]) -> None:
    lab.train(*rows, model=network(), lr="auto", optimizer="Adam", loss=lambda outputs, target: outputs.sum() * 0 + 1)
    told = next(event for event in lab.last.events(follow=False) if isinstance(event, Started)).summary["optimizer"]
    assert told == "Adam, lr 0.001, constant, no better rate found"


def test_what_cannot_be_searched_is_refused(lab: Any, rows: tuple[Any, Any]) -> None:
    loader = DataLoader(TensorDataset(torch.from_numpy(rows[0]), torch.from_numpy(rows[1])), batch_size=16)
    with pytest.raises(OptionError, match="rows in memory"):
        lab.train(loader, model=network(), lr="auto")
    with pytest.raises(OptionError, match="a number was expected"):
        lab.train(*rows, model=network(), lr="quick")
    with pytest.raises(OptionError, match="No learning rate can be found"):
        lab.train(*rows, model=network(), lr="auto", optimizer="LBFGS")
    assert lab.session.model_names() == []
