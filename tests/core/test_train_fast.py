"""Trials of a fast way leave nothing behind, and what is chosen is used and told."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from maas_magics.api.errors import OptionError
from maas_magics.api.events import Started
from maas_magics.core.batches.batches import InMemory
from maas_magics.core.training.steps.ema import EMA
from maas_magics.core.training.steps.lr_schedule import make_lr_schedule
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.step_config import StepConfig
from maas_magics.core.training.tuning import fast
from maas_magics.core.training.tuning.fast import choose
from maas_magics.core.training.tuning.snapshot import taken_back

pytestmark = pytest.mark.usefixtures("unexported")


def network() -> nn.Module:
    """Dropout, batch statistics, and numbers of its own from torch's generator."""
    parts = [nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 3)]
    return nn.Sequential(*parts)


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(1)
    return torch.randn(90, 6, generator=made), torch.randint(0, 3, (90,), generator=made)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[Any]]:
    """Lets trials run however short the training is, with a margin; gives what was raced."""

    def set_up(margin: float) -> list[Any]:
        raced: list[Any] = []
        race = fast._race

        def watched(ways: Any, *more: Any) -> Any:
            raced.extend(ways)
            return race(ways, *more)

        monkeypatch.setattr(fast, "_race", watched)
        monkeypatch.setattr(fast, "SHARE", 1e9)
        monkeypatch.setattr(fast, "MARGIN", margin)
        monkeypatch.setattr(fast, "MOST", 4)
        return raced

    return set_up


def started(lab: Any) -> Started:
    return next(event for event in lab.last.events(follow=False) if isinstance(event, Started))


@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "LBFGS"])
def test_with_nothing_chosen_the_training_is_the_usual_one_to_the_bit(
    lab: Any, rows: tuple[Tensor, Tensor], trials: Callable[[float], list[Any]], optimizer: str
) -> None:
    weights, curves = [], []
    for options in ({}, {"fast": "auto", "compile": False}):
        raced = trials(float("inf"))
        torch.manual_seed(5)
        net = network()
        given = {"optimizer": optimizer, "epochs": 3, "batch_size": 16, "lr": 0.01, "ema": 0.9}
        made = lab.train(rows[0].numpy(), rows[1].numpy(), model=net, **given, **options)
        weights.append(copy.deepcopy(lab.net().state_dict()))
        curves.append(made.history)
    assert "bf16" in raced
    assert curves[0] == curves[1]
    assert all(torch.equal(a, b) for a, b in zip(weights[0].values(), weights[1].values(), strict=True))
    told = started(lab).summary["fast"]
    assert "fp32 (bf16 " in told
    assert "precision" not in started(lab).summary


def test_what_is_faster_is_used_and_told(
    lab: Any, rows: tuple[Tensor, Tensor], trials: Callable[[float], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials(1.0)
    monkeypatch.setattr(fast, "_best", lambda found, usual: "bf16" if "bf16" in found else usual)
    lab.train(rows[0].numpy(), rows[1].numpy(), model=network(), epochs=1, fast="auto", compile=False)
    summary = started(lab).summary
    assert summary["precision"] == "bf16"
    assert summary["fast"].split(", ")[-1].startswith("bf16 (")
    assert summary["fast"].endswith("×)")


def test_threads_that_were_asked_for_are_not_tried(
    lab: Any, rows: tuple[Tensor, Tensor], trials: Callable[[float], list[Any]]
) -> None:
    raced = trials(float("inf"))
    options = {"fast": "auto", "compile": False, "model": network(), "precision": "bf16"}
    lab.train(rows[0].numpy(), rows[1].numpy(), threads=1, **options)
    assert raced == []
    assert "fast" not in started(lab).summary
    if (os.cpu_count() or 1) > 1:
        lab.train(rows[0].numpy(), rows[1].numpy(), **options)
        assert raced == [1, os.cpu_count()]


def test_the_faster_way_wins_by_a_margin_only() -> None:
    assert fast._best({"fp32": 1.0, "bf16": 0.95}, "fp32") == "fp32"
    assert fast._best({"fp32": 1.0, "bf16": 0.5}, "fp32") == "bf16"


def test_a_short_training_is_not_held_up(lab: Any, rows: tuple[Tensor, Tensor]) -> None:
    lab.train(rows[0].numpy(), rows[1].numpy(), model=network(), epochs=1, fast="auto")
    assert started(lab).summary["fast"] == "nothing tried: the training is too short"


def test_steps_are_taken_back(rows: tuple[Tensor, Tensor]) -> None:
    net = network().train()
    optimizer = Optimizer(net, "Adam", 0.01, None, {})
    step = StepConfig(
        net, optimizer, make_lr_schedule(optimizer, "constant", {}, epochs=1, steps=9, warmup=0, mode="min")
    ).step(functional.cross_entropy)
    for warm in (False, True):
        if warm:
            step((rows[0][:16],), rows[1][:16])
        before = copy.deepcopy((net.state_dict(), optimizer.inner.state_dict()))
        drawn, other = torch.get_rng_state(), np.random.get_state()[1].copy()
        with taken_back(net, optimizer):
            for _ in range(3):
                step((rows[0][:16],), rows[1][:16])
            np.random.rand()
            net.eval()
            optimizer.scale_lr(0.5)
        assert net.training
        assert torch.equal(drawn, torch.get_rng_state())
        assert np.array_equal(other, np.random.get_state()[1])
        torch.testing.assert_close((net.state_dict(), optimizer.inner.state_dict()), before, rtol=0, atol=0)


def test_trials_are_no_part_of_the_mean_of_the_weights(
    rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "SHARE", 1e9)
    net = network().train()
    optimizer = Optimizer(net, "Adam", 0.01, None, {})
    average = EMA(optimizer, 0.9)
    rates = make_lr_schedule(optimizer, "constant", {}, epochs=1, steps=9, warmup=0, mode="min")
    regime = StepConfig(net, optimizer, rates, average=average)
    batches = InMemory((rows[0],), rows[1], 16)
    choose(regime, functional.cross_entropy, batches, total=9, threads=1, precision=True, stopping=lambda: "")
    assert average.state() == []


def test_another_way_to_be_fast_is_refused(lab: Any, rows: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(OptionError, match="--fast 'very' is not known"):
        lab.train(rows[0].numpy(), rows[1].numpy(), model=network(), fast="very")
    assert lab.session.model_names() == []


def test_twice_the_batch_is_told_and_not_chosen(lab: Any, trials: Callable[[float], list[Any]]) -> None:
    trials(float("inf"))
    made = torch.Generator().manual_seed(1)
    x, y = torch.randn(400, 6, generator=made).numpy(), torch.randint(0, 3, (400,), generator=made).numpy()
    lab.train(x, y, model=network(), batch_size=16, epochs=1, fast="auto", compile=False)
    summary = started(lab).summary
    assert summary["fast"].startswith("batch size 16 (32 ") and "× the rows)" in summary["fast"]
    assert summary["batch size"] == "16"


def test_a_way_that_is_far_slower_is_timed_once(rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    net = network().train()
    optimizer = Optimizer(net, "Adam", 0.01, None, {})
    regime = StepConfig(
        net, optimizer, make_lr_schedule(optimizer, "constant", {}, epochs=1, steps=9, warmup=0, mode="min")
    )
    asked: list[int] = []

    def timed(regime: Any, loss: Any, rows: Any, steps: int, clock: Any) -> float:
        asked.append(torch.get_num_threads())
        return 5.0 if torch.get_num_threads() == 2 else 1.0

    monkeypatch.setattr(fast, "_timed", timed)
    ways = {1: (regime, 1), 2: (regime, 2)}
    found = fast._race(ways, functional.cross_entropy, [((rows[0],), rows[1])], 3, 5, lambda: "")
    assert found == {1: 1.0, 2: 5.0}
    assert asked.count(2) == 2 and asked.count(1) == 6
