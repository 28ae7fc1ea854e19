"""The view of a terminal: one line that rewrites itself, or one line at the end where nothing can be rewritten."""

from __future__ import annotations

import shutil
import sys
from typing import TextIO

from maas_magics.widgets.follow import Follower
from maas_magics.widgets.history import History
from maas_magics.widgets.words import final_line, line

ERASE = "\r\x1b[K"


def bar(fraction: float | None, width: int = 20) -> str:
    """Progress bar of ``width`` characters; empty if the fraction is unknown."""
    if fraction is None:
        return ""
    full = int(fraction * width)
    return "━" * full + "─" * (width - full)


class TerminalView:
    """Writes to standard error, so that a script's own output stays clean.

    Parameters
    ----------
    stream : TextIO, optional
        Standard error by default.
    """

    interval = 0.25

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()

    def open(self, follower: Follower) -> None:
        """Nothing to prepare: a line needs no place of its own."""

    def paint(self, history: History, *, stopping: bool) -> None:
        """Rewrite the line."""
        if not self._live:
            return
        parts = (bar(history.fraction), line(history, stopping=stopping))
        # A line as wide as the terminal would wrap, and a wrapped line cannot be rewritten.
        self._write(ERASE + " ".join(part for part in parts if part)[: shutil.get_terminal_size().columns - 1])

    def close(self, history: History) -> None:
        """Leave the final line."""
        if history.refused:
            self._write(ERASE if self._live else "")
            return
        notes = "".join(f"warning: {text}\n" for text in history.warnings)
        self._write((ERASE if self._live else "") + f"{notes}{final_line(history)}\n")

    def _write(self, text: str) -> None:
        # A terminal of another encoding shows "?" for the bar rather than failing the job's view.
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()
