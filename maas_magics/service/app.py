"""The service as an ASGI application.

Inference is answered by a lean callable, since it is asked most; Starlette carries the rest. Both pass
the same gate.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from maas_magics.api.backend import Backend
from maas_magics.api.errors import DataError, MaasError
from maas_magics.api.wire import encode_error
from maas_magics.service.batcher import Batcher
from maas_magics.service.control import control_routes
from maas_magics.service.gate import Gate, Headers, Message, Visit, retry_after, status_of
from maas_magics.service.jobs import job_routes
from maas_magics.service.log import AccessLog
from maas_magics.service.metrics import Metrics
from maas_magics.service.models import model_routes
from maas_magics.service.oip import Call, read_call, read_raw, write_answer
from maas_magics.service.openapi import describe
from maas_magics.service.settings import Settings

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")

SLOW = 60.0
"""Seconds that a client may take for the next piece of a body."""

JSON = (b"content-type", b"application/json")
BINARY = (b"content-type", b"application/octet-stream")


class App:
    """Answers requests for a backend.

    Parameters
    ----------
    backend : Backend
    settings : Settings
    routes : sequence of starlette.routing.BaseRoute
        Everything but inference.
    metrics : Metrics
    """

    def __init__(self, backend: Backend, settings: Settings, routes: Sequence[BaseRoute], metrics: Metrics) -> None:
        self._backend = backend
        self._settings = settings
        self._gate = Gate(settings)
        self._metrics = metrics
        self._log = AccessLog(settings.access_log)
        self._batcher = Batcher(
            backend.infer, settings.max_batch, settings.max_delay, settings.queue_limit, metrics.batch
        )
        metrics.now_waiting = lambda: self._batcher.waiting
        self._rest = Starlette(
            routes=list(routes),
            exception_handlers={MaasError: _told, HTTPException: _told_http},
        )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one connection's request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        method = scope["method"]
        visit = self._gate.visit(scope["headers"])
        infers = INFER.fullmatch(path)
        try:
            self._gate.enter(visit, method, path)
            if infers is not None and method == "POST":
                body, header = await self._infer(visit, infers[1], infers[2], receive)
                kind = JSON if header is None else BINARY
                extra = [] if header is None else [(b"inference-header-content-length", b"%d" % header)]
                await self._send(visit, send, 200, body, [kind, *extra])
                self._done(visit, "infer", method, path, 200)
                return
        except Exception as error:
            status = status_of(error)
            if status == 500:
                traceback.print_exception(error, file=sys.stderr)
            allowed = [(b"www-authenticate", b"Bearer")] if status == 401 else []
            await self._send(visit, send, status, encode_error(error), [JSON, *allowed, *retry_after(status)])
            self._done(visit, "infer" if infers else "refused", method, path, status)
            return
        await self._others(visit, scope, receive, send, method, path)

    async def _infer(self, visit: Visit, name: str, version: str | None, receive: Receive) -> tuple[bytes, int | None]:
        model = name if version is None else f"{name}:{version}"
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            body = await self._collect(body, receive)
        if len(body) > self._settings.body_limit:
            raise self._gate.too_large()
        if visit.coding:
            body = self._gate.plain(visit, body)
        call = await self._read(visit, model, body)
        return write_answer(call, await self._batcher.ask(model, call.inputs))

    async def _read(self, visit: Visit, model: str, body: bytes) -> Call:
        if visit.header is None:
            return read_call(body, None)
        if not visit.header.isdigit() or len(visit.header) > 12:
            raise DataError("The header Inference-Header-Content-Length is a number of bytes.")
        header = int(visit.header)
        if header:
            return read_call(body, header)
        info = await asyncio.to_thread(self._backend.models.get, model)
        return read_raw(body, info.signature)

    async def _collect(self, body: bytes, receive: Receive) -> bytes:
        parts, size = [body], len(body)
        more = True
        while more:
            try:
                message = await asyncio.wait_for(receive(), SLOW)
            except TimeoutError:
                raise DataError(f"The body did not come within {SLOW:g} s.") from None
            if message["type"] == "http.disconnect":
                raise DataError("The client went away.")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._settings.body_limit:
                raise self._gate.too_large()
            more = message.get("more_body", False)
        return b"".join(parts)

    async def _others(self, visit: Visit, scope: Message, receive: Receive, send: Send, method: str, path: str) -> None:
        """Whatever is not inference, through Starlette, its body read and checked first."""
        status = 500
        started = False

        async def told(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                message["headers"] = [*message.get("headers", ()), *self._own(visit)]
            await send(message)

        try:
            limited = receive
            if method in ("POST", "PUT", "PATCH"):
                first = await receive()
                body = first.get("body", b"")
                if first.get("more_body"):
                    body = await self._collect(body, receive)
                limited = _replayed(self._gate.plain(visit, body), receive)
            await self._rest(scope, limited, told)  # type: ignore[arg-type]
        except Exception as error:
            status = status_of(error)
            if status == 500:
                traceback.print_exception(error, file=sys.stderr)
            if not started:
                await self._send(visit, send, status, encode_error(error), [JSON, *retry_after(status)])
        route = scope.get("route")
        self._done(visit, getattr(route, "path", "unknown"), method, path, status)

    async def _send(self, visit: Visit, send: Send, status: int, body: bytes, headers: Headers) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, (b"content-length", b"%d" % len(body)), *self._own(visit)],
            }
        )
        await send({"type": "http.response.body", "body": body})

    def _own(self, visit: Visit) -> Headers:
        own = [(b"x-request-id", visit.id.encode())]
        if visit.origin and (self._settings.origins & {visit.origin.decode("latin-1"), "*"}):
            own += [(b"access-control-allow-origin", visit.origin), (b"vary", b"origin")]
        return own

    def _done(self, visit: Visit, route: str, method: str, path: str, status: int) -> None:
        seconds = time.perf_counter() - visit.began
        self._metrics.request(route, status, seconds)
        if self._log:
            self._log.write(
                {
                    "time": time.time(),
                    "id": visit.id,
                    "client": visit.client,
                    "method": method,
                    "path": path[:200],
                    "status": status,
                    "ms": round(seconds * 1000, 3),
                }
            )

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._batcher.start(asyncio.get_running_loop())
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await asyncio.to_thread(self._batcher.stop)
                self._log.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def create_app(backend: Backend, settings: Settings | None = None) -> App:
    """A service of a backend.

    Parameters
    ----------
    backend : Backend
    settings : Settings, optional
        By default of a service of one's own: loopback names only, and anybody may ask.
    """
    settings = settings or Settings()
    metrics = Metrics()

    async def described(request: Request) -> Response:
        return Response(describe(), media_type="application/json")

    routes = [
        *control_routes(backend, settings, metrics),
        *job_routes(backend),
        *model_routes(backend),
        Route("/openapi.json", described, methods=["GET"]),
    ]
    return App(backend, settings, routes, metrics)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives a body that was read already."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _told(request: Request, error: Exception) -> Response:
    status = status_of(error)
    extra = {name.decode(): value.decode() for name, value in retry_after(status)}
    return Response(encode_error(error), status, media_type="application/json", headers=extra)


async def _told_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: f"There is nothing at {request.url.path[:200]!r}.", 405: f"{request.method} is not for this path."}
    body = encode_error(MaasError(words.get(error.status_code, str(error.detail)[:200])))
    return Response(body, error.status_code, media_type="application/json", headers=dict(error.headers or {}))
