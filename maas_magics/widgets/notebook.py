"""The view of a notebook: a live widget where a page can show one, plain HTML where none can, statics at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython import get_ipython
from IPython.display import display

from maas_magics.widgets.follow import Follower
from maas_magics.widgets.history import History
from maas_magics.widgets.still import bundles
from maas_magics.widgets.words import baseline

if TYPE_CHECKING:
    from maas_magics.api.sweep import Sweep
    from maas_magics.widgets.live import LiveWidget

WIDGET = "application/vnd.jupyter.widget-view+json"
EMPTY = {"text/html": "", "text/plain": ""}

GRACE = 4.0
"""Seconds in which a page that shows widgets has answered, if it can answer at all."""

SLOW = 1.0
"""Least seconds between two paints of the plain HTML beside a widget that may be visible or not."""


def headless() -> bool:
    """Whether the cell is run by a program such as nbclient, which says that nobody could be asked for input."""
    content = get_ipython().kernel.get_parent("shell").get("content", {})
    return content.get("allow_stdin") is False


def silent_host() -> bool:
    """Whether the front end is known to show widgets but not to deliver their answers during a cell."""
    return "google.colab" in sys.modules or "__vsc_ipynb_file__" in get_ipython().user_ns


class NotebookView:
    """Two outputs made in the calling cell, so that the end of a background job lands there too.

    The first carries the live widget and becomes the chart; the second is empty and becomes the table.
    Replacing the first would take a live widget away, and a page that stays silent may well show one:
    a kernel hears nothing during a cell unless the page has a channel of its own. So the first is
    replaced before the end only where no page can be (`headless`); a page that stays silent gets its
    plain HTML in the second.

    Parameters
    ----------
    log : bool
        Logarithmic axis of the loss.
    blocking : bool
        Whether the calling cell waits for the end.
    """

    def __init__(self, *, log: bool, blocking: bool) -> None:
        self._log = log
        self._blocking = blocking
        self._widget: LiveWidget | None = None
        self._answered = silent_host()
        self._second_used = False

    @property
    def interval(self) -> float:
        """Least seconds between two paints."""
        return 0.5 if self._widget is None else 0.33

    def open(self, follower: Follower) -> None:
        """Make both outputs."""
        self._second_due = time.monotonic() + GRACE
        first: dict[str, Any] = dict(baseline(follower.history))
        if not headless():
            from maas_magics.widgets.live import LiveWidget

            self._widget = LiveWidget(
                follower.history,
                follower.lock,
                on_stop=follower.request_stop,
                on_pause=follower.request_pause,
                on_ready=self._on_ready,
                log=self._log,
                blocking=self._blocking,
            )
            first[WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        show: Callable[..., Any] = display
        self._first = show(first, raw=True, display_id=True)
        self._second = show(EMPTY, raw=True, display_id=True)

    def _on_ready(self) -> None:
        self._answered = True

    def paint(self, history: History, *, stopping: bool) -> None:
        """Show the present state."""
        if self._widget is None:
            self._first.update(baseline(history, stopping=stopping), raw=True)
            return
        self._widget.paint(stopping=stopping)
        if self._answered and self._second_used:
            self._second.update(EMPTY, raw=True)
            self._second_used = False
        elif not self._answered and time.monotonic() > self._second_due:
            self._second.update(baseline(history, stopping=stopping), raw=True)
            self._second_used, self._second_due = True, time.monotonic() + SLOW

    def close(self, history: History) -> None:
        """Replace both outputs by the static twin."""
        if self._widget is not None:
            # A page that was reloaded meanwhile keeps the widget, which an update of the output no longer reaches.
            self._widget.paint()
            self._widget.retire()
        outputs = [(EMPTY, {}), (EMPTY, {})] if history.refused else bundles(history, log=self._log)
        for handle, (data, metadata) in zip((self._first, self._second), outputs, strict=False):
            handle.update(data, raw=True, metadata=metadata)
        if len(outputs) == 1 and self._second_used:
            self._second.update(EMPTY, raw=True)


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
        self._shown: object = None

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
        if trials != self._shown:
            self._shown = trials
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
