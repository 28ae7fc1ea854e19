"""A job with callbacks: the one place where they are called, on every backend."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from maas_magics.api.backend import Job, JobInfo
from maas_magics.api.callbacks import Callback
from maas_magics.api.errors import OptionError
from maas_magics.api.events import Event, Finished, Message, decode, encode
from maas_magics.api.requests import Request, TrainRequest
from maas_magics.job import BaseJob, EventLog

R = TypeVar("R")

Listen = Callable[[Request[Any], Job[Any]], Job[Any]]
"""From a request and its job to the job with callbacks."""


def heard(callbacks: Sequence[Callback], track: Sequence[str] = ()) -> Listen:
    """Function that connects callbacks, and a new run of each tracker, to a job that was just submitted.

    Parameters
    ----------
    callbacks : sequence of Callback
        Functions of one event; see `Callback`.
    track : sequence of str
        ``NAME`` or ``NAME=PLACE``.

    Raises
    ------
    OptionError
        If one of them cannot be called, or is not a tracker.
    MissingDependency
        If a tracker's package is not installed.
    """
    for callback in callbacks:
        if not callable(callback):
            raise OptionError(
                f"A callback is of type {type(callback).__name__}; a function of one event was expected.",
                "def callback(event): …",
            )
    if not callbacks and not track:
        return lambda request, job: job
    from maas_magics.trackers import asked, make_trackers
    from maas_magics.trackers.run import Run

    trackers = make_trackers(track)

    def listen(request: Request[Any], job: Job[Any]) -> Job[Any]:
        model = str(getattr(request, "name", job.info.model))
        params = asked(request) if isinstance(request, TrainRequest) else {}
        run = Run(model, f"{model}-{job.info.id}", params)
        return HeardJob(job, [*callbacks, *(start(run) for start in trackers)])

    return listen


class HeardJob(BaseJob[R]):
    """A job whose events go to callbacks first, and then to its readers.

    Each callback gets a copy of its own, so that nothing it does to an event reaches anyone else.
    A slow callback holds up the view of the job and its result, never the job.

    Parameters
    ----------
    job : Job
        The job, on any backend.
    callbacks : sequence of Callback
        Called with each event, in order.
    """

    def __init__(self, job: Job[R], callbacks: Sequence[Callback]) -> None:
        super().__init__(job.info)
        self._job = job
        self.outlives = getattr(job, "outlives", False)
        self._callbacks = list(callbacks)
        self._log = EventLog()
        self._over = threading.Event()
        self._asked = False
        threading.Thread(target=self._listen, name=f"maas-callbacks-{self.id}", daemon=True).start()

    @property
    def info(self) -> JobInfo:
        """Id, title, model and present state."""
        return self._job.info

    def events(self, after: int = 0, follow: bool = True) -> Iterator[Event]:
        """Events that the callbacks have received, with messages about failed callbacks among them.

        Parameters
        ----------
        after : int
            Sequence number of the last event that is known; 0 for all events.
        follow : bool
            Whether to wait for events to come.
        """
        return self._log.read(after, follow)

    def result(self, timeout: float | None = None) -> R:
        """Wait for the result, and until the callbacks have received the end; raises what the job raised.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for the callbacks, and as many for the job; no limit when None.
        """
        if not self._over.wait(timeout):
            raise self._late(timeout)
        return self._job.result(timeout)

    def stop(self) -> None:
        """Stop gracefully, keeping the best checkpoint; a second call drops the current work."""
        self._asked = True
        self._job.stop()

    def pause(self) -> None:
        """Keep the state of a training on disk, and let others run."""
        self._job.pause()

    def resume(self) -> None:
        """Continue where `pause` left off."""
        self._job.resume()

    def _listen(self) -> None:
        lost: Exception | None = None
        try:
            for event in self._job.events():
                self._notify(event)
        except Exception as error:  # the events may come over a wire; readers get the error
            lost = error
        finally:
            self._over.set()
            self._log.close(lost)

    def _notify(self, event: Event) -> None:
        stop = False
        for callback in tuple(self._callbacks):
            try:
                wish: object = callback(decode(encode(event)))
            except BaseException as error:  # whatever it is, it must cost the run nothing
                self._callbacks.remove(callback)
                name = getattr(callback, "__name__", type(callback).__name__)
                self._warn(f"the callback {name} failed and was dropped: {type(error).__name__}: {error}")
            else:
                stop = stop or wish == "stop"
        if stop and not self._asked and not isinstance(event, Finished):
            try:
                self.stop()
            except Exception as error:
                self._warn(f"a callback requested a stop, and the job could not be stopped: {error}")
        self._log.add(event)

    def _warn(self, text: str) -> None:
        self._log.add(Message(time=time.time(), text=text, level="warning"))
