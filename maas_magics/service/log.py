"""A line of JSON for each request, written some at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import BinaryIO

import msgspec

from maas_magics.api import private

PAUSE = 0.5
"""Seconds for which lines are collected before they are written."""

MOST = 256
"""Lines that are collected; to write more at once would make requests wait."""


class Entry(msgspec.Struct, omit_defaults=True):
    """One request. Holds the name of a token, never the token.

    Attributes
    ----------
    time : float
        Seconds since the Unix epoch at which it was answered.
    id : str
    client : str
        Name of the token.
    method, path : str
    status : int
    ms : float
        From its head to the end of its answer.
    model : str
        ``name:version`` that answered.
    """

    time: float
    id: str
    client: str | None
    method: str
    path: str
    status: int
    ms: float
    model: str = ""


class AccessLog:
    """Appends lines to a file.

    Parameters
    ----------
    path : str
        No line is written when empty.
    """

    def __init__(self, path: str) -> None:
        self.is_open = bool(path)
        self._file: BinaryIO | None = open(private.file(Path(path)), "ab") if path else None  # noqa: SIM115
        self._entries: list[Entry] = []
        self._encoder = msgspec.json.Encoder()

    def write(self, entry: Entry) -> None:
        """Add a line; called in the event loop's thread."""
        entries = self._entries
        if not entries:
            asyncio.get_running_loop().call_later(PAUSE, self.flush)
        entries.append(entry)
        if len(entries) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Write what was collected; a full disk costs lines of the log, not answers."""
        entries, self._entries = self._entries, []
        if self._file is None or not entries:
            return
        try:
            self._file.write(self._encoder.encode_lines(entries))
            self._file.flush()
        except (OSError, ValueError):  # ValueError: closed, as the service ends
            pass

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        if self._file is not None:
            self._file.close()
