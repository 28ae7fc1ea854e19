"""The service as an ASGI application.

Inference is answered by a lean callable, since it is requested most; Starlette's router carries the rest. Both
pass the same gate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router

from maas_magics.api.backend import Backend
from maas_magics.service.answers import Answers, print_error
from maas_magics.service.batcher import Batcher
from maas_magics.service.coding import PIECE, Bytes
from maas_magics.service.control import control_routes, status_routes
from maas_magics.service.fast_path import ShortPath
from maas_magics.service.gate import OWN, Gate, Head, Visit, limits_for, scope_for
from maas_magics.service.generate import generate_routes
from maas_magics.service.generations import Generations
from maas_magics.service.infer import InferRoutes
from maas_magics.service.jobs import job_routes
from maas_magics.service.log import AccessLog
from maas_magics.service.messages import OLD, PREFLIGHT, Headers, Message, Packing, Receive, Send, read_body
from maas_magics.service.metrics import ServiceMetrics
from maas_magics.service.models import model_routes
from maas_magics.service.oip_generate import oip_generate_routes
from maas_magics.service.openai.errors import is_openai
from maas_magics.service.openai.images import image_routes
from maas_magics.service.openai.routes import openai_routes
from maas_magics.service.openapi import describe
from maas_magics.service.settings import Settings
from maas_magics.service.tensors import LARGE
from maas_magics.service.threads import FOR_CONTROL, RowThreads, Threads


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
        self._metrics = metrics = ServiceMetrics()
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
        self._rows = RowThreads()
        self._inference = InferRoutes(backend, self._gate, self._batcher, self._rows)
        self.short_path = ShortPath(self._gate, self._batcher, self._inference, self._answers, self._rows)
        """For servers that can take it."""
        widths = self._inference.widths
        self._generations = Generations(settings, metrics)
        metrics.now_generating = getattr(backend, "generating", metrics.now_generating)
        self._router = Router(
            [
                *control_routes(backend, settings, metrics, lambda: self._batcher.alive),
                *_own(
                    [
                        *status_routes(metrics),
                        *job_routes(backend),
                        *model_routes(backend, widths, self._rows, self._generations, settings.max_steps),
                        *generate_routes(backend, settings, self._generations, self._answers, widths, self._rows),
                    ]
                ),
                *oip_generate_routes(backend, settings, self._generations, self._answers, self._rows),
                *openai_routes(backend, settings, self._generations, self._answers, self._rows),
                *image_routes(backend, settings, self._generations, self._rows),
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
        openai = is_openai(path)
        old = path.startswith("/v1/") and not (openai and method in ("GET", "HEAD", "POST", "OPTIONS"))
        if old:  # where our own paths were before
            path = OWN + path
            scope["path"] = scope.get("root_path", "") + path
        visit = self._gate.visit(Head(scope["headers"]))
        visit.openai = openai and not old
        model = self._inference.target(path)
        route, status = "refused", 200
        try:
            if visit.head.asks and visit.head.origin and method == "OPTIONS":
                route, status = "preflight", 204
                self._gate.enter(visit, "")
                await self._send(visit, send, 204, PREFLIGHT, [b""])
            elif model is not None:
                route = "infer"
                self._gate.enter(visit, "predict")
                if method != "POST":
                    raise HTTPException(405, headers={"allow": "POST"})
                parts, header = await self._inference.answer(visit, model, receive)
                large = visit.head.accept and sum(map(len, parts)) > LARGE
                whole = self._answers.whole
                told = await self._rows.run(whole, visit, parts, header) if large else whole(visit, parts, header)
                await self._send(visit, send, *told)
            else:
                self._gate.enter(visit, scope_for(method, path), path)
                route, status = await self._others(visit, scope, receive, send, old)
        except Exception as error:
            status = await self._refuse(visit, send, error)
        finally:
            self._gate.release(visit)
        self._answers.record(visit, route, method, path, status)

    async def _others(self, visit: Visit, scope: Message, receive: Receive, send: Send, old: bool) -> tuple[str, int]:
        """Whatever is not inference, through the router, its body read and checked first; route and status."""
        status = 0
        send = Packing(send, visit.head.accept)

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = [*self._answers.own(visit), *(OLD if old else ())]
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        scope["app"] = self  # the router then raises what it finds nothing for
        scope["visit"] = visit
        scope["hold"] = partial(self._gate.hold, visit)
        try:
            if scope["method"] not in ("GET", "HEAD"):
                limit, becomes = limits_for(scope["path"])
                body = await read_body(visit, self._gate, receive, self._rows, limit)
                self._gate.hold(visit, becomes * len(body))
                receive = _replayed(body, receive)
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
        """Answer with an error, and its status."""
        status, headers, parts = self._answers.refused(visit, error)
        await self._send(visit, send, status, headers, parts)
        return status

    async def _send(self, visit: Visit, send: Send, status: int, headers: Headers, parts: Sequence[Bytes]) -> None:
        """Send an answer, a large one no faster than its client reads."""
        length = (b"content-length", b"%d" % sum(map(len, parts)))
        own = self._answers.own(visit)
        await send({"type": "http.response.start", "status": status, "headers": [*headers, length, *own]})
        if sum(map(len, parts)) <= PIECE:
            await send({"type": "http.response.body", "body": b"".join(parts)})
            return
        for part in parts:
            for start in range(0, len(part), PIECE):
                piece = bytes(memoryview(part)[start : start + PIECE])
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                loop = asyncio.get_running_loop()
                loop.set_default_executor(Threads("maas-magics-control", FOR_CONTROL))
                self._batcher.start(loop)
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self._generations.close()
                await asyncio.to_thread(self._batcher.stop)
                self._rows.close()
                self._log.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def create_app(backend: Backend, settings: Settings | None = None, extra_routes: Sequence[BaseRoute] = ()) -> App:
    """A service of a backend.

    Parameters
    ----------
    backend : Backend
    settings : Settings, optional
        By default of a service of one's own: loopback names only, and no token is required.
    extra_routes : sequence of starlette.routing.BaseRoute
        Beside those of the service; they pass the same gate.
    """
    return App(backend, settings or Settings(), extra_routes)


def _own(routes: Sequence[Route]) -> list[Route]:
    """Routes under the prefix of our own."""
    return [Route(OWN + route.path, route.endpoint, methods=list(route.methods or ())) for route in routes]


async def _described(request: Request) -> Response:
    return Response(describe(), media_type="application/json")


def _replayed(body: Bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives a body that was read already."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
