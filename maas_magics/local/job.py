"""A job in a thread of this process, and the log of its events."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, Literal, TypeVar

import msgspec

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import MaasError, Stopped, StoreError
from maas_magics.api.events import FINAL_STATES, Event, Finished, State
from maas_magics.core.journal import Journal

R = TypeVar("R")

ENDED = {"succeeded": "ended", "failed": "failed", "stopped": "was stopped"}

FLUSH = 1.0
"""Seconds between two writes of events to the journal."""


class LocalJob(Generic[R]):
    """One submitted execution.

    Parameters
    ----------
    info : JobInfo
    journal : Journal
    owner : str
        This process, for other processes to tell whether it lives.
    """

    def __init__(self, info: JobInfo, journal: Journal, owner: str) -> None:
        self._info = info
        self._journal = journal
        self._events: list[Event] = []
        self._written = 0
        self._flushed = 0.0
        self._changed = threading.Condition()
        self._stops = 0
        self._result: R | None = None
        self._error: BaseException | None = None
        journal.open(info, owner)

    @property
    def id(self) -> str:
        """The job's id."""
        return self._info.id

    @property
    def info(self) -> JobInfo:
        """Id, title, model and present state."""
        return self._info

    def events(self, after: int = 0, follow: bool = True) -> Iterator[Event]:
        """Replay every event with ``seq > after``, and follow the rest until ``Finished`` unless told not to."""
        if not follow:
            yield from tuple(self._events[after:])
            return
        while True:
            with self._changed:
                while len(self._events) <= after:
                    self._changed.wait(1.0)
                fresh = self._events[after:]
            for event in fresh:
                yield event
                if isinstance(event, Finished):
                    return
            after = fresh[-1].seq

    def result(self, timeout: float | None = None) -> R:
        """Wait for the result; raises what the job raised."""
        limit = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self.done:
                left = 0.2 if limit is None else min(0.2, limit - time.monotonic())
                if left <= 0:
                    raise TimeoutError(f"The job {self.id} is {self._info.state} after {timeout:g} s.")
                self._changed.wait(left)
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def stop(self) -> None:
        """Stop gracefully, keeping the best checkpoint; a second call drops the work in hand."""
        self._stops += 1

    def __await__(self) -> Generator[Any, None, R]:
        return asyncio.to_thread(self.result).__await__()

    def __repr__(self) -> str:
        return f"<Job {self.id} · {self._info.title} · {self._info.state}>"

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._info.state in FINAL_STATES

    # --- the running side ---

    def stopping(self) -> Literal["", "soft", "hard"]:
        """What the task should do."""
        return "" if not self._stops else "soft" if self._stops == 1 else "hard"

    def emit(self, event: Event) -> None:
        """Number an event, log it, and wake whoever follows."""
        with self._changed:
            event = msgspec.structs.replace(event, seq=len(self._events) + 1, time=time.time())
            self._events.append(event)
            self._changed.notify_all()
        now = time.monotonic()
        if now - self._flushed >= FLUSH:
            self._flush("running")
            self._flushed = now

    def run(self, work: Callable[[], R]) -> None:
        """Run to the end in this thread; never raises."""
        if self._stops:
            self._end("stopped", Stopped("The job was stopped before it began."))
            return
        self._state("running")
        try:
            self._result = work()
        except MaasError as error:
            self._end("stopped" if isinstance(error, Stopped) else "failed", error)
        except BaseException as error:
            self._end("failed", error)
        else:
            self._end("stopped" if getattr(self._result, "stopped", False) else "succeeded", None)

    def _state(self, state: State) -> None:
        self._info = msgspec.structs.replace(self._info, state=state)

    def _end(self, state: Literal["succeeded", "failed", "stopped"], error: BaseException | None) -> None:
        self._error = error
        text = None if error is None else str(error) or type(error).__name__
        last = Finished(state=state, error=text, best_epoch=getattr(self._result, "best_epoch", 0))
        with self._changed:
            self._events.append(msgspec.structs.replace(last, seq=len(self._events) + 1, time=time.time()))
            self._flush(state)
            self._state(state)
            self._changed.notify_all()

    def _flush(self, state: State) -> None:
        """Write down what is new; a journal that cannot be written costs its record, never the job."""
        fresh = self._events[self._written :]
        with contextlib.suppress(StoreError):
            self._journal.append(self.id, fresh, state)
            self._written += len(fresh)


class PastJob:
    """A job of another process, or of an earlier one, read from the journal."""

    def __init__(self, info: JobInfo, journal: Journal, alive: Callable[[], bool]) -> None:
        self._first = info
        self._journal = journal
        self._alive = alive

    @property
    def info(self) -> JobInfo:
        """Id, title, model and present state; a job whose process is gone has failed."""
        found = next((info for info, _ in self._journal.jobs() if info.id == self._first.id), self._first)
        if found.state in FINAL_STATES or self._alive():
            return found
        return msgspec.structs.replace(found, state="failed")

    def events(self, after: int = 0, follow: bool = True) -> Iterator[Event]:
        """Replay what was written down, and follow while its process lives unless told not to."""
        if not follow:
            yield from self._journal.events(self._first.id, after)
            return
        while True:
            alive = self._alive()
            fresh = self._journal.events(self._first.id, after)
            for event in fresh:
                yield event
                after = event.seq
                if isinstance(event, Finished):
                    return
            if not alive and not fresh:
                yield Finished(
                    seq=after + 1, time=time.time(), state="failed", error="The process that ran it is gone."
                )
                return
            time.sleep(0.25)

    def result(self, timeout: float | None = None) -> Any:
        """What it made is in the store; a job that did not succeed raises."""
        info = self.info
        raise MaasError(
            f"The job {info.id} ({info.title}) {ENDED.get(info.state, 'runs')} elsewhere; its result is not here.",
            f"%maas models {info.model}" if info.state == "succeeded" else f"%maas logs {info.id}",
        )

    def stop(self) -> None:
        """Only its own process can stop it."""
        info = self.info
        if info.state not in FINAL_STATES:
            raise MaasError(f"The job {info.id} runs in another kernel.", "Press ■ in the notebook that runs it.")

    def __repr__(self) -> str:
        info = self.info
        return f"<Job {info.id} · {info.title} · {info.state}>"
