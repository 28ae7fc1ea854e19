"""The view of a sweep: the table of its trials, live, and the picture and the table that stay."""

from __future__ import annotations

import sys
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from maas_magics.api.sweep import Sweep, head, rows
from maas_magics.api.tables import format_number, html_table, text_table
from maas_magics.widgets.still import Bundle

if TYPE_CHECKING:
    from maas_magics.widgets.history import History


def table(job: Sweep, *, volatile: bool = True) -> dict[str, str]:
    """Trials so far as a MIME bundle; without ``volatile`` the same in every run."""
    trials, best = job.trials, job.best
    number = 0 if best is None else best.number
    cells = rows(trials, number, volatile=volatile)
    names = head(trials, job.metric, volatile=volatile)
    caption = job.info.title
    if best is not None:
        caption += f": best trial {number}, {job.metric} {format_number(best.value or 0.0)}"
    text = f"{caption}\n{text_table(cells, names)}"
    return {"text/html": html_table(cells, caption, names), "text/plain": text}


def picture(job: Sweep) -> Bundle | None:
    """Parallel coordinates of the trials as PNG, SVG and text; None while no trial has ended with a metric."""
    best = job.best
    if best is None:
        return None
    from maas_magics.widgets.chart import HEIGHT, WIDTH, png, svg
    from maas_magics.widgets.parallel import draw_trials

    trials = [trial for trial in job.trials if trial.state != "running"]
    made = draw_trials(trials, job.space, job.metric, job.mode, best.number)
    words = (
        f"{job.info.title}: {len(trials)} trials, best {best.number}, {job.metric} {format_number(best.value or 0.0)}"
    )
    data = {"image/png": b64encode(png(made)).decode(), "image/svg+xml": svg(made, title=words), "text/plain": words}
    return data, {"image/png": {"width": WIDTH, "height": HEIGHT, "alt": words}}


def show_sweep(job: Sweep, history: History) -> None:
    """Display the picture and the table in the calling cell, or print the table where there is no kernel."""
    if job.best is None and history.state == "failed":
        return
    ipython: Any = sys.modules.get("IPython")
    if ipython is None or not hasattr(ipython.get_ipython(), "kernel"):
        print(table(job, volatile=False)["text/plain"])
        return
    found = picture(job)
    for data, metadata in ([found] if found else []) + [(dict(table(job, volatile=False)), {})]:
        ipython.display.display(data, raw=True, metadata=metadata)
