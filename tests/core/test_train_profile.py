"""The parts of a step add up to the training, and the advice follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from maas_magics.api.events import Profiled
from maas_magics.core.batches.batches import FromLoader, InMemory
from maas_magics.core.batches.from_dataset import FromDataset
from maas_magics.core.batches.loader_workers import Readers
from maas_magics.core.training.steps.profile import Profiler, advice
from maas_magics.widgets.chart import HEIGHT, PROFILE, draw, height, svg
from maas_magics.widgets.history import History
from maas_magics.widgets.words import rows

pytestmark = pytest.mark.usefixtures("unexported")

LOADER = FromLoader([], None, torch.device("cpu"))
DATASET = FromDataset(Readers((), list), 0, torch.arange(9), 3, lambda y: y, torch.device("cpu"))
MEMORY = InMemory((torch.zeros(8, 2),), torch.zeros(8), 4)


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"precision": "bf16", "clip": 1.0}, {"optimizer": "LBFGS"}])
def test_the_parts_add_up_and_change_nothing(lab: Any, rng: np.random.Generator, options: dict[str, Any]) -> None:
    x, y = rng.normal(size=(200, 6)).astype("float32"), rng.integers(0, 3, 200)
    histories = []
    for profile in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Linear(8, 3))
        made = lab.train(x, y, model=net, epochs=3, batch_size=8, profile=profile, **options)
        histories.append(made.history)
    assert histories[0] == histories[1]
    assert set(made.profile) == {"data", "forward", "backward", "optimizer", "events", "validation"}
    assert all(seconds > 0 for seconds in made.profile.values())
    assert sum(made.profile.values()) <= made.seconds
    event = next(e for e in lab.last.events(follow=False) if isinstance(e, Profiled))
    assert event.seconds == made.profile
    assert event.steps == 3 * -(-made_steps(170, 8) // options.get("accumulate", 1))


def made_steps(rows: int, batch: int) -> int:
    return -(-rows // batch)


def test_without_it_nothing_is_timed(lab: Any, rng: np.random.Generator) -> None:
    made = lab.train(rng.normal(size=(60, 6)), rng.integers(0, 3, 60))
    assert made.profile == {}
    assert not [e for e in lab.last.events(follow=False) if isinstance(e, Profiled)]


def test_a_loader_that_dawdles_is_found(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def now(self: Profiler) -> float:
        clock[0] += 0.001
        return clock[0]

    monkeypatch.setattr(Profiler, "now", now)

    class Slow(TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            clock[0] += 0.003
            return super().__getitem__(index)

    data = Slow(torch.randn(64, 6), torch.randint(0, 3, (64,)))
    made = lab.train(DataLoader(data, batch_size=16), model=nn.Linear(6, 3), epochs=1, profile=True)
    assert made.profile["data"] > made.profile["forward"]
    assert "num_workers" in next(e for e in lab.last.events(follow=False) if isinstance(e, Profiled)).advice


@pytest.mark.parametrize(
    ("seconds", "batches", "steps", "fast", "told"),
    [
        (
            {"data": 6.0, "forward": 4.0},
            LOADER,
            10,
            False,
            "The data takes 60% of a step: give the DataLoader num_workers",
        ),
        (
            {"data": 6.0, "forward": 4.0},
            DATASET,
            10,
            False,
            "The data takes 60% of a step: try --fast auto or --loader",
        ),
        ({"data": 6.0, "forward": 4.0}, DATASET, 10, True, "The data takes 60% of a step: more cores"),
        ({"data": 6.0, "forward": 4.0}, MEMORY, 10, False, "The data takes 60% of a step: try --fast auto"),
        ({"data": 6.0, "forward": 4.0}, MEMORY, 10, True, "The data takes 60% of a step: try a larger --batch-size"),
        ({"forward": 1.0, "validation": 1.0}, MEMORY, 10, False, "Validation takes 50%"),
        ({"forward": 1.0, "events": 1.0}, MEMORY, 10, False, "Events and checkpoints take 50%"),
        ({"forward": 1.0, "backward": 1.0}, MEMORY, 10_000, False, "A step takes 200 µs"),
        ({"forward": 1.0, "optimizer": 1.0}, MEMORY, 10, False, "The update takes 50%"),
        ({"forward": 1.0, "backward": 1.0}, MEMORY, 10, False, "Forward and backward take 100%"),
        ({"forward": 1.0, "compiled": 9.0, "compiling": 50.0}, MEMORY, 10, True, "Compiled steps take 90%"),
        ({}, MEMORY, 0, False, "No step was measured"),
    ],
)
def test_the_advice_follows_from_the_figures(
    seconds: dict[str, float], batches: Any, steps: int, fast: bool, told: str
) -> None:
    assert advice(seconds, steps, batches, fast=fast).startswith(told)


def test_the_bar_stands_under_the_curves(lab: Any, rng: np.random.Generator) -> None:
    job = lab.start(rng.normal(size=(60, 6)), rng.integers(0, 3, 60), profile=True)
    job.result()
    history = History.of(job.events(follow=False))
    assert height(history) == HEIGHT + PROFILE
    figure = draw(history)
    assert len(figure.subfigs) == 2
    texts = svg(figure, title="m")
    assert "forward" in texts
    assert "ms a step" in texts
    assert ("time of a step", history.profile.advice) in rows(history)
