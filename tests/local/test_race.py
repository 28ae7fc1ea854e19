"""`--race`: several networks for the same rows, the cheapest first; the best one is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import maas_magics as maas
from maas_magics.api.errors import OptionError
from maas_magics.api.requests import TrainRequest, specs_of
from maas_magics.api.specs import DataSpec
from maas_magics.api.sweep import SweepResult, Trial
from maas_magics.core.training.candidates import candidates_of, why_not
from maas_magics.sweeps.race import Race, seconds_of

rng = np.random.default_rng(0)
ROWS = pd.DataFrame({"a": rng.normal(size=300), "b": rng.normal(size=300), "c": rng.choice(list("xyz"), 300)})
ROWS["y"] = np.where(ROWS.a * ROWS.b > 0, "same", "other")
TEXTS = [f"this was a {'good' if i % 2 else 'bad'} day, the number {i} of all of them" for i in range(60)]


def test_the_best_network_wins_and_the_leaderboard_says_what_each_costs(store: Path) -> None:
    result = maas.train("m", ROWS, "y", race=True, epochs=12)
    assert isinstance(result, SweepResult) and [trial.params["model"] for trial in result.trials] == [
        "linear",
        "trees",
        "tabm",
    ]
    assert result.params["model"] != "linear", "a product of two columns is not a sum"
    assert result.model.info.architecture == result.params["model"] and result.ref == "m:1"
    best = min(trial.value for trial in result.trials if trial.value is not None)
    assert result.best.value == best
    done = [trial for trial in result.trials if trial.state == "done"]
    assert all(trial.bytes > 0 and trial.latency is not None and trial.seconds > 0 for trial in done)
    assert {"model", "val_loss", "seconds", "bytes", "latency"} <= set(result.table.columns)
    assert [info.name for info in maas.models()] == ["m"], "candidates are gone"
    assert len(maas.predict("m", ROWS.drop(columns="y").head(3))) == 3


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (DataSpec(data=ROWS, target="y"), ("linear", "trees", "tabm")),
        (
            DataSpec(data=(rng.normal(size=(20, 9, 9)).astype("float32"), np.arange(20) % 2)),
            ("linear", "trees", "cnn", "resnet"),
        ),
        (DataSpec(data=pd.DataFrame({"t": TEXTS, "y": 1.0}), target="y"), ("bow", "textcnn", "transformer")),
        (DataSpec(data=pd.DataFrame({"t": TEXTS, "n": 2.0, "y": 1.0}), target="y"), ("fusion",)),
        (
            DataSpec(data=pd.DataFrame({"t": [["a"], ["b", "c"]], "y": [["O"], ["O", "O"]]}), target="y"),
            ("fusion", "transformer"),
        ),
    ],
)
def test_who_takes_part_goes_by_the_columns(data: DataSpec, expected: tuple[str, ...]) -> None:
    assert candidates_of(data) == expected


@pytest.mark.parametrize(
    ("value", "seconds", "lost"), [(0.5, 31.0, True), (0.5, 29.0, False), (0.1, 500.0, False), (None, 500.0, False)]
)
def test_a_network_that_is_worse_and_dearer_is_dropped(value: Any, seconds: float, lost: bool) -> None:
    best = Trial(number=1, state="done", value=0.2, seconds=10.0)
    running = Trial(number=2, value=value)
    assert Race().lost(running, seconds, best, "min") is lost
    assert Race().lost(running, seconds, None, "min") is False
    turned = Trial(number=2, value=None if value is None else -value)
    assert Race().lost(turned, seconds, Trial(number=1, value=-0.2, seconds=10.0), "max") is lost


def test_a_race_ends_with_its_budget_and_keeps_what_it_has(store: Path) -> None:
    result = maas.train("m", ROWS, "y", race=True, budget=0.01, epochs=500)
    assert len(result.trials) == 1 and result.params == {"model": "linear"} and result.ref == "m:1"


def test_who_does_not_take_an_option_stays_out_and_is_named(store: Path) -> None:
    result = maas.train("m", ROWS, "y", race=True, epochs=2, batch_size=32)
    assert [trial.params["model"] for trial in result.trials] == ["linear", "tabm"]
    assert why_not("trees", specs_of(TrainRequest(name="m", data=ROWS, target="y", batch_size=32)))
    assert not why_not("trees", specs_of(TrainRequest(name="m", data=ROWS, target="y")))


def test_a_race_that_stopped_goes_on(store: Path) -> None:
    maas.train("m", ROWS, "y", race=True, budget=0.01, epochs=3)
    again = maas.train("m", ROWS, "y", race=True, resume=True, epochs=3)
    assert [trial.params["model"] for trial in again.trials] == ["linear", "trees", "tabm"]
    assert [info.name for info in maas.models()] == ["m"], "no candidate is left behind"


@pytest.mark.parametrize(("told", "seconds"), [("90s", 90), ("5min", 300), ("1.5h", 5400), (20, 20), ("7", 7)])
def test_budgets(told: Any, seconds: float) -> None:
    assert seconds_of(told) == seconds


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"race": True, "budget": "soon"}, "not a length of time"),
        ({"race": True, "model": "mlp"}, "chooses the network"),
        ({"race": True, "params": {"hidden": 3}}, "one network"),
        ({"budget": "5min", "sweep": "lr=[0.1]"}, "belongs to a race or to one training"),
        ({"race": True, "budget": "0s"}, "not a length of time"),
        ({"race": True, "sweep": "lr=[0.1]"}, "two things"),
    ],
)
def test_what_does_not_go_with_a_race(store: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        maas.train("m", ROWS, "y", **options)
