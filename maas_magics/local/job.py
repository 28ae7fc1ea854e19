"""Jobs: one that this process runs, written down in the journal, and one that another process runs."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

import msgspec

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import MaasError, Stopped, StoreError, Suspended
from maas_magics.api.events import FINAL_STATES, Event, Finished, Message, Paused, State
from maas_magics.api.results import Prediction
from maas_magics.api.wire import decode_outcome, encode_outcome, verb_of_title
from maas_magics.core.context import Stopping
from maas_magics.core.store.journal import Journal
from maas_magics.job import BaseJob, LoggedJob, not_paused

R = TypeVar("R")

FLUSH = 1.0
"""Seconds between two writes of events to the journal."""

POLL = 0.2
"""Seconds between two looks into the journal."""

GONE = "The process that ran it is gone."


class LocalJob(LoggedJob[R]):
    """One submitted execution.

    Parameters
    ----------
    info : JobInfo
    journal : Journal
        Holds the job already.
    events : sequence of Event
        Events that an earlier process logged.
    flush : float
        Seconds between two writes of events to the journal.
    again : callable, optional
        Queues the job once more, after a pause; without it the job cannot be paused.
    owner : str
        Who runs it; what a process writes that is not the owner any more is lost. Not checked when empty.
    """

    def __init__(
        self,
        info: JobInfo,
        journal: Journal,
        events: Sequence[Event] = (),
        flush: float = FLUSH,
        again: Callable[[], None] | None = None,
        owner: str = "",
    ) -> None:
        super().__init__(info, events)
        self._owner = owner
        self._journal = journal
        self._written = len(events)
        self._flush_every = flush
        self._flushed = 0.0
        self._stops = 0
        self._suspended = self._paused = False
        self._again = again
        self._told: set[str] = set()
        self._owed: tuple[State, bytes | None] | None = None

    def stop(self) -> None:
        """Stop gracefully, keeping the best checkpoint; a second call drops the current work."""
        self._stops += 1
        if self._info.state == "paused":
            self.resume()

    def pause(self) -> None:
        """Keep the state of a training on disk, and let others run."""
        if self._again is None or self.done:
            raise not_paused(self._info)
        self._journal.pause(self.id)
        with self._changed:
            self._paused = True
            if self._info.state == "queued":
                self._state("paused")

    def resume(self) -> None:
        """Continue where `pause` left off."""
        if self._again is None or self.done:
            raise not_paused(self._info)
        self._journal.resume(self.id)
        with self._changed:
            self._paused = False
            if self._info.state == "paused":
                self._state("queued")
                self._again()

    # --- the running side ---

    def suspend(self) -> None:
        """Have the task keep its state and give its thread back; another process resumes it."""
        self._suspended = True

    def look(self) -> None:
        """See whether another process requested a stop, or a pause."""
        with contextlib.suppress(StoreError, sqlite3.Error):
            self._stops = max(self._stops, self._journal.stops(self.id))
            self._paused = self._journal.paused(self.id)

    def stopping(self) -> Stopping:
        """What the task should do."""
        if self._suspended:
            return "suspend"
        if self._stops:
            return "soft" if self._stops == 1 else "hard"
        return "suspend" if self._paused else ""

    def emit(self, event: Event) -> None:
        """Log an event, and now and then write down what is new; a note from before a pause is not repeated."""
        if self._told and isinstance(event, Message) and event.level == "info" and event.text in self._told:
            return
        super().emit(event)
        now = time.monotonic()
        if now - self._flushed >= self._flush_every:
            self._flush("running")
            self._flushed = now

    def written(self) -> None:
        """Write down every event so far: a training that resumes from a state does not report those before it again."""
        self._flush("running")
        self._flushed = time.monotonic()

    def run(self, work: Callable[[], R]) -> None:
        """Run to the end in this thread, unless it is paused, or stopped before it began; never raises."""
        if self._stops and not self._log.events:
            self.fail(Stopped("The job was stopped before it began."))
            return
        with self._changed:
            if self._info.state != "queued":
                return
            self._state("running")
            self._told = {event.text for event in self._log.events if isinstance(event, Message)}
        self.carry_out(work)

    def fail(self, error: BaseException) -> None:
        """End with an error, or suspend where that is what the task did."""
        if isinstance(error, Suspended):
            self._give_way()
        else:
            super().fail(error)

    def _give_way(self) -> None:
        """Leave the rest to the process that resumes it."""
        with self._changed:
            paused = Paused(seq=len(self._log.events) + 1, time=time.time())
            state: State = "paused" if self._paused else "queued"
            with contextlib.suppress(StoreError):
                state = self._journal.give_way(self.id, [*self._log.events[self._written :], paused])
            if state == "paused":
                self._log.add(paused)
            self._written = len(self._log.events)
            self._state(state)
        if state == "queued" and self._again is not None:
            self._again()

    def _state(self, state: State) -> None:
        self._info = msgspec.structs.replace(self._info, state=state)

    def _keep(self, state: Literal["succeeded", "failed", "stopped"]) -> None:
        """Write the end down; answers, and what would be queued again, belong to the caller."""
        self._again = None
        self._flush(state, None if isinstance(self._result, Prediction) else encode_outcome(self._result, self._error))

    def _flush(self, state: State, outcome: bytes | None = None) -> None:
        """Write down what is new; a journal that cannot be written now costs its record a while, never the job."""
        fresh = self._log.events[self._written :]
        try:
            self._journal.append(self.id, fresh, state, outcome, self._owner)
        except StoreError:
            self._owed = (state, outcome)
        else:
            self._written += len(fresh)
            self._owed = None
        self.look()

    def catch_up(self) -> None:
        """Write down an end that could not be written when it came."""
        with self._changed:
            if self._owed is not None and self.done:
                self._flush(*self._owed)


class JournalJob(BaseJob[R]):
    """A job that another process runs, or ran, known through the journal alone.

    Parameters
    ----------
    info : JobInfo
    journal : Journal
    alive : callable
        Whether someone runs the job, or will.
    """

    def __init__(self, info: JobInfo, journal: Journal, alive: Callable[[], bool]) -> None:
        super().__init__(info)
        self._journal = journal
        self._alive = alive

    @property
    def info(self) -> JobInfo:
        """Id, title, model and present state; a job whose process is gone has failed."""
        alive = self._alive()  # first: a process that ends writes its last state before it is gone
        found = self._journal.find(self.id)
        info = self._info if found is None else found[0]
        return info if info.state in FINAL_STATES or alive else msgspec.structs.replace(info, state="failed")

    def events(self, after: int = 0, follow: bool = True) -> Iterator[Event]:
        """Replay what was written down, and, if ``follow``, those to come while its process lives."""
        if not follow:
            yield from self._journal.events(self.id, after)
            return
        if after and any(isinstance(event, Finished) for event in self._journal.events(self.id, after - 1)[:1]):
            return
        while True:
            alive = self._alive()
            fresh = self._journal.events(self.id, after)
            for event in fresh:
                yield event
                after = event.seq
                if isinstance(event, Finished):
                    return
            if not alive and not fresh:
                yield Finished(seq=after + 1, time=time.time(), state="failed", error=GONE)
                return
            time.sleep(POLL)

    def result(self, timeout: float | None = None) -> R:
        """Wait for the result; raises what the job raised."""
        self._wait(timeout, time.sleep)
        info = self.info
        outcome = self._journal.result(self.id)
        if outcome is None:
            raise MaasError(GONE if info.state == "failed" else "The job's answers went to its caller.")
        result: R = decode_outcome(verb_of_title(info.title), outcome)
        return result

    def stop(self) -> None:
        """Request a graceful stop from its process; a second call drops the current work."""
        if self.info.state not in FINAL_STATES:
            self._journal.stop(self.id)
            self._journal.resume(self.id)

    def pause(self) -> None:
        """Request from its process that it keeps its state and ends."""
        if self.info.state in FINAL_STATES or not self.info.title.startswith("train "):
            raise not_paused(self.info)
        self._journal.pause(self.id)

    def resume(self) -> None:
        """Have it resumed."""
        info = self.info
        if info.state in FINAL_STATES:
            raise not_paused(info)
        if info.state == "paused" and self._journal.request(self.id) is None:
            raise MaasError(f"The job {self.id} waits in another kernel.", "Resume it there.")
        self._journal.resume(self.id)
