"""The Open Inference Protocol beside inference: health, metadata, the model repository, statistics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from maas_magics.api.backend import Backend
from maas_magics.api.errors import DataError, ModelNotFound, OptionError
from maas_magics.api.results import ModelInfo
from maas_magics.api.signature import TensorSpec
from maas_magics.service.jobs import JSON
from maas_magics.service.metrics import ModelStatistics, ServiceMetrics
from maas_magics.service.oip import EXTENSIONS, Unsupported
from maas_magics.service.settings import Settings

OF_TOKENS = ("rate", "tokens_per_minute")
"""Limits of each token, as `Settings` has them."""

_STATES = {False: {"state": "READY", "reason": ""}, True: {"state": "UNAVAILABLE", "reason": "unloaded"}}


def control_routes(
    backend: Backend, settings: Settings, metrics: ServiceMetrics, alive: Callable[[], bool]
) -> list[Route]:
    """Routes of the protocol, but inference; ``alive`` says whether that is answered."""

    async def info(request: Request) -> ModelInfo:
        params = request.path_params
        ref = params["model"] + (f":{params['version']}" if "version" in params else "")
        return await asyncio.to_thread(backend.models.get, ref)

    async def open_one(request: Request) -> ModelInfo:
        """The same, but of one that was not unloaded."""
        found = await info(request)
        if (await asyncio.to_thread(backend.loaded)).get(found.ref) is False:
            raise ModelNotFound(f"The model {found.ref} is not loaded.", "Load it first.")
        return found

    async def health(request: Request) -> Response:
        ready = alive()
        return _json({"live": True, "ready": ready}, 503 if request.url.path.endswith("ready") and not ready else 200)

    async def server(request: Request) -> Response:
        told = {"name": "maas_magics", "version": version("maas-magics"), "extensions": EXTENSIONS}
        limits = {
            **backend.kept_back(),
            **{name: getattr(settings, name) for name in OF_TOKENS if getattr(settings, name)},
        }
        code = bool(getattr(backend, "allow_code", False))
        return _json({**told, "code": code, **({"limits": limits} if limits else {})})

    async def model(request: Request) -> Response:
        found = await open_one(request)
        numbers = [found.version]
        if "version" not in request.path_params:
            numbers = [entry.version for entry in await asyncio.to_thread(backend.models.versions, found.name)]
        return _json(
            {
                "name": request.path_params["model"],
                "versions": [str(number) for number in numbers],
                "platform": _platform(found),
                "inputs": [_tensor(spec) for spec in found.signature.inputs],
                "outputs": [_tensor(spec) for spec in found.signature.outputs],
            }
        )

    async def ready(request: Request) -> Response:
        found = await info(request)
        closed = (await asyncio.to_thread(backend.loaded)).get(found.ref) is False
        return _json({"name": found.name, "ready": not closed}, 503 if closed else 200)

    async def config(request: Request) -> Response:
        found = await open_one(request)
        return _json(
            {
                "name": found.name,
                "platform": _platform(found),
                "backend": "onnxruntime" if "onnx" in found.exports else "pytorch",
                "max_batch_size": settings.max_batch,
                "input": [_config(spec) for spec in found.signature.inputs],
                "output": [_config(spec) for spec in found.signature.outputs],
                "dynamic_batching": {"max_queue_delay_microseconds": int(settings.max_delay * 1e6)},
            }
        )

    async def stats(request: Request) -> Response:
        refs = list(metrics.models)
        if "model" in request.path_params:
            found = await open_one(request)
            several = [] if "version" in request.path_params else [r for r in refs if r.startswith(f"{found.name}:")]
            refs = several or [found.ref]
        return _json({"model_stats": [metrics.models.get(ref, ModelStatistics()).told(ref) for ref in refs]})

    async def index(request: Request) -> Response:
        asked = await _object(request)
        states = await asyncio.to_thread(backend.loaded)
        entries = []
        for found in await asyncio.to_thread(_every_version, backend):
            closed = states.get(found.ref) is False
            if not (asked.get("ready") and closed):
                entries.append({"name": found.name, "version": str(found.version), **_STATES[closed]})
        return _json(entries)

    async def load(request: Request) -> Response:
        asked = await _object(request)
        given = asked.get("parameters") or {}
        if not isinstance(given, dict) or not set(given) <= {"kv_memory"}:
            raise Unsupported("A model is loaded as it was published, without a configuration or files of its own.")
        kv_memory = given.get("kv_memory")
        if kv_memory is not None and (type(kv_memory) is not int or not 0 < kv_memory < 2**62):
            raise OptionError("kv_memory is not a number of bytes above 0.", '{"parameters": {"kv_memory": 500000000}}')
        await asyncio.to_thread(backend.load, request.path_params["model"], kv_memory)
        return Response(b"{}", media_type=JSON)

    async def unload(request: Request) -> Response:
        await asyncio.to_thread(backend.unload, request.path_params["model"])
        return Response(b"{}", media_type=JSON)

    async def told(request: Request) -> Response:
        return Response(metrics.told(), media_type="text/plain; version=0.0.4")

    one = "/v2/models/{model}"
    numbered = one + "/versions/{version}"
    routes = [
        Route("/v2/health/live", health, methods=["GET"]),
        Route("/v2/health/ready", health, methods=["GET"]),
        Route("/v2", server, methods=["GET"]),
        Route("/v2/", server, methods=["GET"]),
        Route("/v2/models/stats", stats, methods=["GET"]),
        Route("/v2/repository/index", index, methods=["POST"]),
        Route("/v2/repository/models/{model}/load", load, methods=["POST"]),
        Route("/v2/repository/models/{model}/unload", unload, methods=["POST"]),
        Route("/metrics", told, methods=["GET"]),
    ]
    for path in (one, numbered):
        routes += [
            Route(path, model, methods=["GET"]),
            Route(path + "/ready", ready, methods=["GET"]),
            Route(path + "/config", config, methods=["GET"]),
            Route(path + "/stats", stats, methods=["GET"]),
        ]
    return routes


def status_routes(metrics: ServiceMetrics) -> list[Route]:
    """What the service does, for our own clients."""
    began = time.time()

    async def status(request: Request) -> Response:
        rows = sum(found.rows for found in metrics.models.values())
        asked = sum(found.requests for found in metrics.models.values())
        spent = sum(found.queue_ns + found.infer_ns for found in metrics.models.values())
        return _json(
            {
                "up": time.time() - began,
                "requests": asked,
                "rows": rows,
                "milliseconds": spent / asked / 1e6 if asked else 0.0,
                "waiting": metrics.now_waiting(),
            }
        )

    return [Route("/v1/status", status, methods=["GET"])]


def _every_version(backend: Backend) -> list[ModelInfo]:
    return [found for newest in backend.models.list() for found in backend.models.versions(newest.name)]


async def _object(request: Request) -> dict[str, Any]:
    """A body that is a JSON object; an empty one when there is none."""
    try:
        found = msgspec.json.decode(await request.body() or b"{}", type=dict[str, Any] | None)
        return found or {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise DataError("The body is not a JSON object.", '{"ready": true}') from None


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type=JSON)


def _platform(info: ModelInfo) -> str:
    return "onnxruntime_onnx" if "onnx" in info.exports else "pytorch"


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _config(spec: TensorSpec) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": spec.shape[1:]}
