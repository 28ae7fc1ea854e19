"""The picture that stands beside a live view: curves as SVG without a plotting library, in a millisecond."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from maas_magics.api.tables import format_number
from maas_magics.widgets.curves import Curve, Point
from maas_magics.widgets.history import History
from maas_magics.widgets.words import BEST, MUTED, TRAIN, VALIDATION

WIDTH, PANEL = 640, 168
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 26, 22
DETAIL = 200
"""Most points of a curve."""

LINES = (("step", TRAIN, 0.9, 0.38), ("train", TRAIN, 1.6, 1.0), ("validation", VALIDATION, 1.6, 1.0))
"""Part, colour, width and opacity of each curve of a figure."""


def sketch(history: History) -> str:
    """Loss, and beside it the metric that is monitored, or the first one; empty while there is nothing to draw."""
    names = [name for name in ("loss", *history.metrics[:1]) if _curves(history, name)]
    width = WIDTH / max(1, len(names))
    panels = "".join(
        f'<g transform="translate({width * place:.0f} 0)">{_panel(history, name, width)}</g>'
        for place, name in enumerate(names)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{PANEL}" viewBox="0 0 {WIDTH} {PANEL}" '
        f'font-family="system-ui,sans-serif" font-size="10" fill="{MUTED}">{panels}</svg>'
        if names
        else ""
    )


def _curves(history: History, name: str) -> list[tuple[list[Point], str, float, float]]:
    found = []
    for part, *style in LINES:
        curve = Curve(DETAIL)
        curve.extend(point for point in history.points(f"{part}/{name}") if math.isfinite(point[1]))
        if curve.points:
            found.append((curve.points, *style))
    return found  # type: ignore[return-value]


def _panel(history: History, name: str, width: float) -> str:
    curves = _curves(history, name)
    low, high = _limits([y for points, *_ in curves for _, y in points])
    last = max(points[-1][0] for points, *_ in curves) or 1.0

    def x(step: float) -> str:
        return f"{LEFT + step / last * (width - LEFT - RIGHT):.1f}"

    def y(value: float) -> str:
        return f"{TOP + (high - min(max(value, low), high)) / (high - low) * (PANEL - TOP - BOTTOM):.1f}"

    ticks = [low + (high - low) * share for share in (0.05, 0.35, 0.65, 0.95)]
    parts = [f'<text x="{LEFT}" y="13" font-weight="bold" font-size="11">{escape(name)}</text>']
    for value in ticks:
        label = format_number(float(f"{value:.3g}"))
        parts.append(
            f'<path d="M{LEFT} {y(value)}H{width - RIGHT:.0f}" stroke="{MUTED}" stroke-opacity=".22"/>'
            f'<text x="{LEFT - 6}" y="{y(value)}" dy="3.5" text-anchor="end">{label}</text>'
        )
    for points, colour, stroke, opacity in curves:
        path = "L".join(f"{x(step)} {y(value)}" for step, value in points)
        cap = "h.01" if len(points) == 1 else ""
        parts.append(
            f'<path d="M{path}{cap}" fill="none" stroke="{colour}" stroke-width="{4 if cap else stroke}" '
            f'stroke-opacity="{opacity}" stroke-linejoin="round" stroke-linecap="round"/>'
        )
    if history.best is not None:
        parts.append(
            f'<path d="M{x(history.best.step)} {TOP}V{PANEL - BOTTOM}" stroke="{BEST}" stroke-dasharray="2 3"/>'
        )
    scale = history.started.steps_per_epoch if history.started else 0
    unit, end = ("epoch", last / scale) if scale else ("step", last)
    parts.append(
        f'<text x="{LEFT}" y="{PANEL - 6}">0</text>'
        f'<text x="{width - RIGHT:.0f}" y="{PANEL - 6}" text-anchor="end">{unit} {end:.4g}</text>'
    )
    return "".join(parts) + _legend([colour for _, colour, stroke, _ in curves if stroke > 1], width)


def _legend(colours: Sequence[str], width: float) -> str:
    words = [(word, colour) for word, colour in (("train", TRAIN), ("validation", VALIDATION)) if colour in colours]
    spans = "  ".join(f'<tspan fill="{colour}">{word}</tspan>' for word, colour in words)
    return f'<text x="{width - RIGHT:.0f}" y="13" text-anchor="end">{spans}</text>'


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Range of the values; the wildest hundredth of the steps at the beginning must not flatten what follows."""
    found = sorted(values)
    low, high = found[0], found[math.ceil(0.98 * len(found)) - 1]
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin
