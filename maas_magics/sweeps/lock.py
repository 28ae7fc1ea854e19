"""A lock on the record of a sweep that ends with the process that holds it, however that process ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

from optuna.storages.journal import JournalFileOpenLock


class ProcessLock(JournalFileOpenLock):
    """A lock of the operating system on a file beside the record.

    Optuna's own locks are files that outlive a killed process, and cost the next one half a minute.

    Parameters
    ----------
    file : Path
        The record.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(str(file))
        self._file = file.with_name(file.name + ".lock")
        self._held: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait until no one else has it."""
        import fcntl

        self._held = open(self._file, "ab")  # noqa: SIM115
        fcntl.flock(self._held, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Give it back."""
        if self._held is not None:
            self._held.close()
            self._held = None


def lock_of(file: Path) -> JournalFileOpenLock:
    """Lock of a record on this system."""
    return JournalFileOpenLock(str(file)) if sys.platform == "win32" else ProcessLock(file)
