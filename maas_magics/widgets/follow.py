"""Follows a job on threads of its own, paints a view, and waits for the end in the calling thread."""

from __future__ import annotations

import threading
import time
import warnings
from typing import Any, Protocol

from maas_magics.api.backend import Job
from maas_magics.api.events import Message
from maas_magics.widgets.history import History
from maas_magics.widgets.wish import is_wish

SAME_PRESS = 3.0
"""Seconds in which an interrupt after a click on Stop is the view's own second try, not a second wish."""

STALE = 2.0
"""Seconds after which a change too small for a repaint is painted all the same."""


class View(Protocol):
    """A place where a history is shown."""

    @property
    def interval(self) -> float:
        """Least seconds between two paints."""

    def open(self, follower: Follower) -> None:
        """Appear; called in the thread that requested the view, before anything else."""

    def paint(self, history: History, *, stopping: bool) -> None:
        """Show a job that runs; called on the view's own thread, as everything below."""

    def close(self, history: History) -> None:
        """Leave behind what stays of a job that is over."""


class Follower:
    """Reads a job's events and paints a view, each on a daemon thread.

    Training never waits for the view: the events pile up in the job's log, and one paint shows
    all that came since the paint before.

    Parameters
    ----------
    job : Job
    view : View
    """

    def __init__(self, job: Job[Any], view: View) -> None:
        self.history = History(job.info.title)
        self.lock = threading.RLock()
        self._job = job
        self._view = view
        self._changed = threading.Event()
        self._urgent = threading.Event()
        self._closed = threading.Event()
        self._pausing: bool | None = None
        self._stop_at: float | None = None
        self._stop_wanted = False
        self._over = False
        self._lost: Exception | None = None
        self._broken: Exception | None = None
        self._reader = threading.Thread(target=self._read, name="maas-events", daemon=True)
        # Some front ends take what is painted from threads of their own kind alone.
        thread: type[threading.Thread] = getattr(view, "thread", threading.Thread)
        self._painter = thread(target=self._run, name="maas-view", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._reader.start()
        self._painter.start()

    def request_stop(self) -> None:
        """Request a graceful stop without waiting for anything; safe in any thread, and only once."""
        if self._stop_at is None:
            self._stop_at, self._stop_wanted = time.monotonic(), True
            self._wake()

    def request_pause(self, pause: bool) -> None:
        """Request a pause, or that the job resumes, without waiting for anything; safe in any thread."""
        self._pausing = pause
        self._wake()

    def wait(self) -> None:
        """Wait until the job is over and its last state is shown, or until it is paused; the view then lives on.

        An interrupt stops the job gracefully and the wait continues; a second one stops it hard. Neither applies to the
        one that comes before the end of the kernel, which a job elsewhere outlives.

        Raises
        ------
        KeyboardInterrupt
            After an interrupt: once the end is shown, or at once after the second, or when the kernel ends.
        Exception
            Whatever reading the events raised.
        """
        interrupt: KeyboardInterrupt | None = None
        # Not Thread.join: before Python 3.13 an interrupt there takes a thread that runs for one that is over.
        while not self._closed.is_set() and self.history.state != "paused":
            try:
                self._closed.wait(0.1)
            except KeyboardInterrupt as error:
                clicked = self._stop_at if interrupt is None else None
                if clicked is not None and time.monotonic() - clicked < SAME_PRESS:
                    continue
                self._stop_at, self._stop_wanted = time.monotonic(), False
                self._wake()
                if interrupt is None and not is_wish(self._job):
                    raise
                self._stop()
                if interrupt:
                    raise
                interrupt = error
        if self._broken:
            warnings.warn(f"the live view failed ({self._broken!r}); the job did not", RuntimeWarning, stacklevel=3)
        if interrupt:
            raise interrupt
        if self._lost:
            raise self._lost

    def _wake(self) -> None:
        self._urgent.set()
        self._changed.set()

    def _read(self) -> None:
        try:
            for event in self._job.events(after=0):
                with self.lock:
                    self.history.add(event)
                self._changed.set()
        except Exception as error:
            # The events may come over a wire: the view shows the error, and `wait` raises it.
            self._lost = error
            with self.lock:
                self.history.add(Message(text=f"the job's events could not be followed: {error}", level="warning"))
        finally:
            self._over = True
            self._wake()

    def _run(self) -> None:
        try:
            self._paint_until_over()
            with self.lock:
                self._view.close(self.history)
        except Exception as error:
            # A view must never take a training down with it: `wait` warns about this.
            self._broken = error
            self._reader.join()
        finally:
            self._closed.set()

    def _paint_until_over(self) -> None:
        painted, shown, changed = 0.0, (-1, -1, False), False
        while not self._over:
            self._changed.wait(STALE)
            changed = changed or self._changed.is_set()
            self._changed.clear()
            if self._stop_wanted:
                self._stop()
            if self._pausing is not None:
                self._pause(self._pausing)
            with self.lock:
                history = self.history
                # An eightieth of the whole is what the eye can see move, and bounds the messages of a long job.
                now = (history.revision, round(80 * (history.fraction or 0.0)), self._stop_at is not None)
                due = now != shown or not history.total or time.monotonic() - painted > STALE
                if changed and due and not self._over:
                    self._view.paint(history, stopping=self._stop_at is not None)
                    painted, shown, changed = time.monotonic(), now, False
            self._urgent.wait(self._view.interval)
            self._urgent.clear()

    def _pause(self, pause: bool) -> None:
        self._pausing = None
        try:
            if pause:
                self._job.pause()
            else:
                self._job.resume()
        except Exception as error:
            with self.lock:
                word = "paused" if pause else "resumed"
                self.history.add(Message(text=f"the job could not be {word}: {error}", level="warning"))

    def _stop(self) -> None:
        self._stop_wanted = False
        try:
            self._job.stop()
        except Exception as error:
            # The place that runs the job may be out of reach; the job continues, and so does its view.
            with self.lock:
                self.history.add(Message(text=f"the job could not be stopped: {error}", level="warning"))
