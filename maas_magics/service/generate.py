"""Answers in chunks over HTTP: begin one, take it up again, cancel it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from maas_magics.api.backend import Backend
from maas_magics.api.errors import DataError, OptionError, Refused
from maas_magics.api.requests import GenerateRequest, Priority
from maas_magics.api.stream import ChunkStream
from maas_magics.service.answers import Answers
from maas_magics.service.gate import Visit
from maas_magics.service.generation import LONGEST_KEEP, Generation
from maas_magics.service.generations import Generations
from maas_magics.service.messages import Message, Receive, Send, until_gone
from maas_magics.service.models import ARROW
from maas_magics.service.received import ReceivedRows
from maas_magics.service.settings import Settings
from maas_magics.service.threads import RowThreads
from maas_magics.service.widths import Widths


class GenerateBody(msgspec.Struct, frozen=True):
    """Body of a request for an answer in chunks.

    Attributes
    ----------
    inputs : Any
        By name, or one alone where there is one.
    parameters : dict of str to Any
    max_steps : int or None
    timeout : float or None
        Seconds.
    priority : {"interactive", "batch"}
    """

    inputs: Any
    parameters: dict[str, Any] = {}
    max_steps: int | None = None
    timeout: float | None = None
    priority: Priority = "interactive"


def generate_routes(
    backend: Backend, settings: Settings, generations: Generations, answers: Answers, widths: Widths, rows: RowThreads
) -> list[Route]:
    """Routes of answers in chunks; they are begun in ``rows``."""

    async def begin(request: Request) -> Response:
        visit: Visit = request.scope["visit"]
        keep = _seconds(request.query_params.get("keep", "0"))
        body = await request.body()
        table = _rows(request)
        most = None if table else _read(body).max_steps
        stream = await generations.taken(visit, len(body), most, lambda: rows.run(_begun, request, body), not table)
        visit.model = stream.model
        request.scope["hold"](len(body) - visit.held)  # what the body had become is gone, however long the answer takes
        told = generations.begin(visit.head.client, stream, keep, lambda error: answers.refusal(visit, error)[2])
        return _Told(told, -1)

    def _begun(request: Request, body: bytes) -> ChunkStream:
        ref = request.path_params["ref"]
        info = backend.models.get(ref)
        rows = _rows(request)
        if rows and info.iterative:
            raise OptionError(f"{ref} answers in several passes; JSON was expected.", '{"inputs": …}')
        if not rows and not info.iterative and not info.streams:
            raise OptionError(f"{ref} answers in one pass; rows as an Arrow stream were expected.", "Or use …/infer.")
        if rows:
            data = ReceivedRows(body, request.query_params.get("arrays") == "true", request.scope["hold"])
            data.origin = request.query_params.get("from", "table")
            data.hold_answer(widths.measure(ref), 0)
            return backend.generate(GenerateRequest(model=ref, data=data))
        asked = _bounded(ref, _read(body), settings)
        priority = generations.priority(request.scope["visit"], asked.priority)
        return backend.generate(msgspec.structs.replace(asked, priority=priority))

    async def again(request: Request) -> Response:
        found = generations.find(request.path_params["id"], request.scope["visit"].head.client)
        last = request.headers.get("last-event-id", "") or request.query_params.get("after", "")
        if last and (not last.isdecimal() or len(last) > 15):
            raise OptionError(f"{last[:40]!r} is not the number of a chunk.", "Last-Event-ID: 12")
        after = int(last) if last else -1
        found.check(after)
        return Response() if request.method == "HEAD" else _Told(found, after)

    async def cancel(request: Request) -> Response:
        generations.find(request.path_params["id"], request.scope["visit"].head.client).cancel()
        return Response(status_code=204)

    return [
        Route("/v1/models/{ref}/generate", begin, methods=["POST"]),
        Route("/v1/generations/{id}", again, methods=["GET"]),
        Route("/v1/generations/{id}", cancel, methods=["DELETE"]),
    ]


def _rows(request: Request) -> bool:
    """Whether a request holds rows of Arrow."""
    return request.headers.get("content-type", "").partition(";")[0].strip() == ARROW


def _read(body: bytes) -> GenerateBody:
    try:
        return msgspec.json.decode(body, type=GenerateBody)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"The body cannot be read: {error}", '{"inputs": {"ids": [[1, 2]]}, "max_steps": 20}') from None


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found <= LONGEST_KEEP:
        raise OptionError(f"keep is a number of seconds, {LONGEST_KEEP:g} at most.", "?keep=5")
    return found


def _bounded(ref: str, asked: GenerateBody, settings: Settings) -> GenerateRequest:
    """A request within the limits of the service, also where it leaves the choice to us.

    Raises
    ------
    Refused
        If it requests more.
    """
    for name, value, most in (
        ("max_steps", asked.max_steps, settings.max_steps),
        ("timeout", asked.timeout, settings.generation_seconds),
    ):
        if value is not None and most and value > most:
            raise Refused(f"{name} {value:,} is more than this service takes: {most:,}.", f"{name}: {most}")
    return GenerateRequest(
        model=ref,
        data=asked.inputs,
        params=asked.parameters,
        max_steps=asked.max_steps if asked.max_steps is not None else settings.max_steps or None,
        timeout=asked.timeout if asked.timeout is not None else settings.generation_seconds or None,
        priority=asked.priority,
    )


class _Told(StreamingResponse):
    """A generation from one of its chunks on."""

    def __init__(self, generation: Generation, after: int) -> None:
        headers = {
            "cache-control": "no-store",
            "x-accel-buffering": "no",
            "x-generation": generation.id,
            "x-model": generation.model,
        }
        super().__init__((), headers=headers, media_type="text/event-stream")
        self._generation = generation
        self._after = after

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # type: ignore[override]
        """Send it; a disconnect is noticed while there is nothing to send."""

        async def write(lines: bytes) -> None:
            await send({"type": "http.response.body", "body": lines, "more_body": True})

        gone = asyncio.ensure_future(until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._generation.write_to(self._after, write, gone)
        finally:
            gone.cancel()
        await send({"type": "http.response.body", "body": b""})
