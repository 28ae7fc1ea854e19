"""The view of a notebook: a live widget where a page can show one, plain HTML where none can, statics at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython import get_ipython
from IPython.display import display

from maas_magics.widgets import busy
from maas_magics.widgets.follow import Follower
from maas_magics.widgets.history import History
from maas_magics.widgets.still import beside, bundles
from maas_magics.widgets.words import baseline

if TYPE_CHECKING:
    from maas_magics.api.sweep import Sweep
    from maas_magics.widgets.live import LiveWidget

WIDGET = "application/vnd.jupyter.widget-view+json"
EMPTY = {"text/html": "", "text/plain": ""}

SLOW, SLOWEST = 2.0, 30.0
"""Least seconds between two pictures beside the widget, at first and in a long job; a fiftieth of its time between."""


def headless() -> bool:
    """Whether the cell is run by a program such as nbclient, which says that it cannot be prompted for input."""
    content = get_ipython().kernel.get_parent("shell").get("content", {})
    return content.get("allow_stdin") is False


class NotebookView:
    """Two outputs made in the calling cell, so that the end of a background job lands there too.

    The first carries the live widget and becomes the chart; the second becomes the table, and until then is the
    picture of what the widget shows, which the widget hides: so a notebook that is saved at any moment shows it where
    there is no widget. The first is replaced before the end only where no page can be (`headless`), since that would
    take a live widget away.

    Parameters
    ----------
    log : bool
        Logarithmic axis of the loss.
    blocking : bool
        Whether the calling cell waits for the end.
    again : str
        Line that shows the job again; empty if it cannot outlive this kernel.
    """

    def __init__(self, *, log: bool, blocking: bool, again: str = "") -> None:
        self._log = log
        self._blocking = blocking
        self._again = again
        self._widget: LiveWidget | None = None
        self._begun = self._due = 0.0
        self._paused = False

    @property
    def interval(self) -> float:
        """Least seconds between two paints."""
        return 0.5 if self._widget is None else 0.33

    def open(self, follower: Follower) -> None:
        """Make both outputs."""
        self._begun = time.monotonic()
        self._due = self._begun + SLOW
        first: dict[str, Any] = dict(baseline(follower.history))
        if not headless():
            from maas_magics.widgets.live import LiveWidget

            self._widget = LiveWidget(
                follower.history,
                follower.lock,
                on_stop=follower.request_stop,
                on_pause=follower.request_pause,
                log=self._log,
                blocking=self._blocking,
                again=self._again,
            )
            first = dict(EMPTY)
            first[WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
            busy.opened(self._widget.model_id)
        show: Callable[..., Any] = display
        self._first = show(first, raw=True, display_id=True)
        second = EMPTY if self._widget is None else beside(follower.history, self._widget.mark, again=self._again)
        self._second = show(second, raw=True, display_id=True)

    def paint(self, history: History, *, stopping: bool) -> None:
        """Show the present state."""
        if self._widget is None:
            self._first.update(baseline(history, stopping=stopping), raw=True)
            return
        self._widget.paint(stopping=stopping)
        now = time.monotonic()
        if now > self._due or (history.state == "paused") != self._paused:
            self._paused = history.state == "paused"
            self._due = now + min(max(SLOW, (now - self._begun) / 50), SLOWEST)
            still = beside(history, self._widget.mark, again=self._again)
            self._second.update(still, raw=True)
            self._widget.keep(still)

    def close(self, history: History) -> None:
        """Replace both outputs by the static twin; a page learns of the end when that is done."""
        outputs = [(EMPTY, {}), (EMPTY, {})] if history.refused else bundles(history, log=self._log)
        for handle, (data, metadata) in zip((self._first, self._second), outputs, strict=False):
            handle.update(data, raw=True, metadata=metadata)
        if len(outputs) == 1 and self._widget is not None:
            self._second.update(EMPTY, raw=True)
        if self._widget is not None:
            # A page that was opened meanwhile keeps the widget, which an update of the output does not reach.
            self._widget.keep(beside(history, self._widget.mark), final=True)
            self._widget.paint()
            self._widget.retire()
            busy.closed(self._widget.model_id)


class SweepView(NotebookView):
    """The view of a job with a third output below: the table of the trials, which is painted as they end.

    Parameters
    ----------
    sweep : Sweep
    blocking : bool
        Whether the calling cell waits for the end.
    """

    def __init__(self, sweep: Sweep, *, blocking: bool) -> None:
        super().__init__(log=False, blocking=blocking)
        self._sweep = sweep
        self._table_shown: object = None

    def open(self, follower: Follower) -> None:
        """Make the three outputs."""
        super().open(follower)
        show: Callable[..., Any] = display
        self._table = show(EMPTY, raw=True, display_id=True)

    def paint(self, history: History, *, stopping: bool) -> None:
        """Show the present state."""
        from maas_magics.widgets.sweep import table

        super().paint(history, stopping=stopping)
        trials = self._sweep.trials
        if trials != self._table_shown:
            self._table_shown = trials
            self._table.update(table(self._sweep), raw=True)

    def close(self, history: History) -> None:
        """Leave the picture and the table; the widget, if there is one, goes."""
        from maas_magics.widgets.sweep import picture, table

        super().close(history)
        found = picture(self._sweep)
        if found is not None:
            data, metadata = found
            self._first.update(data, raw=True, metadata=metadata)
            self._second.update(EMPTY, raw=True)
        if self._sweep.trials:
            self._table.update(table(self._sweep), raw=True)
