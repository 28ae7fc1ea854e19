"""What its owner alone may read: files with the mode 0600, in folders with the mode 0700."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def folder(place: Path) -> Path:
    """A folder for its owner alone, made if it is missing.

    Parameters
    ----------
    place : Path
        The folder.
    """
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    close(place)
    return place


def file(place: Path) -> Path:
    """A file for its owner alone, made if it is missing.

    Parameters
    ----------
    place : Path
        The file.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    close(place)
    return place


def close(place: Path) -> None:
    """Take the permissions of everyone but the owner from a file or a folder, where this process may.

    Parameters
    ----------
    place : Path
        The file or folder.
    """
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):  # someone else's, or a disk that is only read
        mode = stat.S_IMODE(place.stat().st_mode)
        if mode & OTHERS:
            place.chmod(mode & ~OTHERS)
