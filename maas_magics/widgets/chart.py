"""The curves of a job as a picture that can be read on a light and on a dark page."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from maas_magics.widgets.curves import Curve
from maas_magics.widgets.history import History
from maas_magics.widgets.profile import draw_profile, draw_search
from maas_magics.widgets.words import BEST, MUTED, TRAIN, VALIDATION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 640, 236
"""Size in CSS pixels."""

PROFILE = 84
"""Height of the bar that shows where the time went, where it was requested."""

SEARCH = 130
"""Height of the picture of a search for a learning rate."""

DETAIL = 600
"""Most points of a curve that are drawn: about two a pixel."""

_ID = re.compile(r'(?<=id=")([a-z][0-9a-f]{10})(?=")')


def draw(history: History, *, log: bool = False, steps: bool = True) -> Figure:
    """Figure with the loss, and beside it the metric that is monitored, or the first one.

    It belongs to no pyplot session: nothing of the notebook's own plotting is touched.

    Parameters
    ----------
    history : History
    log : bool
        Logarithmic axis of the loss.
    steps : bool
        Whether the loss between the epochs' ends is drawn, which depends on the machine's speed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 96, height(history) / 96), layout="constrained")
    figure.patch.set_alpha(0)
    curves: Any = figure
    if below := _below(history):
        parts: Any = figure.subfigures(1 + len(below), 1, height_ratios=(HEIGHT, *(size for size, _ in below)))
        for part in parts:
            part.patch.set_alpha(0)
        curves = parts[0]
        for part, (_, paint) in zip(parts[1:], below, strict=True):
            paint(part.subplots())
    figures = ["loss", *history.metrics[:1]]
    for axes, name in zip(curves.subplots(1, len(figures), squeeze=False)[0], figures, strict=True):
        _panel(axes, history, name, log=log and name == "loss" and _positive(history), steps=steps)
    return figure


def height(history: History) -> int:
    """Height in CSS pixels."""
    return HEIGHT + sum(size for size, _ in _below(history))


def _below(history: History) -> list[tuple[int, Callable[[Axes], None]]]:
    """Heights and painters of what stands under the curves."""
    found: list[tuple[int, Callable[[Axes], None]]] = []
    if history.search is not None:
        found.append((SEARCH, partial(draw_search, search=history.search)))
    if history.profile is not None:
        found.append((PROFILE, partial(draw_profile, profile=history.profile)))
    return found


def png(figure: Figure) -> bytes:
    """Figure as PNG with two device pixels for each CSS pixel."""
    return _saved(figure, "png", dpi=192, metadata={"Software": None})


def svg(figure: Figure, *, title: str = "") -> str:
    """Figure as SVG with a title for screen readers; the same figure gives the same text."""
    text = _saved(figure, "svg", metadata={"Date": None, "Creator": None, "Title": title or None}).decode()
    # Ids are salted at random unless a global setting says otherwise, and global settings are the notebook's own.
    names = {old: f"i{number}" for number, old in enumerate(dict.fromkeys(_ID.findall(text)))}
    return re.sub("|".join(names), lambda found: names[found[0]], text) if names else text


def _saved(figure: Figure, kind: str, **options: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    canvas = (FigureCanvasSVG if kind == "svg" else FigureCanvasAgg)(figure)
    canvas.print_figure(buffer, format=kind, facecolor="none", edgecolor="none", **options)
    return buffer.getvalue()


def _positive(history: History) -> bool:
    names = ("train/loss", "validation/loss")
    return all(0 < y < math.inf for name in names for _, y in history.points(name))


def _panel(axes: Axes, history: History, name: str, *, log: bool, steps: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    per_epoch = history.started.steps_per_epoch if history.started else 0
    scale = per_epoch or 1
    lone = len(history.points(f"train/{name}") or history.points(f"validation/{name}")) == 1
    if name == "loss" and steps:
        _line(axes, history, "step/loss", scale, color=TRAIN, alpha=0.38, linewidth=0.8)
    for part, colour in (("train", TRAIN), ("validation", VALIDATION)):
        style = {"color": colour, "linewidth": 1.6, "marker": "o" if lone else "", "markersize": 4}
        _line(axes, history, f"{part}/{name}", scale, **style)
    _mark_best(axes, history, name, scale)
    axes.set_xlim(0, max(history.step / scale, 1e-9))
    axes.set_yscale("log" if log else "linear")
    axes.set_ylim(*_limits(history, name, log=log, steps=steps))
    axes.patch.set_alpha(0)
    axes.set_title(name, loc="left", fontsize=8.5, color=MUTED, fontweight="bold", pad=7)
    axes.grid(axis="y", color=MUTED, alpha=0.22, linewidth=0.7)
    axes.tick_params(colors=MUTED, labelsize=7.5, length=0, which="both")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set(color=MUTED, alpha=0.5, linewidth=0.7)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if log else MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("epoch" if per_epoch else "step", fontsize=7.5, color=MUTED, labelpad=2)
    _legend(axes, history, name)


def _line(axes: Axes, history: History, curve: str, scale: int, **style: Any) -> None:
    thin = Curve(DETAIL)
    thin.extend(history.points(curve))
    if thin.points:
        x, y = zip(*thin.points, strict=True)
        axes.plot([value / scale for value in x], y, solid_capstyle="round", solid_joinstyle="round", **style)


def _limits(history: History, name: str, *, log: bool, steps: bool) -> tuple[float, float]:
    """Range of the values; a few wild steps at the beginning must not flatten what follows."""
    values = [y for part in ("train", "validation") for _, y in history.points(f"{part}/{name}")]
    if name == "loss" and steps:
        noisy = sorted(y for _, y in history.points("step/loss") if math.isfinite(y))
        values += noisy[len(noisy) // 100 : math.ceil(len(noisy) * 0.98)] if len(noisy) > 50 else noisy
    values = [value for value in values if math.isfinite(value) and (value > 0 or not log)] or [0.1, 1.0]
    low, high = min(values), max(values)
    if log:
        return low / 1.15, high * 1.15
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _mark_best(axes: Axes, history: History, name: str, scale: int) -> None:
    end = history.best
    if end is None:
        return
    axes.axvline(end.step / scale, color=BEST, linewidth=1, linestyle=(0, (2, 2.5)), alpha=0.8)
    value = end.validation.get(name, end.train.get(name))
    if value is not None:
        axes.plot([end.step / scale], [value], "o", color=BEST, markersize=5, clip_on=False)


def _legend(axes: Axes, history: History, name: str) -> None:
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

    words = [("train", TRAIN)] if history.points(f"train/{name}") else []
    words += [("validation", VALIDATION)] if history.points(f"validation/{name}") else []
    words += [(f"best {history.best.epoch}", BEST)] if history.best else []
    # Coloured words beside the title need no box and hide no curve.
    texts: list[Any] = [TextArea(word, textprops={"color": colour, "fontsize": 7.5}) for word, colour in words]
    packed = HPacker(children=texts, align="baseline", pad=0, sep=8)
    corner = (1.0, 1.025)
    axes.add_artist(
        AnchoredOffsetbox(
            "lower right",
            child=packed,
            pad=0,
            borderpad=0,
            frameon=False,
            bbox_to_anchor=corner,
            bbox_transform=axes.transAxes,
        )
    )
