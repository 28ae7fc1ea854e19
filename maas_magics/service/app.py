"""The service as an ASGI application.

Inference is answered by a lean callable, since it is asked most; Starlette's router carries the rest. Both
pass the same gate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router

from maas_magics.api.backend import Backend
from maas_magics.service.answers import Answers, print_error
from maas_magics.service.batcher import Batcher
from maas_magics.service.control import control_routes
from maas_magics.service.gate import Gate, Visit, scope_for
from maas_magics.service.infer import Inference
from maas_magics.service.jobs import job_routes
from maas_magics.service.log import AccessLog
from maas_magics.service.messages import BINARY, JSON, PREFLIGHT, Headers, Message, Receive, Send, read_body
from maas_magics.service.metrics import Metrics
from maas_magics.service.models import model_routes
from maas_magics.service.openapi import describe
from maas_magics.service.settings import Settings
from maas_magics.service.short import ShortPath


class App:
    """Answers requests for a backend.

    Parameters
    ----------
    backend : Backend
    settings : Settings
    routes : sequence of starlette.routing.BaseRoute
        Of one's own, beside those of the service.
    """

    def __init__(self, backend: Backend, settings: Settings, routes: Sequence[BaseRoute] = ()) -> None:
        self._gate = Gate(settings)
        self._metrics = metrics = Metrics()
        self._log = AccessLog(settings.access_log)
        self._answers = Answers(self._gate, metrics, self._log)
        self._batcher = Batcher(
            backend.infer,
            settings.max_batch,
            settings.max_delay,
            settings.queue_limit,
            metrics.batch,
            getattr(backend, "opened", None),
        )
        metrics.now_waiting = lambda: self._batcher.waiting
        self._inference = Inference(backend, self._gate, self._batcher)
        self.short_path = ShortPath(self._gate, self._batcher, self._inference, self._answers)
        """For servers that can take it."""
        self._router = Router(
            [
                *control_routes(backend, settings, metrics, lambda: self._batcher.alive),
                *job_routes(backend),
                *model_routes(backend),
                Route("/openapi.json", _described, methods=["GET"]),
                *routes,
            ]
        )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one connection's request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._live(receive, send)
            return
        path: str = scope["path"]
        if root := scope.get("root_path"):
            path = path.removeprefix(root)  # the server's own, and once more where the proxy kept it
            if path.startswith(f"{root}/"):
                path = path.removeprefix(root)
                scope["path"] = root + path
        method: str = scope["method"]
        visit = self._gate.visit(scope["headers"])
        model = self._inference.target(path)
        route, status = "refused", 200
        try:
            if visit.asks and visit.origin and method == "OPTIONS":
                route, status = "preflight", 204
                self._gate.enter(visit, "")
                await self._send(visit, send, 204, b"", PREFLIGHT)
            elif model is not None:
                route = "infer"
                self._gate.enter(visit, "predict")
                if method != "POST":
                    raise HTTPException(405, headers={"allow": "POST"})
                body, header = await self._inference.answer(visit, model, receive)
                head = [JSON] if header is None else [BINARY, (b"inference-header-content-length", b"%d" % header)]
                await self._send(visit, send, 200, body, head)
            else:
                self._gate.enter(visit, scope_for(method, path))
                route, status = await self._others(visit, scope, receive, send, method)
        except Exception as error:
            status = await self._refuse(visit, send, error)
        self._answers.record(visit, route, method, path, status)

    async def _others(self, visit: Visit, scope: Message, receive: Receive, send: Send, method: str) -> tuple[str, int]:
        """Whatever is not inference, through the router, its body read and checked first; route and status."""
        status = 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._answers.own(visit)]
            await send(message)

        scope["app"] = self  # the router then raises what it finds nothing for
        try:
            if method not in ("GET", "HEAD"):
                receive = _replayed(await read_body(visit, self._gate, receive), receive)
            await self._router(scope, receive, told)  # type: ignore[arg-type]
        except Exception as error:
            if not status:
                if isinstance(error, HTTPException) and error.status_code == 405:
                    error = self._not_allowed(scope)
                status = await self._refuse(visit, send, error)
            elif not isinstance(error, ClientDisconnect):
                print_error(visit, error)
        return getattr(scope.get("route"), "path", "other"), status

    def _not_allowed(self, scope: Message) -> HTTPException:
        """Error of a method that a path does not have, with those that it has."""
        there: set[str] = set()
        for route in self._router.routes:
            if route.matches(scope)[0] is Match.PARTIAL:
                there |= getattr(route, "methods", None) or set()
        return HTTPException(405, headers={"allow": ", ".join(sorted(there))})

    async def _refuse(self, visit: Visit, send: Send, error: Exception) -> int:
        """Tell an error, and its status."""
        status, headers, body = self._answers.refusal(visit, error)
        await self._send(visit, send, status, body, headers)
        return status

    async def _send(self, visit: Visit, send: Send, status: int, body: bytes, headers: Headers) -> None:
        length = (b"content-length", b"%d" % len(body))
        await send(
            {"type": "http.response.start", "status": status, "headers": [*headers, length, *self._answers.own(visit)]}
        )
        await send({"type": "http.response.body", "body": body})

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


def create_app(backend: Backend, settings: Settings | None = None, extra_routes: Sequence[BaseRoute] = ()) -> App:
    """A service of a backend.

    Parameters
    ----------
    backend : Backend
    settings : Settings, optional
        By default of a service of one's own: loopback names only, and anybody may ask.
    extra_routes : sequence of starlette.routing.BaseRoute
        Beside those of the service; they pass the same gate.
    """
    return App(backend, settings or Settings(), extra_routes)


async def _described(request: Request) -> Response:
    return Response(describe(), media_type="application/json")


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
