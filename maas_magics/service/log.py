"""A line of JSON for each request, written in the background of the event loop."""

from __future__ import annotations

import asyncio
from typing import Any, BinaryIO

import msgspec

PAUSE = 0.5
"""Seconds for which lines are collected before they are written."""


class AccessLog:
    """Appends lines to a file.

    Parameters
    ----------
    path : str
        No line is written when empty.
    """

    def __init__(self, path: str) -> None:
        self._file: BinaryIO | None = open(path, "ab") if path else None  # noqa: SIM115
        self._lines: list[bytes] = []
        self._encode = msgspec.json.Encoder().encode

    def __bool__(self) -> bool:
        return self._file is not None

    def write(self, entry: dict[str, Any]) -> None:
        """Add a line; called in the event loop's thread."""
        if not self._lines:
            asyncio.get_running_loop().call_later(PAUSE, self.flush)
        self._lines.append(self._encode(entry))

    def flush(self) -> None:
        """Write what was collected; a full disk costs lines of the log, not answers."""
        lines, self._lines = self._lines, []
        if self._file is None or not lines:
            return
        try:
            self._file.write(b"\n".join(lines) + b"\n")
            self._file.flush()
        except OSError:
            pass

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        if self._file is not None:
            self._file.close()
