"""The view of a marimo notebook or app: its own progress bar, and the picture and the table that stay."""

from __future__ import annotations

import sys
import threading
from typing import Any

from maas_magics.widgets.follow import Follower
from maas_magics.widgets.history import History
from maas_magics.widgets.still import bundles
from maas_magics.widgets.words import line


def in_marimo() -> bool:
    """Whether this code runs in a cell of marimo that is shown."""
    marimo: Any = sys.modules.get("marimo")
    return bool(marimo) and marimo.running_in_notebook()


class MarimoView:
    """Paints into the output of the calling cell, which a thread of marimo's own may do."""

    interval = 0.4

    def __init__(self) -> None:
        self._marimo: Any = sys.modules["marimo"]
        self.thread: type[threading.Thread] = self._marimo.Thread
        self._percent = 0

    def open(self, follower: Follower) -> None:
        """Show an empty bar."""
        title = follower.history.title
        self._bar = self._marimo.status.progress_bar(
            total=100, title=title, subtitle="queued", show_eta=False, show_rate=False, remove_on_exit=True
        )
        self._shown = self._bar.__enter__()

    def paint(self, history: History, *, stopping: bool) -> None:
        """Move the bar."""
        percent = int(100 * (history.fraction or 0.0))
        told = line(history, stopping=stopping).partition("  ")[2]
        self._shown.update(increment=percent - self._percent, subtitle=told.replace("  ", " · "))
        self._percent = percent

    def close(self, history: History) -> None:
        """Leave the picture and the table in the bar's place."""
        self._bar.__exit__(None, None, None)
        if history.refused:
            return
        for data, metadata in bundles(history):
            html = data.get("text/html")
            if html is None:
                about = metadata["image/png"]
                html = f'<img width="{about["width"]}" src="data:image/png;base64,{data["image/png"]}">'
            self._marimo.output.append(self._marimo.Html(html))
