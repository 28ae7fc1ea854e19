"""Data that clients sent ahead of a request, kept under the digest of its bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from pathlib import Path

from maas_magics.api import private
from maas_magics.api.errors import DataError, StoreError

DIGEST = re.compile("[0-9a-f]{64}")

COMPLETE = -1
"""Offset of data that is all there."""


class Uploads:
    """A folder of checked files, and of files that are still growing.

    Parameters
    ----------
    folder : Path
        Made when something is written.
    limit : float
        Most bytes of one upload.
    room : float
        Most bytes of all of them on disk.
    """

    def __init__(self, folder: Path, limit: float = float("inf"), room: float = float("inf")) -> None:
        self.folder = folder
        self._limit, self._room = limit, room
        self._lock = threading.Lock()

    def path(self, digest: str) -> Path:
        """File of complete data.

        Raises
        ------
        DataError
            If it is not there.
        """
        file = self._file(digest)
        if not file.is_file():
            raise DataError(f"The data {digest[:12]}… is not on the service.", "Send it again.")
        with contextlib.suppress(OSError):  # a lent store
            os.utime(file)
        return file

    def forget(self, seconds: float) -> None:
        """Remove what was neither named nor continued for so long."""
        if not self.folder.is_dir():
            return
        for file in self.folder.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - file.stat().st_mtime > seconds:
                    file.unlink()

    def offset(self, digest: str) -> int:
        """Bytes that are there; −1 once all are there and were checked."""
        file = self._file(digest)
        if file.is_file():
            return COMPLETE
        part = _growing(file)
        return part.stat().st_size if part.is_file() else 0

    def append(self, digest: str, offset: int, chunk: bytes, total: int) -> int:
        """Write bytes from ``offset`` on; the last ones are followed by the check of the whole.

        Raises
        ------
        DataError
            If ``offset`` is not where the bytes end, there is no room for the whole, or it does not have the digest.
        StoreError
            If they cannot be written; the bytes that were there before still are.
        """
        file = self._file(digest)
        part = _growing(file)
        if not 0 < total <= self._limit:
            raise DataError(
                f"{total:,} bytes were announced; 1 to {self._limit:,.0f} are accepted.",
                "Its owner may raise --max-upload.",
            )
        with self._lock:
            there = self.offset(digest)
            if there == COMPLETE:
                return COMPLETE
            if offset != there or there + len(chunk) > total:
                raise DataError(f"The upload is at byte {there:,}, not {offset:,}.", "Resume from there.")
            self._check_room(total - there)
            try:
                private.folder(self.folder)
                with open(private.file(part), "ab") as out:
                    try:
                        out.write(chunk)
                        out.flush()
                        os.fsync(out.fileno())
                    except OSError:
                        out.truncate(there)
                        raise
                if there + len(chunk) < total:
                    return there + len(chunk)
                with open(part, "rb") as whole:
                    found = hashlib.file_digest(whole, "sha256").hexdigest()
                if found != digest:
                    part.unlink()
                    raise DataError("The data that arrived does not have the digest it was announced with.")
                os.replace(part, file)
            except OSError as error:
                raise StoreError(f"The data cannot be written: {error.strerror or error}.") from error
        return COMPLETE

    def _check_room(self, more: int) -> None:
        """Check that all data together stays within bounds."""
        if self._room == float("inf"):
            return
        taken = 0
        if self.folder.is_dir():
            with os.scandir(self.folder) as files:
                for file in files:
                    with contextlib.suppress(OSError):  # it was removed meanwhile
                        taken += file.stat().st_size
        if taken + more > self._room:
            raise DataError(
                f"There is no room for {more:,} bytes: all uploads may take {self._room:,.0f}, and take {taken:,}.",
                f"Its owner may raise --max-uploads, or remove from {self.folder.name}/ what no job needs any more.",
            )

    def _file(self, digest: str) -> Path:
        if not DIGEST.fullmatch(digest):
            raise DataError(f"{digest[:80]!r} is not a SHA-256 digest: 64 hexadecimal digits.")
        return self.folder / digest


def _growing(file: Path) -> Path:
    return file.with_name(file.name + ".part")
