"""Jobs and their events in SQLite, so that a view can be rebuilt after the kernel is gone."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import StoreError
from maas_magics.api.events import Event, Paused, State, decode, encode

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, model TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL,
    owner TEXT NOT NULL, key TEXT NOT NULL DEFAULT '', stops INTEGER NOT NULL DEFAULT 0, request BLOB, result BLOB,
    pause INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL, seq INTEGER NOT NULL, event BLOB NOT NULL, PRIMARY KEY (job, seq)
) WITHOUT ROWID;
"""


SELECT = "SELECT id, title, model, state, created, owner FROM jobs"

ADDED = {
    "key": "TEXT NOT NULL DEFAULT ''",
    "stops": "INTEGER NOT NULL DEFAULT 0",
    "request": "BLOB",
    "result": "BLOB",
    "pause": "INTEGER NOT NULL DEFAULT 0",
}
"""Columns of ``jobs`` that the first journals lack."""

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

    def open(self, info: JobInfo, owner: str, key: str = "", request: bytes | None = None) -> str:
        """Write down a new job, unless there is one with the same key; answers the id of the one that is there.

        Parameters
        ----------
        info : JobInfo
        owner : str
            Process that runs it; empty while none does.
        key : str
            Chosen by whoever asks for the job.
        request : bytes, optional
            What it does, for another process to do.
        """
        with self._writing():
            if key and (found := self._db.execute("SELECT id FROM jobs WHERE key = ?", (key,)).fetchone()):
                return str(found[0])
            self._db.execute(
                "INSERT INTO jobs (id, title, model, state, created, owner, key, request) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (info.id, info.title, info.model, info.state, info.created, owner, key, request),
            )
        return info.id

    def take(self, id: str, owner: str, state: State = "running") -> None:
        """Write down which process runs a job now."""
        with self._writing():
            self._db.execute("UPDATE jobs SET owner = ?, state = ? WHERE id = ?", (owner, state, id))

    def request(self, id: str) -> bytes | None:
        """What a job does, if that was written down."""
        found: bytes | None = self._cell("request", id)
        return found

    def result(self, id: str) -> bytes | None:
        """What a job made, if that was written down."""
        found: bytes | None = self._cell("result", id)
        return found

    def stop(self, id: str) -> None:
        """Ask whichever process runs a job to stop it; a second time, to drop the work in hand."""
        with self._writing():
            self._db.execute("UPDATE jobs SET stops = stops + 1 WHERE id = ?", (id,))

    def stops(self, id: str) -> int:
        """How often a stop was asked for."""
        return self._cell("stops", id) or 0

    def pause(self, id: str) -> None:
        """Ask whichever process runs a job to keep its state and give way; one that waits is paused at once."""
        with self._writing():
            self._db.execute(
                "UPDATE jobs SET pause = 1, state = CASE state WHEN 'queued' THEN 'paused' ELSE state END WHERE id = ?",
                (id,),
            )

    def resume(self, id: str) -> None:
        """Put a job that is paused, or is about to be, back into the queue."""
        with self._writing():
            self._db.execute(
                "UPDATE jobs SET pause = 0, state = CASE state WHEN 'paused' THEN 'queued' ELSE state END WHERE id = ?",
                (id,),
            )

    def paused(self, id: str) -> bool:
        """Whether a job is to be paused, or is."""
        return bool(self._cell("pause", id))

    def give_way(self, id: str, events: Sequence[Event]) -> State:
        """Write down that a job kept its state and runs no more; whether it is queued or paused."""
        with self._writing():
            paused = self._db.execute("SELECT pause FROM jobs WHERE id = ?", (id,)).fetchone()[0]
            state: State = "paused" if paused else "queued"
            self._insert(id, [event for event in events if paused or not isinstance(event, Paused)])
            self._db.execute("UPDATE jobs SET state = ? WHERE id = ?", (state, id))
        return state

    def _cell(self, column: str, id: str) -> Any:
        with self._lock:
            found = self._db.execute(f"SELECT {column} FROM jobs WHERE id = ?", (id,)).fetchone()
        return None if found is None else found[0]

    def find(self, id: str) -> tuple[JobInfo, str] | None:
        """A job by its whole id, with its owner."""
        with self._lock:
            row = self._db.execute(f"{SELECT} WHERE id = ?", (id,)).fetchone()
        return None if row is None else (JobInfo(*row[:5]), row[5])

    def append(self, id: str, events: Sequence[Event], state: State, result: bytes | None = None) -> None:
        """Write down events and the state the job is in after them, in one transaction.

        Raises
        ------
        StoreError
            If they cannot be written; nothing is then.
        """
        with self._writing():
            self._insert(id, events)
            self._db.execute(
                "UPDATE jobs SET state = ?, result = coalesce(?, result) WHERE id = ?", (state, result, id)
            )

    def _insert(self, id: str, events: Sequence[Event]) -> None:
        rows = [(id, event.seq, encode(event)) for event in events]
        self._db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", rows)

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
            rows = self._db.execute(f"{SELECT} ORDER BY created DESC").fetchall()
        return [(JobInfo(*row[:5]), row[5]) for row in rows]

    def unfinished(self) -> list[tuple[JobInfo, str]]:
        """Jobs that have not ended, with their owners, oldest first."""
        with self._lock:
            rows = self._db.execute(f"{SELECT} WHERE state IN ('queued', 'running') ORDER BY created").fetchall()
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
    there = {row[1] for row in database.execute("PRAGMA table_info(jobs)")}
    for column, kind in ADDED.items():
        if column not in there:
            with contextlib.suppress(sqlite3.OperationalError):  # another process was first
                database.execute(f"ALTER TABLE jobs ADD COLUMN {column} {kind}")
    database.execute("CREATE INDEX IF NOT EXISTS keys ON jobs (key) WHERE key != ''")
    return database
