"""Jobs and their events in SQLite, so that a view can be rebuilt after the kernel is gone.

A job has one owner, the process that runs it. A job that any process may run has a keeper besides: the service that
starts a worker for it, and another one when that dies. Both change hands only from the one that was there before, in
one transaction, and show that they live by a beat every few seconds; who lost its place can write nothing any more.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from maas_magics.api.backend import JobInfo
from maas_magics.api.events import Event, Paused, State, decode, encode
from maas_magics.core.store.database import Database

SELECT = "SELECT id, title, model, state, created, owner FROM jobs"

WAIT = 10.0
"""Seconds to wait for another process that writes."""


class Held(msgspec.Struct, frozen=True):
    """A job that has not ended, and that any process may run.

    Attributes
    ----------
    info : JobInfo
    owner : str
        Process that runs it; its keeper while none does.
    keeper : str
        Process that starts a worker for it.
    beat : float
        When its owner last showed that it lives; seconds since the Unix epoch, by the owner's clock.
    stops : int
        How often a stop was requested.
    """

    info: JobInfo
    owner: str
    keeper: str
    beat: float
    stops: int


class Journal:
    """The jobs of a store, of this process and of others.

    Parameters
    ----------
    file : Path
        SQLite file; made when it is missing. Where nothing can be written the jobs are kept in memory,
        so that a store that is only lent can be used.
    later : bool
        Whether a file that cannot be opened raises only once it is needed, and is tried again then.

    Raises
    ------
    StoreError
        If it cannot be opened.
    """

    def __init__(self, file: Path, later: bool = False) -> None:
        self._file = Database(file, WAIT, later)

    def open(self, info: JobInfo, owner: str, key: str = "", request: bytes | None = None, keeper: str = "") -> str:
        """Write down a new job, unless there is one with the same key; returns the id of the one that is there.

        Parameters
        ----------
        info : JobInfo
            The job as it is listed.
        owner : str
            Process that runs it; the one that got the request while none does.
        key : str
            Chosen by the client.
        request : bytes, optional
            What it does, for another process to do.
        keeper : str
            Process that starts one for that.
        """
        with self._file.writing() as db:
            if key and (found := db.execute("SELECT id FROM jobs WHERE key = ?", (key,)).fetchone()):
                return str(found[0])
            db.execute(
                "INSERT INTO jobs (id, title, model, state, created, owner, key, request, keeper) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (info.id, info.title, info.model, info.state, info.created, owner, key, request, keeper),
            )
        return info.id

    # --- one owner for each job ---

    def held(self, id: str = "") -> list[Held]:
        """Jobs that have not ended and that any process may run, oldest first; the one of an id."""
        with self._file.reading() as db:
            rows = db.execute(
                "SELECT id, title, model, state, created, owner, keeper, beat, stops FROM jobs WHERE "
                "state IN ('queued', 'running') AND request IS NOT NULL AND (? = '' OR id = ?) ORDER BY created",
                (id, id),
            ).fetchall()
        return [Held(JobInfo(*row[:5]), *row[5:]) for row in rows]

    def keep(self, job: Held, keeper: str) -> bool:
        """Become the keeper of a job in place of the one it had; whether no one was faster."""
        return self._changed(
            "UPDATE jobs SET keeper = ?, owner = CASE state WHEN 'queued' THEN ? ELSE owner END "
            "WHERE id = ? AND keeper = ? AND owner = ?",
            (keeper, keeper, job.info.id, job.keeper, job.owner),
        )

    def take(self, id: str, owner: str, keeper: str) -> bool:
        """Become the owner of a job that waits for one; whether its keeper still wants that."""
        return self._changed(
            "UPDATE jobs SET owner = ?, state = 'running', beat = ? "
            "WHERE id = ? AND keeper = ? AND owner = ? AND state = 'queued'",
            (owner, time.time(), id, keeper, keeper),
        )

    def beat(self, id: str, owner: str) -> bool:
        """Show that a job's owner lives; whether it still is the owner."""
        return self._changed("UPDATE jobs SET beat = ? WHERE id = ? AND owner = ?", (time.time(), id, owner))

    def take_back(self, job: Held, events: Sequence[Event]) -> bool:
        """Queue a job again whose owner is dead; whether no one was faster."""
        with self._file.writing() as db:
            done = db.execute(
                "UPDATE jobs SET owner = keeper, state = 'queued' WHERE id = ? AND keeper = ? AND owner = ? "
                "AND state IN ('queued', 'running')",
                (job.info.id, job.keeper, job.owner),
            ).rowcount
            if done:
                self._insert(db, job.info.id, events)
        return bool(done)

    def beat_keeper(self, name: str) -> None:
        """Show that a keeper lives, and forget those that have not for a day."""
        now = time.time()
        with self._file.writing() as db:
            db.execute("INSERT OR REPLACE INTO keepers VALUES (?, ?)", (name, now))
            db.execute("DELETE FROM keepers WHERE beat < ?", (now - 86_400.0,))

    def keepers(self) -> dict[str, float]:
        """When each keeper last showed that it lives, by its own clock."""
        with self._file.reading() as db:
            return dict(db.execute("SELECT name, beat FROM keepers").fetchall())

    def _changed(self, statement: str, values: tuple[Any, ...]) -> bool:
        with self._file.writing() as db:
            return db.execute(statement, values).rowcount > 0

    # --- what is requested, and what comes of it ---

    def request(self, id: str) -> bytes | None:
        """What a job does, if that was written down."""
        found: bytes | None = self._cell("request", id)
        return found

    def result(self, id: str) -> bytes | None:
        """What a job made, if that was written down."""
        found: bytes | None = self._cell("result", id)
        return found

    def stop(self, id: str) -> None:
        """Request a stop from whichever process runs a job; a second time, to drop the current work."""
        self._changed("UPDATE jobs SET stops = stops + 1 WHERE id = ?", (id,))

    def stops(self, id: str) -> int:
        """How often a stop was requested."""
        return self._cell("stops", id) or 0

    def pause(self, id: str) -> None:
        """Request that whichever process runs a job keeps its state and ends; a job that waits is paused at once."""
        self._changed(
            "UPDATE jobs SET pause = 1, state = CASE state WHEN 'queued' THEN 'paused' ELSE state END WHERE id = ?",
            (id,),
        )

    def resume(self, id: str) -> None:
        """Put a job that is paused, or is about to be, back into the queue."""
        self._changed(
            "UPDATE jobs SET pause = 0, state = CASE state WHEN 'paused' THEN 'queued' ELSE state END WHERE id = ?",
            (id,),
        )

    def paused(self, id: str) -> bool:
        """Whether a pause of a job was requested, or it is paused."""
        return bool(self._cell("pause", id))

    def give_way(self, id: str, events: Sequence[Event]) -> State:
        """Write down that a job kept its state and runs no more; whether it is queued or paused."""
        with self._file.writing() as db:
            paused = db.execute("SELECT pause FROM jobs WHERE id = ?", (id,)).fetchone()[0]
            state: State = "paused" if paused else "queued"
            self._insert(db, id, [event for event in events if paused or not isinstance(event, Paused)])
            db.execute(
                "UPDATE jobs SET state = ?, owner = CASE keeper WHEN '' THEN owner ELSE keeper END WHERE id = ?",
                (state, id),
            )
        return state

    def _cell(self, column: str, id: str) -> Any:
        with self._file.reading() as db:
            found = db.execute(f"SELECT {column} FROM jobs WHERE id = ?", (id,)).fetchone()
        return None if found is None else found[0]

    def find(self, id: str) -> tuple[JobInfo, str] | None:
        """A job by its whole id, with its owner."""
        with self._file.reading() as db:
            row = db.execute(f"{SELECT} WHERE id = ?", (id,)).fetchone()
        return None if row is None else (JobInfo(*row[:5]), row[5])

    def append(
        self, id: str, events: Sequence[Event], state: State, result: bytes | None = None, owner: str = ""
    ) -> None:
        """Write down events and the state the job is in after them, in one transaction.

        Parameters
        ----------
        owner : str
            Who writes; where it is not the job's owner any more, nothing is written. Anyone when empty.

        Raises
        ------
        StoreError
            If they cannot be written; nothing is then.
        """
        with self._file.writing() as db:
            written = db.execute(
                "UPDATE jobs SET state = ?, result = coalesce(?, result) WHERE id = ? AND (? = '' OR owner = ?)",
                (state, result, id, owner, owner),
            ).rowcount
            if written or not owner:
                self._insert(db, id, events)

    def _insert(self, db: sqlite3.Connection, id: str, events: Sequence[Event]) -> None:
        rows = [(id, event.seq, encode(event)) for event in events]
        db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", rows)

    def jobs(self) -> list[tuple[JobInfo, str]]:
        """Every job with its owner, newest first."""
        with self._file.reading() as db:
            rows = db.execute(f"{SELECT} ORDER BY created DESC").fetchall()
        return [(JobInfo(*row[:5]), row[5]) for row in rows]

    def events(self, id: str, after: int = 0) -> list[Event]:
        """Events of a job with ``seq > after``."""
        with self._file.reading() as db:
            rows = db.execute("SELECT event FROM events WHERE job = ? AND seq > ? ORDER BY seq", (id, after)).fetchall()
            return [decode(row[0]) for row in rows]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
