"""What was tried to make a model smaller, as a table and as a picture of score against size and latency."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import msgspec

from maas_magics.api.tables import format_number, html_table, size, text_table


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric lost by a compression, on held-out rows.

    Attributes
    ----------
    lost : float
        What it fell by; of an error, the share by which it grew.
    low, high : float or None
        Ends of its interval of 95 %, by a paired bootstrap of the rows; None where it was not drawn.
    after : float
        The metric of the file.
    """

    lost: float
    low: float | None = None
    high: float | None = None
    after: float = 0.0

    def __str__(self) -> str:
        within = "" if self.low is None or self.high is None else f" (95 %: {self.low:.2%} to {self.high:.2%})"
        return f"{self.lost:.2%}{within}"


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One way to make a model smaller.

    Attributes
    ----------
    name : str
        Of the compressions; ``"onnx"`` is the plain export.
    why : str
        Why it made no file; empty where it did.
    bytes : int
        Of its files; 0 where there are none.
    metric : str
        Metric that is held to the budget.
    score : float
        That metric, on held-out rows.
    lost : dict of str to Loss
        What each metric lost that is held to the budget.
    latency : float
        Milliseconds of a call of one row, the median of turns with the others; 0 where it was not measured.
    spread : tuple of float
        Quartiles of the turns.
    fits : bool
        Whether it is within the budget.
    best : bool
        Whether it was kept.
    """

    name: str
    why: str = ""
    bytes: int = 0
    metric: str = ""
    score: float = 0.0
    lost: dict[str, Loss] = {}
    latency: float = 0.0
    spread: tuple[float, float] = (0.0, 0.0)
    fits: bool = False
    best: bool = False

    def __str__(self) -> str:
        if self.why:
            return f"{self.name}: {self.why}."
        past = "" if self.fits else ", past the budget"
        return f"{self.name}: {self.metric} {format_number(self.score)}, {size(self.bytes)}{past}."


HEAD = ("", "size", "score", "loss", "95 %", "ms", "quartiles", "")


def rows(tried: Sequence[Tried]) -> list[tuple[str, ...]]:
    """Cells of the table.

    Parameters
    ----------
    tried : sequence of Tried
        What was tried.
    """
    found: list[tuple[str, ...]] = []
    for each in tried:
        if each.why:
            found.append((each.name, *["–"] * 6, re.split("[:;]", each.why)[0]))
            continue
        loss = ", ".join(f"{one.lost:.2%}" for one in each.lost.values())
        within = ", ".join(
            "–" if one.low is None or one.high is None else f"{one.low:.2%} to {one.high:.2%}"
            for one in each.lost.values()
        )
        spread = f"{each.spread[0]:.3f} to {each.spread[1]:.3f}"
        measured = (f"{each.latency:.3f}", spread) if each.latency else ("–", "–")
        mark = "kept" if each.best else "" if each.fits else "past the budget"
        found.append((each.name, size(each.bytes), format_number(each.score), loss, within, *measured, mark))
    return found


def as_text(tried: Sequence[Tried]) -> str:
    """The table of text.

    Parameters
    ----------
    tried : sequence of Tried
        What was tried.
    """
    return text_table(rows(tried), HEAD)


def as_html(tried: Sequence[Tried]) -> str:
    """The picture, and the table below it.

    Parameters
    ----------
    tried : sequence of Tried
        What was tried.
    """
    return picture(tried) + html_table(rows(tried), "tried", HEAD)


WIDTH, HEIGHT = 330, 220
LEFT, RIGHT, TOP, BOTTOM = 58, 20, 26, 40
KEPT, FITTING, PAST = "#2f9e6b", "#4c7fd0", "#c0605a"


def picture(tried: Sequence[Tried]) -> str:
    """Score against size and against latency, as SVG that is read on light and on dark pages; empty for one alone.

    Parameters
    ----------
    tried : sequence of Tried
        What was tried.
    """
    there = [each for each in tried if each.bytes]
    if len(there) < 2:
        return ""
    metric = there[0].metric
    panels = [("size, kB", [each.bytes / 1000 for each in there], [(0.0, 0.0)] * len(there))]
    if all(each.latency for each in there):
        panels.append(("ms for one row", [each.latency for each in there], [each.spread for each in there]))
    parts = []
    for place, (title, across, spread) in enumerate(panels):
        parts.append(_panel(there, metric, title, across, spread, place * WIDTH))
    total = WIDTH * len(panels)
    told = "; ".join(str(each) for each in there)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{HEIGHT}" viewBox="0 0 {total} {HEIGHT}" '
        f'style="max-width:100%" font-family="sans-serif" font-size="11" fill="currentColor" role="img" '
        f'aria-label="{escape(told)}">{"".join(parts)}</svg>'
    )


def _panel(
    there: Sequence[Tried],
    metric: str,
    title: str,
    across: Sequence[float],
    spread: Sequence[tuple[float, float]],
    shift: int,
) -> str:
    scores = [each.score for each in there]
    x_low, x_high = 0.0, max([*across, *(high for _, high in spread)]) * 1.12
    gap = (max(scores) - min(scores)) or abs(max(scores)) * 0.01 or 1.0
    y_low, y_high = min(scores) - 0.15 * gap, max(scores) + 0.15 * gap
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(value: float) -> float:
        return shift + LEFT + (value - x_low) / (x_high - x_low) * (right - LEFT)

    def y(value: float) -> float:
        return bottom - (value - y_low) / (y_high - y_low) * (bottom - TOP)

    parts = [f'<text x="{shift + LEFT}" y="14" font-weight="600">{escape(metric)}</text>']
    for share in (0, 0.5, 1):
        value = y_low + share * (y_high - y_low)
        parts.append(
            f'<line x1="{shift + LEFT}" x2="{shift + right}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'stroke="#80889066"/><text x="{shift + LEFT - 5}" y="{y(value) + 4:.1f}" text-anchor="end">'
            f"{format_number(value)}</text>"
        )
        value = x_low + share * (x_high - x_low)
        parts.append(f'<text x="{x(value):.1f}" y="{bottom + 15}" text-anchor="middle">{value:.3g}</text>')
    parts.append(f'<text x="{shift + (LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(title)}</text>')
    taken: list[tuple[float, float]] = []
    for each, value, (low, high) in sorted(zip(there, across, spread, strict=True), key=lambda one: not one[0].best):
        color = KEPT if each.best else FITTING if each.fits else PAST
        at, up = x(value), y(each.score)
        if high > low:
            parts.append(
                f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{up:.1f}" y2="{up:.1f}" stroke="{color}" '
                'stroke-width="1.5"/>'
            )
        parts.append(
            f'<circle cx="{at:.1f}" cy="{up:.1f}" r="{5.5 if each.best else 3.5}" fill="{color}">'
            f"<title>{escape(str(each))}</title></circle>"
        )
        free = next((off for off in (-7, 15, -18, 26, -29, 37) if _is_free(taken, at, up + off)), None)
        if free is not None:
            taken.append((at, up + free))
            end = at > shift + WIDTH - 90
            anchor, bold = ("end", -6) if end else ("start", 6), ' font-weight="700"' if each.best else ""
            parts.append(
                f'<text x="{at + anchor[1]:.1f}" y="{up + free:.1f}" text-anchor="{anchor[0]}"{bold}>'
                f"{escape(each.name)}</text>"
            )
    return "".join(parts)


def _is_free(taken: Sequence[tuple[float, float]], x: float, y: float) -> bool:
    """Whether a label fits at a place: inside of the picture, and on no other label."""
    inside = TOP - 8 < y < HEIGHT - BOTTOM - 2
    return inside and all(abs(x - other) > 95 or abs(y - up) > 10 for other, up in taken)
