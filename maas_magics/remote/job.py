"""A job that a service runs, and one that asks it for many rows."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

import httpx2
import msgspec

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import MaasError, ServiceError, Stopped
from maas_magics.api.events import FINAL_STATES, Event, Finished, Progress, decode_json
from maas_magics.api.wire import decode_outcome, request_kind
from maas_magics.remote.client import PATIENCE, Client

R = TypeVar("R")

WAIT = 20.0
"""Seconds that the service holds a question for a result open."""


class RemoteJob(Generic[R]):
    """A job of a service.

    Parameters
    ----------
    info : JobInfo
    client : Client
    """

    def __init__(self, info: JobInfo, client: Client) -> None:
        self._info = info
        self._client = client

    @property
    def id(self) -> str:
        """The job's id."""
        return self._info.id

    @property
    def info(self) -> JobInfo:
        """Id, title, model and present state."""
        if self._info.state not in FINAL_STATES:
            answer = self._client.request("GET", f"/v1/jobs/{self.id}")
            self._info = msgspec.json.decode(answer.content, type=JobInfo)
        return self._info

    def events(self, after: int = 0, follow: bool = True) -> Iterator[Event]:
        """Replay every event with ``seq > after``, and follow the rest; a broken connection is taken up again."""
        path = f"/v1/jobs/{self.id}/events"
        until = time.monotonic() + PATIENCE
        pause = 0.1
        while True:
            try:
                with self._client.stream(
                    path,
                    {"accept": "text/event-stream", "last-event-id": str(after)},
                    {} if follow else {"follow": "false"},
                ) as answer:
                    for told in httpx2.EventSource(answer):
                        if not told.data:
                            continue
                        event = decode_json(told.data)
                        yield event
                        after = event.seq
                        until, pause = time.monotonic() + PATIENCE, 0.1
                        if isinstance(event, Finished):
                            return
                if not follow:
                    return
            except (httpx2.TransportError, httpx2.StreamError) as error:
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
            answer = self._client.request("GET", f"/v1/jobs/{self.id}/result", params={"wait": f"{left:.3f}"})
            if answer.status_code == 200:
                result: R = decode_outcome(request_kind(self._info.title), answer.content)
                return result
            if limit is not None and time.monotonic() >= limit:
                raise TimeoutError(f"The job {self.id} is {self.info.state} after {timeout:g} s.")

    def stop(self) -> None:
        """Stop gracefully, keeping the best checkpoint; a second call drops the work in hand."""
        self._client.request("POST", f"/v1/jobs/{self.id}/stop", repeat=False)

    def pause(self) -> None:
        """Keep the state of a training on disk, and let others run."""
        self._client.request("POST", f"/v1/jobs/{self.id}/pause")

    def resume(self) -> None:
        """Go on where `pause` left off."""
        self._client.request("POST", f"/v1/jobs/{self.id}/resume")

    def __await__(self) -> Generator[Any, None, R]:
        return asyncio.to_thread(self.result).__await__()

    def __repr__(self) -> str:
        return f"<Job {self._info.id} · {self._info.title} · {self._info.state}>"


class AskingJob(Generic[R]):
    """Many rows asked in a thread of this process, so that progress can be shown.

    Parameters
    ----------
    info : JobInfo
    work : callable
        Gets a function to tell rows done and rows in all; that function raises when the job was stopped.
    """

    def __init__(self, info: JobInfo, work: Callable[[Callable[[int, int], None]], R]) -> None:
        self._info = info
        self._work = work
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._result: R | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name=f"maas-magics-{info.id}", daemon=True).start()

    @property
    def info(self) -> JobInfo:
        """Id, title, model and present state."""
        return self._info

    def events(self, after: int = 0, follow: bool = True) -> Iterator[Event]:
        """Replay every event with ``seq > after``, and follow the rest until ``Finished`` unless told not to."""
        while True:
            with self._changed:
                while follow and len(self._events) <= after:
                    self._changed.wait(1.0)
                fresh = self._events[after:]
            yield from fresh
            after += len(fresh)
            if not follow or isinstance(fresh[-1], Finished):
                return

    def result(self, timeout: float | None = None) -> R:
        """Wait for the result; raises what the job raised."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._info.state in FINAL_STATES, timeout):
                raise TimeoutError(f"The job {self._info.id} is {self._info.state} after {timeout:g} s.")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def stop(self) -> None:
        """Drop the work in hand."""
        self._stopped = True

    def pause(self) -> None:
        """Nothing is kept half-way."""
        raise MaasError(f"The job {self._info.id} ({self._info.title}) cannot be paused; trainings can.")

    resume = pause

    def __await__(self) -> Generator[Any, None, R]:
        return asyncio.to_thread(self.result).__await__()

    def _tell(self, done: int, total: int) -> None:
        if self._stopped:
            raise Stopped("The job was stopped; nothing was kept.")
        self._emit(Progress(done=done, total=total))

    def _emit(self, event: Event) -> None:
        with self._changed:
            self._events.append(msgspec.structs.replace(event, seq=len(self._events) + 1, time=time.time()))
            self._changed.notify_all()

    def _run(self) -> None:
        state: Any = "succeeded"
        try:
            self._result = self._work(self._tell)
        except BaseException as error:
            self._error = error
            state = "stopped" if isinstance(error, Stopped) else "failed"
        text = (
            str(self._error)
            if isinstance(self._error, MaasError)
            else None
            if self._error is None
            else repr(self._error)
        )
        with self._changed:
            self._info = msgspec.structs.replace(self._info, state=state)
            self._emit(Finished(state=state, error=text))
