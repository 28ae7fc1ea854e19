"""Live views of jobs and the static twins they leave behind.

`watch` is the whole interface. Importing this module imports no widget and no plotting library.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from maas_magics.widgets.kernel import in_kernel

if TYPE_CHECKING:
    from maas_magics.api.backend import Job
    from maas_magics.widgets.follow import View
    from maas_magics.widgets.history import History

__all__ = ["watch"]


def watch(job: Job[Any], *, block: bool = True, log: bool = False) -> None:
    """Show a job where this code runs: a notebook, a terminal, or neither.

    In a notebook a live view appears and leaves a static twin; a terminal gets one line.
    ``MAAS_UI=static`` in the environment gives one final display that is the same in every run.
    Below the view of a sweep stands the table of its trials.
    A failed job is only shown, and with ``block`` without its error, which ``job.result()`` raises.

    Parameters
    ----------
    job : Job
        Need not have started yet, and may be over.
    block : bool
        Wait for the end. An interrupt then stops the job gracefully, a second one hard; one that only comes before
        the end of the kernel stops no job that outlives it.
    log : bool
        Whether losses have a logarithmic axis at first.

    Raises
    ------
    KeyboardInterrupt
        If it was interrupted; after the first interrupt the final state is shown first.
    """
    static = os.environ.get("MAAS_UI") == "static"
    if not block and (static or not in_kernel()):
        print(f"started {job.info.title}")
        return
    from maas_magics.widgets.follow import Follower

    view = _view(job, static, block, log)
    follower = Follower(job, view)
    follower.history.raises = block
    try:
        view.open(follower)
        follower.start()
    except KeyboardInterrupt:
        from maas_magics.widgets.wish import stop_if_wished

        stop_if_wished(job)
        raise
    if not block:
        return
    try:
        follower.wait()
    finally:
        if static and follower.history.final and not follower.history.refused:
            _leave(job, follower.history, log)


def _view(job: Job[Any], static: bool, block: bool, log: bool) -> View:
    """The view of a job for the place where this code runs."""
    if static:
        from maas_magics.widgets.still import StillView

        return StillView()
    if "marimo" in sys.modules:
        from maas_magics.widgets.marimo import MarimoView, in_marimo

        if in_marimo():
            return MarimoView()
    if not in_kernel():
        from maas_magics.widgets.terminal import TerminalView

        return TerminalView()
    from maas_magics.api.sweep import is_sweep
    from maas_magics.widgets.notebook import NotebookView, SweepView

    again = f"%maas attach {job.info.id}" if getattr(job, "outlives", False) else ""
    return SweepView(job, blocking=block) if is_sweep(job) else NotebookView(log=log, blocking=block, again=again)


def _leave(job: Job[Any], history: History, log: bool) -> None:
    """Display what is the same in every run, in the calling cell."""
    from maas_magics.api.sweep import is_sweep

    if is_sweep(job):
        from maas_magics.widgets.sweep import show_sweep

        show_sweep(job, history)
    else:
        from maas_magics.widgets.still import show

        show(history, log=log)
