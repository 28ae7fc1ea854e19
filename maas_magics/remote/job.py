"""A job that a service runs, and one that has it predict many rows."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx2
import msgspec

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import MaasError, ServiceError, Stopped
from maas_magics.api.events import FINAL_STATES, Event, Finished, Progress, decode_json
from maas_magics.api.wire import decode_outcome, verb_of_title
from maas_magics.job import BaseJob, LoggedJob, job_text, not_paused
from maas_magics.remote.client import PATIENCE, Client

R = TypeVar("R")

WAIT = 20.0
"""Seconds that the service holds a question for a result open."""


class RemoteJob(BaseJob[R]):
    """A job of a service.

    Parameters
    ----------
    info : JobInfo
    client : Client
    """

    def __init__(self, info: JobInfo, client: Client) -> None:
        super().__init__(info)
        self._client = client

    @property
    def info(self) -> JobInfo:
        """Id, title, model and present state."""
        return self._look()

    def _look(self, patience: float = PATIENCE) -> JobInfo:
        if self._info.state not in FINAL_STATES:
            answer = self._client.request("GET", f"/maas/v1/jobs/{self.id}", patience=patience)
            self._info = msgspec.json.decode(answer.content, type=JobInfo)
        return self._info

    def events(self, after: int = 0, follow: bool = True) -> Iterator[Event]:
        """Replay every event with ``seq > after``, and follow the rest; a broken connection is opened again."""
        path = f"/maas/v1/jobs/{self.id}/events"
        until, pause = math.inf, 0.1
        while True:
            before, opened = after, math.inf
            try:
                with self._client.stream(
                    path,
                    {"accept": "text/event-stream", "last-event-id": str(after)},
                    {} if follow else {"follow": "false"},
                ) as answer:
                    opened = time.monotonic()
                    for told in httpx2.EventSource(answer):
                        if not told.data:
                            continue
                        event = decode_json(told.data)
                        yield event
                        after = event.seq
                        until, pause = math.inf, 0.1
                        if isinstance(event, Finished):
                            return
                if not follow or (after == before and self.info.state in FINAL_STATES):
                    return
            except (httpx2.TransportError, httpx2.StreamError) as error:
                now = time.monotonic()
                if now - opened > PATIENCE:  # it was there all the time, and sent nothing
                    until, pause = math.inf, 0.1
                until = min(until, now + PATIENCE)
                if time.monotonic() + pause > until:
                    raise ServiceError(
                        f"{self._client.url} does not answer ({type(error).__name__}).",
                        f"The job may still run: %maas attach {self.id}",
                    ) from None
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def result(self, timeout: float | None = None) -> R:
        """Wait for the result; raises what the job raised."""
        limit = None if timeout is None else time.monotonic() + timeout
        while True:
            left = WAIT if limit is None else min(WAIT, max(0.0, limit - time.monotonic()))
            answer = self._client.request("GET", f"/maas/v1/jobs/{self.id}/result", params={"wait": f"{left:.3f}"})
            if answer.status_code == 200:
                result: R = decode_outcome(verb_of_title(self._info.title), answer.content)
                return result
            if limit is not None and time.monotonic() >= limit:
                raise self._late(timeout)

    def stop(self) -> None:
        """Stop gracefully, keeping the best checkpoint; a second call drops the current work."""
        self._client.request("POST", f"/maas/v1/jobs/{self.id}/stop", repeat=False)

    def pause(self) -> None:
        """Keep the state of a training on disk, and let others run."""
        self._client.request("POST", f"/maas/v1/jobs/{self.id}/pause")

    def resume(self) -> None:
        """Continue where `pause` left off."""
        self._client.request("POST", f"/maas/v1/jobs/{self.id}/resume")

    def __repr__(self) -> str:
        try:
            return job_text(self._look(patience=0.0))
        except MaasError:
            return job_text(self._info, ", when last seen")

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        text = repr(self)
        if "when last" in text:
            printer.text(text)
        else:
            super()._repr_pretty_(printer, cycle)


class AskingJob(LoggedJob[R]):
    """Many rows predicted in a thread of this process, so that progress can be shown.

    Parameters
    ----------
    info : JobInfo
    work : callable
        Gets a function that reports rows done and rows in all; that function raises when the job was stopped.
    """

    def __init__(self, info: JobInfo, work: Callable[[Callable[[int, int], None]], R]) -> None:
        super().__init__(info)
        self._stopped = False
        threading.Thread(
            target=self.carry_out, args=(lambda: work(self._notify),), name=f"maas-magics-{info.id}", daemon=True
        ).start()

    def stop(self) -> None:
        """Drop the current work."""
        self._stopped = True

    def pause(self) -> None:
        """Nothing is kept half-way."""
        raise not_paused(self._info)

    resume = pause

    def _notify(self, done: int, total: int) -> None:
        if self._stopped:
            raise Stopped("The job was stopped; nothing was kept.")
        self.emit(Progress(done=done, total=total))
