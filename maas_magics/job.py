"""What jobs of every backend have in common: a log that is followed, and an end that is waited for."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from typing import Any, Generic, Literal, TypeVar

import msgspec

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import JobNotFound, MaasError, Stopped, did_you_mean
from maas_magics.api.events import FINAL_STATES, Event, Finished
from maas_magics.api.wire import decode_error, encode_error

R = TypeVar("R")

PACKAGE = __name__.partition(".")[0]

GOING = ("queued", "running")

LEAST = 4
"""Characters of an id that name a job."""

NAP = 0.2
"""Seconds of one wait; an interrupt is noticed between two."""


class EventLog:
    """Events of one job, for any number of followers at once.

    Parameters
    ----------
    events : sequence of Event
        Events from before.

    Attributes
    ----------
    events : list of Event
    changed : Condition
        Notified with every event; held while the log, and what depends on it, change.
    """

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self.events: list[Event] = list(events)
        self.changed = threading.Condition()
        self._closed = False
        self._lost: Exception | None = None

    def add(self, event: Event) -> None:
        """Number an event, log it, and wake its readers.

        Parameters
        ----------
        event : Event
            Its ``seq`` is set here, counted from 1.
        """
        with self.changed:
            self.events.append(msgspec.structs.replace(event, seq=len(self.events) + 1))
            self.changed.notify_all()

    def close(self, lost: Exception | None = None) -> None:
        """End the log without a `Finished` event; readers raise ``lost`` where it is given.

        Parameters
        ----------
        lost : Exception, optional
            Why no more events come.
        """
        with self.changed:
            self._closed, self._lost = True, lost
            self.changed.notify_all()

    @property
    def _over(self) -> bool:
        """Whether no more events will come."""
        return self._closed or bool(self.events and isinstance(self.events[-1], Finished))

    def read(self, after: int = 0, follow: bool = True) -> Iterator[Event]:
        """Replay every event with ``seq > after``, and, if ``follow``, yield the rest until ``Finished``.

        Parameters
        ----------
        after : int
            Sequence number of the last event that is known; 0 for all events.
        follow : bool
            Whether to wait for events to come.
        """
        while True:
            with self.changed:
                while follow and len(self.events) <= after and not self._over:
                    self.changed.wait(1.0)
                fresh = self.events[after:]
            yield from fresh
            after += len(fresh)
            if not follow or (fresh and isinstance(fresh[-1], Finished)):
                return
            if not fresh:
                if self._lost is not None:
                    raise self._lost
                return


class BaseJob(Generic[R]):
    """What follows from a job's info and its result.

    Parameters
    ----------
    info : JobInfo
        As it is known now.
    """

    outlives = True
    """Whether it continues when the process that requested it ends."""

    def __init__(self, info: JobInfo) -> None:
        self._info = info

    @property
    def id(self) -> str:
        """The job's id."""
        return self._info.id

    @property
    def info(self) -> JobInfo:
        """Id, title, model and present state."""
        return self._info

    def result(self, timeout: float | None = None) -> R:
        """Wait for the result; raises what the job raised.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait; no limit when None.
        """
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, R]:
        return asyncio.to_thread(self.result).__await__()

    def __repr__(self) -> str:
        return job_text(self.info)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Text that stays in a notebook. It must stay true later, because the job changes and the text does not."""
        info = self.info
        clock = time.strftime("%H:%M:%S", time.localtime(info.created if info.state in GOING else time.time()))
        word = (
            f"since {clock}" if info.state in GOING else f"paused at {clock}" if info.state == "paused" else info.state
        )
        printer.text(f"<Job {info.id} · {info.title} · {word}>")

    def _wait(self, timeout: float | None, nap: Callable[[float], object]) -> None:
        """Wait for the end; ``nap`` waits for so many seconds, or until something changes."""
        limit = None if timeout is None else time.monotonic() + timeout
        while self.info.state not in FINAL_STATES:
            left = NAP if limit is None else min(NAP, limit - time.monotonic())
            if left <= 0:
                raise self._late(timeout)
            nap(left)

    def _late(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"The job {self.id} is {self.info.state} after {timeout:g} s.")


class LoggedJob(BaseJob[R]):
    """A job that this process runs.

    Parameters
    ----------
    info : JobInfo
        The job as it is listed.
    events : sequence of Event
        Events that an earlier process logged.
    """

    outlives = False

    def __init__(self, info: JobInfo, events: Sequence[Event] = ()) -> None:
        super().__init__(info)
        self._log = EventLog(events)
        self._changed = self._log.changed
        self._result: R | None = None
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._info.state in FINAL_STATES

    def events(self, after: int = 0, follow: bool = True) -> Iterator[Event]:
        """Replay every event with ``seq > after``, and, if ``follow``, yield the rest until ``Finished``.

        Parameters
        ----------
        after : int
            Sequence number of the last event that is known; 0 for all events.
        follow : bool
            Whether to wait for events to come.
        """
        return self._log.read(after, follow)

    def result(self, timeout: float | None = None) -> R:
        """Wait for the result; raises what the job raised.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait; no limit when None.
        """
        with self._changed:
            self._wait(timeout, self._changed.wait)
        if self._error is not None:
            # Code that gets an error adds frames to it, and what they hold: the job keeps another one for the next.
            error, self._error = self._error, _twin(self._error)
            raise error
        assert self._result is not None
        return self._result

    # --- the running side ---

    def emit(self, event: Event) -> None:
        """Date an event, number it, log it, and wake its readers.

        Parameters
        ----------
        event : Event
            Its time and ``seq`` are set here.
        """
        self._add(event)

    def carry_out(self, work: Callable[[], R]) -> None:
        """Run to the end in this thread; never raises.

        Parameters
        ----------
        work : callable
            Returns the result; what it raises becomes the error of the job.
        """
        try:
            self._result = work()
        except BaseException as error:
            self.fail(error)
        else:
            self._end("stopped" if getattr(self._result, "stopped", False) else "succeeded")

    def fail(self, error: BaseException) -> None:
        """End with an error, which `result` raises.

        Parameters
        ----------
        error : BaseException
            `Stopped` ends the job as stopped, any other as failed.
        """
        self._error = _trimmed(error)
        self._end("stopped" if isinstance(error, Stopped) else "failed")

    def _add(self, event: Event) -> None:
        with self._changed:
            self._log.add(msgspec.structs.replace(event, time=time.time()))

    def _end(self, state: Literal["succeeded", "failed", "stopped"]) -> None:
        text = None if self._error is None else str(self._error) or type(self._error).__name__
        with self._changed:
            best, seconds = (getattr(self._result, name, 0) for name in ("best_epoch", "seconds"))
            self._add(Finished(state=state, error=text, best_epoch=best, seconds=seconds if best else 0.0))
            self._keep(state)
            self._info = msgspec.structs.replace(self._info, state=state)
            self._changed.notify_all()

    def _keep(self, state: Literal["succeeded", "failed", "stopped"]) -> None:
        """What is written down before the end is reported."""


def _trimmed(error: BaseException) -> BaseException:
    """An error without our own frames before the first one of someone else's: they hold the data of the job."""
    found = error.__traceback__
    while found is not None and found.tb_frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        found = found.tb_next
    if found is not None or isinstance(error, MaasError):
        error = error.with_traceback(found)
    traceback.clear_frames(error.__traceback__)
    return error


def _twin(error: BaseException) -> BaseException:
    """The same error without a traceback; its words where it cannot be copied."""
    with suppress(Exception):  # whatever the making of an error of someone else's raises
        twin = copy.copy(error)
        if type(twin) is type(error) and twin is not error:
            return twin.with_traceback(None)
    return decode_error(encode_error(error), type(error).__name__)


def job_text(info: JobInfo, moment: str = "") -> str:
    """One line: id, title and state, and of when that is if it is not now.

    Parameters
    ----------
    info : JobInfo
        The job.
    moment : str
        Time at which the state was read, as it is shown; empty for now.
    """
    return f"<Job {info.id} · {info.title} · {info.state}{moment}>"


def named(id: str, word: str) -> bool:
    """Whether a word is an id, or ``LEAST`` of its first characters or more: one letter is a slip, and names no job.

    Parameters
    ----------
    id : str
        Id of a job.
    word : str
        What the user typed.
    """
    return id.startswith(word) and len(word) >= LEAST


def whole_id(id: str, known: Sequence[str]) -> str:
    """The one id that ``id`` names.

    Parameters
    ----------
    id : str
        An id, or its first four characters or more.
    known : sequence of str
        Ids of all jobs.

    Raises
    ------
    JobNotFound
        If there is none, or there are several.
    """
    found = [key for key in known if named(key, id)]
    if len(found) != 1:
        why = f"Several jobs begin with {id!r}." if found else f"There is no job {id!r}."
        raise JobNotFound(why, did_you_mean(id, found or known) or "%maas jobs lists them.")
    return found[0]


def not_paused(info: JobInfo) -> MaasError:
    """Error of a job that cannot be paused or resumed.

    Parameters
    ----------
    info : JobInfo
        The job.
    """
    if not info.title.startswith("train "):
        return MaasError(f"The job {info.id} ({info.title}) cannot be paused; trainings can.")
    return MaasError(f"The job {info.id} has ended: {info.state}.", f"%train {info.model} --resume resumes from it.")
