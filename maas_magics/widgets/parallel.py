"""Trials of a sweep as lines across one axis for each parameter, which can be read on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from maas_magics.api.space import Choices, Range, Space
from maas_magics.api.sweep import Trial, shown
from maas_magics.widgets.chart import HEIGHT, WIDTH
from maas_magics.widgets.words import BEST, MUTED, TRAIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 5
"""Choices of one parameter that are named along its axis."""

Place = Callable[[Any], float]
"""From a value to a height on its axis, 0 to 1."""


def draw_trials(trials: Sequence[Trial], space: Space, figure: str, mode: Literal["min", "max"], best: int) -> Figure:
    """Figure with the trials that ended with a metric, the better the stronger; others stop at the last parameter.

    Parameters
    ----------
    trials : sequence of Trial
    space : dict of str to Parameter
    figure : str
        Name of the metric that chose.
    mode : {"min", "max"}
        Better values are at the top either way.
    best : int
        Number of the best trial.
    """
    from matplotlib.figure import Figure

    made = Figure(figsize=(WIDTH / 96, HEIGHT / 96), layout="constrained")
    made.patch.set_alpha(0)
    axes = made.subplots()
    done = [trial for trial in trials if trial.state == "done" and trial.value is not None]
    figures = [trial.value or 0.0 for trial in done]
    low, high = min(figures), max(figures)
    places = [(name, *_axis(space[name])) for name in space]
    for at, (name, _, ticks) in enumerate(places):
        _draw_axis(axes, at, name, ticks)
    last = len(places)
    worse, better = (high, low) if mode == "min" else (low, high)
    _draw_axis(axes, last, figure, [(0.0, shown(worse)), (1.0, shown(better))] if low < high else [(0.5, shown(low))],
               bold=True)  # fmt: skip

    def height(trial: Trial) -> float:
        return abs((trial.value or 0.0) - worse) / (high - low) if high > low else 0.5

    for trial in sorted(trials, key=lambda trial: (trial.number == best, trial in done and height(trial))):
        y = [place(trial.params[name]) for name, place, _ in places]
        if trial not in done:
            axes.plot(range(last), y, color=MUTED, linewidth=0.8, alpha=0.45, linestyle=(0, (3, 3)))
            continue
        share = height(trial)
        chosen = trial.number == best
        style: dict[str, Any] = {"color": BEST, "linewidth": 2.2}
        if not chosen:
            style = {"color": TRAIN, "linewidth": 0.9 + 0.7 * share, "alpha": 0.3 + 0.45 * share**2}
        axes.plot(range(last + 1), [*y, share], solid_joinstyle="round", **style)
    axes.set_xlim(-0.15, last + 0.25)
    axes.set_ylim(-0.08, 1.08)
    axes.axis("off")
    axes.patch.set_alpha(0)
    words = [(f"best: trial {best}", BEST), ("trials", TRAIN)]
    words += [("pruned or failed", MUTED)] if len(done) < len(trials) else []
    for index, (word, colour) in enumerate(words):
        axes.annotate(
            word, (0.01 + 0.14 * index, -0.01), xycoords="axes fraction", color=colour, fontsize=7.5, va="top"
        )
    return made


def _axis(parameter: Range | Choices) -> tuple[Place, list[tuple[float, str]]]:
    """Heights of a parameter's values, and what is written along its axis."""
    if isinstance(parameter, Choices):
        values, count = list(parameter.values), len(parameter.values)
        heights = [index / (count - 1) if count > 1 else 0.5 for index in range(count)]
        named = range(count) if count <= MOST else (0, count - 1)
        return lambda value: heights[values.index(value)], [(heights[i], str(values[i])) for i in named]
    scale: Place = math.log if parameter.log else float
    low, high = scale(parameter.low), scale(parameter.high)
    middle = math.exp((low + high) / 2) if parameter.log else (low + high) / 2
    ends = [(0.0, _end(parameter.low)), (1.0, _end(parameter.high))]
    between = [] if parameter.whole else [(0.5, f"{middle:.2g}")]
    return lambda value: (scale(value) - low) / (high - low), [*ends, *between]


def _end(value: float) -> str:
    return f"{value:g}"


def _draw_axis(axes: Axes, at: int, name: str, ticks: Sequence[tuple[float, str]], *, bold: bool = False) -> None:
    axes.plot([at, at], [0, 1], color=MUTED, linewidth=0.9, alpha=0.6, zorder=1)
    axes.annotate(
        name, (at, 1.0), xytext=(0, 10), textcoords="offset points", ha="center", color=MUTED, fontsize=8.5,
        fontweight="bold" if bold else "normal",
    )  # fmt: skip
    for height, text in ticks:
        # Above the point: a line that comes through it would strike the text out.
        lift = 0 if height == 1 else 2
        axes.annotate(
            text, (at, height), xytext=(4, lift), textcoords="offset points", va="center" if not lift else "bottom",
            color=MUTED, fontsize=7.5,
        )  # fmt: skip
