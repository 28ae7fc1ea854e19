"""Jobs over HTTP: submit, list, follow, stop, fetch the result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from maas_magics.api.backend import Backend, Job
from maas_magics.api.errors import OptionError
from maas_magics.api.events import FINAL_STATES, Event, Finished, encode_json
from maas_magics.api.wire import decode_request, encode_outcome

LONGEST = 30.0
"""Seconds that a question for a result is held open at most."""

ALIVE = 10.0
"""Seconds without an event after which a comment keeps the connection open."""

JSON = "application/json"


def job_routes(backend: Backend) -> list[Route]:
    """Routes of the jobs of a backend."""

    async def submit(request: Request) -> Response:
        asked = decode_request(await request.body())
        key = request.headers.get("idempotency-key", "")[:200]
        job = await asyncio.to_thread(backend.submit, asked, key)
        return Response(msgspec.json.encode(job.info), 201, media_type=JSON)

    async def jobs(request: Request) -> Response:
        return Response(msgspec.json.encode(await asyncio.to_thread(backend.jobs)), media_type=JSON)

    async def job(request: Request) -> Response:
        info = await asyncio.to_thread(lambda: backend.job(request.path_params["id"]).info)
        return Response(msgspec.json.encode(info), media_type=JSON)

    async def events(request: Request) -> Response:
        found = await asyncio.to_thread(backend.job, request.path_params["id"])
        last = request.headers.get("last-event-id", "") or request.query_params.get("after", "0")
        if not last.isdecimal() or len(last) > 15:
            raise OptionError(f"{last[:40]!r} is no number of an event.", "Last-Event-ID: 12")
        follow = request.query_params.get("follow", "true") != "false"
        return StreamingResponse(
            _lines(found, int(last), follow), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    def told(act: Callable[[Job[Any]], None]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            found = await asyncio.to_thread(backend.job, request.path_params["id"])
            await asyncio.to_thread(act, found)
            return Response(msgspec.json.encode(found.info), 202, media_type=JSON)

        return answer

    async def result(request: Request) -> Response:
        found = await asyncio.to_thread(backend.job, request.path_params["id"])
        try:
            wait = min(max(float(request.query_params.get("wait", "0")), 0.0), LONGEST)
            steps = int(wait / 0.1)
        except ValueError:
            raise OptionError("wait is a number of seconds.", "?wait=10") from None
        for left in range(steps, -1, -1):
            if found.info.state in FINAL_STATES:
                break
            if not left:
                return Response(msgspec.json.encode(found.info), 202, media_type=JSON)
            await asyncio.sleep(0.1)
        return Response(await asyncio.to_thread(_outcome, found), media_type="application/msgpack")

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


def _outcome(job: Job[Any]) -> bytes:
    try:
        return encode_outcome(job.result(), None)
    except Exception as error:
        return encode_outcome(None, error)


async def _lines(job: Job[Any], after: int, follow: bool) -> AsyncIterator[bytes]:
    """Events as server-sent ones; a thread reads them, and a comment now and then shows that the line is open."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[Event | None] = asyncio.Queue(1000)
    left = threading.Event()

    def read() -> None:
        told: Iterator[Event] = job.events(after, follow)
        try:
            for event in told:
                if left.is_set():
                    return
                asyncio.run_coroutine_threadsafe(waiting.put(event), loop).result()
        except Exception:  # the loop is closed, or the journal cannot be read: the client comes again
            pass
        finally:
            if not left.is_set() and not loop.is_closed():
                asyncio.run_coroutine_threadsafe(waiting.put(None), loop)

    threading.Thread(target=read, name="maas-magics-events", daemon=True).start()
    try:
        while True:
            try:
                event = await asyncio.wait_for(waiting.get(), ALIVE)
            except TimeoutError:
                yield b":\n\n"
                continue
            if event is None:
                return
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, type(event).__name__.encode(), encode_json(event))
            if isinstance(event, Finished):
                return
    finally:
        left.set()
        while not waiting.empty():
            waiting.get_nowait()
