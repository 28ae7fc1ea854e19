"""Jobs over HTTP: submit, list, follow, stop, fetch the result."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from maas_magics.api.backend import Job, JobInfo, Jobs
from maas_magics.api.errors import OptionError
from maas_magics.api.events import FINAL_STATES, Event, Finished, encode_json
from maas_magics.api.wire import decode_request, encode_outcome
from maas_magics.service.budget import Overloaded

LONGEST = 30.0
"""Seconds that a question for a result is held open at most."""

ALIVE = 10.0
"""Seconds without an event after which a comment keeps the connection open."""

JSON = "application/json"


NAPS = 0.02, 0.25
"""Seconds between two looks at a job, at first and at most."""

THREADS = 4
"""Threads of a desk."""

WAITING = 500
"""Questions that may wait for them."""

T = TypeVar("T")


class Desk:
    """Threads of their own for what may wait for the journal, so that nothing else waits behind it.

    Parameters
    ----------
    name : str
    """

    def __init__(self, name: str) -> None:
        self._threads = ThreadPoolExecutor(THREADS, f"maas-magics-{name}")
        self._asked = 0

    async def ask(self, act: Callable[..., T], *given: Any) -> T:
        """What ``act(*given)`` answers.

        Raises
        ------
        Overloaded
            If too many wait already.
        """
        if self._asked >= WAITING:
            raise Overloaded("The service has too much to do.", "Try again in a second.")
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: act(*given))
        finally:
            self._asked -= 1


def job_routes(backend: Jobs) -> list[Route]:
    """Routes of the jobs of a backend."""
    reads, writes = Desk("reads"), Desk("writes")

    async def submit(request: Request) -> Response:
        body = await request.body()
        key = request.headers.get("idempotency-key", "")[:200]
        info = await writes.ask(lambda: backend.submit(decode_request(body), key).info)
        return Response(msgspec.json.encode(info), 201, media_type=JSON)

    async def jobs(request: Request) -> Response:
        return Response(msgspec.json.encode(await reads.ask(backend.jobs)), media_type=JSON)

    async def job(request: Request) -> Response:
        info = await reads.ask(lambda: backend.job(request.path_params["id"]).info)
        return Response(msgspec.json.encode(info), media_type=JSON)

    async def events(request: Request) -> Response:
        found = await reads.ask(backend.job, request.path_params["id"])
        last = request.headers.get("last-event-id", "") or request.query_params.get("after", "0")
        if not last.isdecimal() or len(last) > 15:
            raise OptionError(f"{last[:40]!r} is not the number of an event.", "Last-Event-ID: 12")
        follow = request.query_params.get("follow", "true") != "false"
        return StreamingResponse(
            _lines(reads, found, int(last), follow),
            media_type="text/event-stream",
            headers={"cache-control": "no-store"},
        )

    def told(act: Callable[[Job[Any]], None]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            def done() -> JobInfo:
                found = backend.job(request.path_params["id"])
                act(found)
                return found.info

            return Response(msgspec.json.encode(await writes.ask(done)), 202, media_type=JSON)

        return answer

    async def result(request: Request) -> Response:
        found = await reads.ask(backend.job, request.path_params["id"])
        try:
            wait = float(request.query_params.get("wait", "0"))
        except ValueError:
            wait = math.nan
        if math.isnan(wait):
            raise OptionError("wait is a number of seconds.", "?wait=10")
        until = time.monotonic() + min(max(wait, 0.0), LONGEST)
        nap = NAPS[0]
        while (info := await reads.ask(_info, found)).state not in FINAL_STATES:
            left = until - time.monotonic()
            if left <= 0:
                return Response(msgspec.json.encode(info), 202, media_type=JSON)
            await asyncio.sleep(min(nap, left))
            nap = min(2 * nap, NAPS[1])
        return Response(await reads.ask(_outcome, found), media_type="application/msgpack")

    return [
        Route("/v1/jobs", submit, methods=["POST"]),
        Route("/v1/jobs", jobs, methods=["GET"]),
        Route("/v1/jobs/{id}", job, methods=["GET"]),
        Route("/v1/jobs/{id}/events", events, methods=["GET"]),
        Route("/v1/jobs/{id}/stop", told(lambda job: job.stop()), methods=["POST"]),
        Route("/v1/jobs/{id}/pause", told(lambda job: job.pause()), methods=["POST"]),
        Route("/v1/jobs/{id}/resume", told(lambda job: job.resume()), methods=["POST"]),
        Route("/v1/jobs/{id}/result", result, methods=["GET"]),
    ]


def _info(job: Job[Any]) -> JobInfo:
    return job.info


def _outcome(job: Job[Any]) -> bytes:
    try:
        return encode_outcome(job.result(), None)
    except Exception as error:
        return encode_outcome(None, error)


async def _lines(reads: Desk, job: Job[Any], after: int, follow: bool) -> AsyncIterator[bytes]:
    """Events as server-sent ones; a comment now and then shows that the line is open. No thread waits for the next."""
    nap, told = NAPS[0], time.monotonic()
    while True:
        fresh, over = await reads.ask(_look, job, after, follow)
        for event in fresh:
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, type(event).__name__.encode(), encode_json(event))
            after = event.seq
            if isinstance(event, Finished):
                return
        if over:
            return
        if fresh:
            nap, told = NAPS[0], time.monotonic()
        elif time.monotonic() - told > ALIVE:
            told = time.monotonic()
            yield b":\n\n"
        await asyncio.sleep(nap)
        nap = min(2 * nap, NAPS[1])


def _look(job: Job[Any], after: int, follow: bool) -> tuple[list[Event], bool]:
    """Events of a job since, and whether that was all; never waits for more."""
    ended = follow and job.info.state in FINAL_STATES  # first: an end is written together with its event
    fresh = list(job.events(after, False))
    if fresh or not ended:
        return fresh, not follow
    return list(job.events(after, True)), True  # where a process died in silence, this finds out
