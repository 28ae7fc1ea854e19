"""Jobs and their events in SQLite, so that a view can be rebuilt after the kernel is gone."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import StoreError
from maas_magics.api.events import Event, State, decode, encode

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, model TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL,
    owner TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL, seq INTEGER NOT NULL, event BLOB NOT NULL, PRIMARY KEY (job, seq)
) WITHOUT ROWID;
"""


WAIT = 10.0
"""Seconds to wait for another process that writes."""


class Journal:
    """The jobs of a store, of this process and of others.

    Parameters
    ----------
    file : Path
        SQLite file; made when it is missing. Where nothing can be written the jobs are kept in memory,
        so that a store that is only lent can be asked.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lent = not os.access(file if file.exists() else file.parent, os.W_OK)
            self._db = _open(":memory:" if lent else file)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"The journal {file} cannot be opened: {error}", "Set MAAS_STORE to another folder."
            ) from error

    def open(self, info: JobInfo, owner: str) -> None:
        """Write down a new job.

        Parameters
        ----------
        info : JobInfo
        owner : str
            Process that runs it; see `owner_alive`.
        """
        with self._writing():
            self._db.execute(
                "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?)",
                (info.id, info.title, info.model, info.state, info.created, owner),
            )

    def append(self, id: str, events: Sequence[Event], state: State) -> None:
        """Write down events and the state the job is in after them, in one transaction.

        Raises
        ------
        StoreError
            If they cannot be written; nothing is then.
        """
        with self._writing():
            self._db.executemany(
                "INSERT OR REPLACE INTO events VALUES (?, ?, ?)", [(id, event.seq, encode(event)) for event in events]
            )
            self._db.execute("UPDATE jobs SET state = ? WHERE id = ?", (state, id))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise StoreError(
                    f"The journal cannot be written: {error}.", "Free some space, or set MAAS_STORE to another folder."
                ) from error

    def jobs(self) -> list[tuple[JobInfo, str]]:
        """Every job with its owner, newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, title, model, state, created, owner FROM jobs ORDER BY created DESC"
            ).fetchall()
        return [(JobInfo(*row[:5]), row[5]) for row in rows]

    def events(self, id: str, after: int = 0) -> list[Event]:
        """Events of a job with ``seq > after``."""
        with self._lock:
            rows = self._db.execute(
                "SELECT event FROM events WHERE job = ? AND seq > ? ORDER BY seq", (id, after)
            ).fetchall()
        return [decode(row[0]) for row in rows]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _open(file: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(file, timeout=WAIT, check_same_thread=False, isolation_level=None)
    for left in reversed(range(int(WAIT / 0.1))):
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
    return database
