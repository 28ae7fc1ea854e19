"""The static twin: what a job leaves in a saved notebook, and all there is with ``MAAS_UI=static``."""

from __future__ import annotations

import sys
import time
from base64 import b64encode
from html import escape
from typing import Any

from maas_magics.widgets.follow import Follower
from maas_magics.widgets.history import History
from maas_magics.widgets.words import MUTED, baseline, final_line, line, summary

Bundle = tuple[dict[str, Any], dict[str, Any]]
"""MIME data and its metadata."""


def chart_bundle(history: History, *, log: bool = False, volatile: bool = True) -> Bundle | None:
    """Chart of a job that is over as PNG, SVG and text; None for a job without epochs."""
    if history.last is None:
        return None
    from maas_magics.widgets.chart import WIDTH, draw, height, png, svg

    figure, words = draw(history, log=log, steps=volatile), final_line(history, volatile=volatile)
    data = {
        "image/png": b64encode(png(figure)).decode(),
        "image/svg+xml": svg(figure, title=words),
        "text/plain": words,
    }
    return data, {"image/png": {"width": WIDTH, "height": height(history), "alt": words}}


def bundles(history: History, *, log: bool = False, volatile: bool = True) -> list[Bundle]:
    """Outputs of a job that is over: its chart, if it has one, and its table."""
    chart = chart_bundle(history, log=log, volatile=volatile)
    table: Bundle = (dict(summary(history, volatile=volatile)), {})
    return [chart, table] if chart else [table]


def beside(history: History, mark: str, *, again: str = "") -> dict[str, str]:
    """What stands beside a live view, for every page that opens the notebook without it, as a MIME bundle.

    Parameters
    ----------
    history : History
        Of a job that runs, or is over.
    mark : str
        Letters and digits that name the view; the view itself hides what bears them.
    again : str
        Line that shows the job again.
    """
    from maas_magics.widgets.sketch import sketch

    picture = sketch(history)
    source = b64encode(picture.encode()).decode()
    words = final_line(history) if history.final else line(history)
    image = (
        f'<img alt="{escape(words)}" style="max-width:100%" src="data:image/svg+xml;base64,{source}">'
        if picture
        else ""
    )
    if history.final:
        told = summary(history)
        html = image + told["text/html"]
    else:
        told = baseline(history)
        seen = f"as of {time.strftime('%H:%M:%S')}" + (f"; {again} shows it now" if again else "")
        html = f'{told["text/html"]}{image}<div style="color:{MUTED}">{escape(seen)}</div>'
    # A live view that is not there leaves a word about that, in the output before this one.
    alone = f".jp-OutputArea-child:has(+ .jp-OutputArea-child .maas-still-{mark}):not(:has(.maas)) {{ display: none }}"
    return {
        "text/html": f'<style>{alone}</style><div class="maas-still-{mark}">{html}</div>',
        "text/plain": told["text/plain"],
    }


class StillView:
    """Shows nothing while the job runs; `show` is called when it is over."""

    interval = 0.5

    def open(self, follower: Follower) -> None:
        """Nothing to see yet."""

    def paint(self, history: History, *, stopping: bool) -> None:
        """Nothing to see yet."""

    def close(self, history: History) -> None:
        """Nothing to see on this thread."""


def show(history: History, *, log: bool = False) -> None:
    """Display the static twin in the calling cell, or print its text where there is no kernel.

    It is the same in every run: no times, no speeds, and no loss of single steps, which are
    sampled by time.
    """
    ipython = sys.modules.get("IPython")
    if ipython is None or not hasattr(ipython.get_ipython(), "kernel"):
        print(summary(history, volatile=False)["text/plain"])
        return
    for data, metadata in bundles(history, log=log, volatile=False):
        ipython.display.display(data, raw=True, metadata=metadata)
