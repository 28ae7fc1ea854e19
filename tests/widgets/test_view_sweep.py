"""The picture of a sweep's trials."""

from __future__ import annotations

from typing import Any

import pytest

from maas_magics.api.sweep import Trial
from maas_magics.sweeps.parse import parse_space
from maas_magics.widgets.chart import png, svg
from maas_magics.widgets.parallel import draw_trials

SPACE = parse_space("lr=1e-4..1e-1 log, hidden=[8, (16, 16), None], dropout=0.0..0.5, n=1..3")


def trial(number: int, figure: float | None = 0.5, state: Any = "done", **params: Any) -> Trial:
    return Trial(number=number, state=state, value=figure,
                 params={"lr": 0.01, "hidden": 8, "dropout": 0.1, "n": 2} | params)  # fmt: skip


def lines(*trials: Trial, mode: Any = "min", best: int = 1) -> list[list[float]]:
    """Heights of every trial's line, the best one last; axes are lines of two points."""
    made = draw_trials(trials, SPACE, "val_loss", mode, best)
    return [list(line.get_ydata()) for line in made.axes[0].lines if len(line.get_ydata()) > 2]


def test_values_stand_where_they_belong_and_the_best_is_on_top() -> None:
    drawn = lines(trial(1, 0.2, lr=0.1, hidden=None, dropout=0.5, n=3), trial(2, 0.4, lr=1e-4, dropout=0.0, n=1))
    assert drawn == [[0, 0, 0, 0, 0], pytest.approx([1, 1, 1, 1, 1])]
    middle = lines(trial(1, 0.3, lr=10**-2.5, hidden=(16, 16), dropout=0.25), trial(2, 0.4), trial(3, 0.2))
    assert pytest.approx([0.5, 0.5, 0.5, 0.5, 0.5]) in middle
    grown = lines(trial(1, 0.9), trial(2, 0.4), mode="max")
    assert grown[-1][-1] == 1 and grown[0][-1] == 0


def test_pruned_trials_stop_at_the_last_parameter() -> None:
    drawn = lines(trial(1), trial(2, 9.0, "pruned"), trial(3, None, "failed"))
    assert sorted(map(len, drawn)) == [4, 4, 5] and drawn[-1][-1] == 0.5, "one figure stands in the middle"


def test_the_same_trials_give_the_same_bytes() -> None:
    made = [draw_trials([trial(1), trial(2, 0.7)], SPACE, "val_loss", "min", 1) for _ in range(2)]
    assert png(made[0]) == png(made[1]) and svg(made[0], title="x") == svg(made[1], title="x")
