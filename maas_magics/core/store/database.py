"""The file of the journal: SQLite, with one connection to write and one to read."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from maas_magics.api import private
from maas_magics.api.errors import StoreError

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, model TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL,
    owner TEXT NOT NULL, key TEXT NOT NULL DEFAULT '', stops INTEGER NOT NULL DEFAULT 0, request BLOB, result BLOB,
    pause INTEGER NOT NULL DEFAULT 0, keeper TEXT NOT NULL DEFAULT '', beat REAL NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS keepers (name TEXT PRIMARY KEY, beat REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL, seq INTEGER NOT NULL, event BLOB NOT NULL, PRIMARY KEY (job, seq)
) WITHOUT ROWID;
"""

ADDED = {
    "key": "TEXT NOT NULL DEFAULT ''",
    "stops": "INTEGER NOT NULL DEFAULT 0",
    "request": "BLOB",
    "result": "BLOB",
    "pause": "INTEGER NOT NULL DEFAULT 0",
    "keeper": "TEXT NOT NULL DEFAULT ''",
    "beat": "REAL NOT NULL DEFAULT 0",
}
"""Columns of ``jobs`` that the first journals lack."""

AGAIN = 2.0
"""Seconds after which a file that could not be opened is tried again."""

MOVE = "Move it away (its jobs go, the models stay), or set MAAS_STORE to another folder."


class Database:
    """A file that several processes write to.

    Parameters
    ----------
    file : Path
        Made when it is missing, for its owner alone. Where nothing can be written, it is in memory.
    wait : float
        Seconds to wait for another process that writes.
    later : bool
        Whether a file that cannot be opened raises only once it is needed, and is tried again then.

    Raises
    ------
    StoreError
        If it cannot be opened.
    """

    def __init__(self, file: Path, wait: float, later: bool) -> None:
        self._file, self._wait = file, wait
        self._lock, self._reads = threading.Lock(), threading.Lock()
        self._both: tuple[sqlite3.Connection, sqlite3.Connection] | None = None
        """To write, and to read: readers do not wait for writers."""
        self._lost: tuple[float, StoreError] | None = None
        try:
            self._open()
        except StoreError:
            if not later:
                raise

    def _open(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        """Both connections; without the lock, which someone who writes may hold for long, where they are there."""
        return self._both or self._make()

    def _make(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        with self._lock:
            if self._both is not None:
                return self._both
            if self._lost is not None and time.monotonic() < self._lost[0]:
                raise StoreError(self._lost[1].message, self._lost[1].hint)
            try:
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                lent = not os.access(self._file if self._file.exists() else self._file.parent, os.W_OK)
                writer = self._made(":memory:" if lent else private.file(self._file))
                if lent:
                    self._reads = self._lock
                self._both = writer, writer if lent else self._connect(self._file)
            except (sqlite3.Error, OSError) as error:
                told = StoreError(f"The journal {self._file} cannot be opened: {error}", MOVE)
                self._lost = time.monotonic() + AGAIN, told
                raise told from error
            return self._both

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction.

        Raises
        ------
        StoreError
            If it cannot be written; nothing is then.
        """
        db, _ = self._open()
        with self._lock:
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                raise StoreError(
                    f"The journal cannot be written: {error}.", "Free some space, or set MAAS_STORE to another folder."
                ) from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with.

        Raises
        ------
        StoreError
            If it cannot be read.
        """
        _, db = self._open()
        with self._reads:
            try:
                yield db
            except (sqlite3.Error, msgspec.MsgspecError) as error:
                raise StoreError(f"The journal {self._file} cannot be read: {error}.", MOVE) from error

    def close(self) -> None:
        """Close the file."""
        if self._both is not None:
            writer, reader = self._both
            with self._reads:
                reader.close()
            with self._lock:
                writer.close()

    def _connect(self, file: Path | str) -> sqlite3.Connection:
        return sqlite3.connect(file, timeout=self._wait, check_same_thread=False, isolation_level=None)

    def _made(self, file: Path | str) -> sqlite3.Connection:
        """A connection to a file that has every table and column."""
        database = self._connect(file)
        for left in reversed(range(max(1, int(self._wait / 0.1)))):
            try:
                database.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as error:
                # SQLite does not wait by itself while two processes make the file at once.
                if "locked" not in str(error) or not left:
                    raise
                time.sleep(0.1)
        database.execute("PRAGMA synchronous=NORMAL")
        database.executescript(SCHEMA)
        there = {row[1] for row in database.execute("PRAGMA table_info(jobs)")}
        for column, kind in ADDED.items():
            if column not in there:
                with contextlib.suppress(sqlite3.OperationalError):  # another process was first
                    database.execute(f"ALTER TABLE jobs ADD COLUMN {column} {kind}")
        database.execute("CREATE INDEX IF NOT EXISTS keys ON jobs (key) WHERE key != ''")
        return database
