"""Curves of several models in one picture, which can be read on a light and on a dark page."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from maas_magics.api.records import ModelRecord
from maas_magics.widgets.chart import DETAIL, HEIGHT, WIDTH, png, svg
from maas_magics.widgets.curves import Curve
from maas_magics.widgets.kernel import in_kernel
from maas_magics.widgets.still import Bundle
from maas_magics.widgets.words import BEST, MUTED, TRAIN, VALIDATION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (TRAIN, VALIDATION, BEST, "#9a6fd0", "#c2557d", "#8a7a3d", "#3f9aa8", "#7d8790")
"""Mid-tones, as `words` has them; the ninth model begins anew."""


def draw_records(records: Sequence[ModelRecord]) -> Figure:
    """Figure with the loss, and beside it the metric that chose the best epoch, or the first that all have.

    Validation is a full line, training a thin one; a dot marks each best epoch.

    Parameters
    ----------
    records : sequence of ModelRecord
    """
    from matplotlib.figure import Figure

    made = Figure(figsize=(WIDTH / 96, HEIGHT / 96), layout="constrained")
    made.patch.set_alpha(0)
    figures = ["loss", *_second(records)]
    for axes, name in zip(made.subplots(1, len(figures), squeeze=False)[0], figures, strict=True):
        _panel(axes, records, name)
    handles = [_handle(record.info.ref, COLOURS[index % len(COLOURS)]) for index, record in enumerate(records)]
    handles += [_handle("validation", MUTED), _handle("training", MUTED, linewidth=0.9, alpha=0.5)]
    made.legend(
        handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False, fontsize=7.5,
        labelcolor=MUTED, handlelength=1.4,
    )  # fmt: skip
    return made


def comparison_bundle(records: Sequence[ModelRecord]) -> Bundle | None:
    """That picture as PNG, SVG and text; None if no model has curves."""
    if not any(record.history for record in records):
        return None
    words = "curves of " + ", ".join(record.info.ref for record in records)
    made = draw_records(records)
    data = {"image/png": b64encode(png(made)).decode(), "image/svg+xml": svg(made, title=words), "text/plain": words}
    return data, {"image/png": {"width": WIDTH, "height": HEIGHT, "alt": words}}


def _second(records: Sequence[ModelRecord]) -> list[str]:
    """Name of the metric beside the loss: one that was monitored, or the first that every model has."""
    shared = [
        name.removeprefix("val_")
        for name in records[0].history
        if name.startswith("val_") and name != "val_loss" and all(name in record.history for record in records)
    ]
    monitored = [record.plan.get("monitor", "loss") for record in records]
    return sorted(shared, key=lambda name: name not in monitored)[:1]


def _handle(label: str, colour: str, **style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, label=label, **{"linewidth": 1.6, **style})


def _panel(axes: Axes, records: Sequence[ModelRecord], name: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for index, record in enumerate(records):
        colour = COLOURS[index % len(COLOURS)]
        held = record.history.get(f"val_{name}")
        _line(axes, record.history.get(name), color=colour, linewidth=0.9, alpha=0.5 if held else 1.0)
        _line(axes, held, color=colour, linewidth=1.6)
        shown = held or record.history.get(name) or []
        best = record.best_epoch
        if 0 < best <= len(shown) and (value := shown[best - 1]) is not None:
            axes.plot([best], [value], "o", color=colour, markersize=4.5)
    axes.patch.set_alpha(0)
    axes.set_title(name, loc="left", fontsize=8.5, color=MUTED, fontweight="bold", pad=7)
    axes.grid(axis="y", color=MUTED, alpha=0.22, linewidth=0.7)
    axes.tick_params(colors=MUTED, labelsize=7.5, length=0, which="both")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set(color=MUTED, alpha=0.5, linewidth=0.7)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.set_xlabel("epoch", fontsize=7.5, color=MUTED, labelpad=2)


def _line(axes: Axes, values: Sequence[float | None] | None, **style: Any) -> None:
    curve = Curve(DETAIL)
    curve.extend((epoch, math.nan if value is None else value) for epoch, value in enumerate(values or (), 1))
    if curve.points:
        x, y = zip(*curve.points, strict=True)
        lone: dict[str, Any] = {"marker": "o", "markersize": 3} if len(x) == 1 else {}
        axes.plot(x, y, solid_capstyle="round", solid_joinstyle="round", **style, **lone)


def show_comparison(records: Sequence[ModelRecord]) -> None:
    """Display the picture in the calling cell, if a notebook runs it."""
    found = comparison_bundle(records) if in_kernel() else None
    if found is not None:
        from IPython.display import display

        data, metadata = found
        display(data, raw=True, metadata=metadata)  # type: ignore[no-untyped-call]
