"""Where the time of a training went, as one bar; and how its learning rate was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maas_magics.api.events import Profiled, RateSearch
from maas_magics.widgets.words import BEST, MUTED, TRAIN, VALIDATION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "data": VALIDATION,
    "forward": TRAIN,
    "backward": "#6a5fc9",
    "optimizer": BEST,
    "compiled": TRAIN,
    "events": "#c08a1e",
    "validation": MUTED,
    "compiling": "#b06a9a",
}

WIDE = 0.09
"""Share from which on a part's name stands in the bar itself; the others follow below it."""


def draw_profile(axes: Axes, profile: Profiled) -> None:
    """One bar of the whole time; each part in its colour, with its name and its share."""
    whole = sum(profile.seconds.values()) or 1.0
    left, small = 0.0, []
    for part, seconds in profile.seconds.items():
        share = seconds / whole
        axes.barh(0, share, left=left, height=0.9, color=COLOURS.get(part, MUTED), alpha=0.85, linewidth=0)
        if share >= WIDE:
            text = f"{part}\n{share:.0%}"
            axes.text(left + share / 2, 0, text, ha="center", va="center", fontsize=7, color="white", linespacing=1.1)
        else:
            small.append(f"{part} {share:.1%}")
        left += share
    each = 1e3 * sum(s for part, s in profile.seconds.items() if part not in ("validation", "compiling"))
    title = f"time, {each / max(1, profile.steps):.3g} ms a step"
    axes.set_title(title, loc="left", fontsize=8.5, color=MUTED, fontweight="bold", pad=4)
    axes.set_xlabel(", ".join(small), fontsize=7, color=MUTED, labelpad=1, loc="right")
    axes.set(xlim=(0, 1), ylim=(-0.5, 0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.patch.set_alpha(0)


def draw_search(axes: Axes, search: RateSearch) -> None:
    """Smoothed loss over the rising rate, and the rate that was chosen."""
    axes.plot(search.rates, search.losses, color=TRAIN, linewidth=1.6)
    axes.axvline(search.chosen, color=BEST, linewidth=1, linestyle=(0, (2, 2.5)), alpha=0.8)
    axes.set_xscale("log")
    title = f"learning rate, {search.chosen:g} where the loss falls fastest"
    axes.set_title(title, loc="left", fontsize=8.5, color=MUTED, fontweight="bold", pad=4)
    axes.grid(axis="y", color=MUTED, alpha=0.22, linewidth=0.7)
    axes.tick_params(colors=MUTED, labelsize=7.5, length=0, which="both")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set(color=MUTED, alpha=0.5, linewidth=0.7)
    axes.patch.set_alpha(0)
