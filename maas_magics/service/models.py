"""Models, uploads and whole tables of rows over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from maas_magics.api.backend import Backend
from maas_magics.api.errors import OptionError, Refused
from maas_magics.api.requests import PredictRequest
from maas_magics.service.columns import answers_to_bytes
from maas_magics.service.gate import Visit
from maas_magics.service.generations import Generations
from maas_magics.service.jobs import JSON
from maas_magics.service.received import ReceivedRows
from maas_magics.service.threads import RowThreads
from maas_magics.service.widths import Widths

ARROW = "application/vnd.apache.arrow.stream"

CAUTION = 500
"""Characters of a sentence about an answer that a header carries."""


def model_routes(
    backend: Backend, widths: Widths, rows: RowThreads, generations: Generations, most: int = 0
) -> list[Route]:
    """Routes of the models of a backend, of rows for them, and of data for its jobs; rows are read in ``rows``.

    ``most`` is how many tokens may be written to a row, 0 for no limit.
    """

    async def models(request: Request) -> Response:
        return _json(await asyncio.to_thread(backend.models.list))

    async def model(request: Request) -> Response:
        return _json(await asyncio.to_thread(backend.models.get, request.path_params["ref"]))

    async def versions(request: Request) -> Response:
        return _json(await asyncio.to_thread(backend.models.versions, request.path_params["ref"]))

    async def alias(request: Request) -> Response:
        await asyncio.to_thread(backend.models.alias, request.path_params["ref"], request.path_params["alias"])
        return Response(status_code=204)

    async def delete(request: Request) -> Response:
        await asyncio.to_thread(backend.models.delete, request.path_params["ref"])
        return Response(status_code=204)

    async def record(request: Request) -> Response:
        return _json(await asyncio.to_thread(backend.models.record, request.path_params["ref"]))

    async def publish(request: Request) -> Response:
        params = request.path_params
        return _json(await asyncio.to_thread(backend.publish, params["ref"], params["name"]))

    async def exported(request: Request) -> Response:
        params = request.path_params
        files = await asyncio.to_thread(backend.exported, params["ref"], params["variant"])
        return Response(msgspec.msgpack.encode(files), media_type="application/msgpack")

    async def loaded(request: Request) -> Response:
        return _json(await asyncio.to_thread(backend.loaded))

    async def predict(request: Request) -> Response:
        params = request.query_params
        asked = params.get("probabilities")
        top = params.get("top", "0")
        if not top.isdecimal() or len(top) > 6:
            raise OptionError("top is a number of labels.", "?top=3")
        data = await request.body()
        visit: Visit = request.scope["visit"]
        writing = _writing(params, most)

        def answer() -> tuple[dict[str, str], bytes]:
            model = request.path_params["ref"]
            given = ReceivedRows(data, params.get("arrays") == "true", request.scope["hold"])
            given.origin = params.get("from", "table")
            given.hold_answer(widths.measure(model), int(top))
            proba = None if asked is None else asked == "true"
            asks = PredictRequest(model=model, data=given, probabilities=proba, top=int(top), **writing)
            if generations.limits(visit) and backend.models.get(model).iterative:
                with generations.paid(visit, len(data), writing.get("max_tokens")) as written:
                    found = backend.predict(asks)
                    written(sum(len(str(text)) for text in found.columns.get("prediction", ())))
            else:
                found = backend.predict(asks)
            widths.answered(model, found.model)
            told = {"x-model": found.model, "x-blank": str(found.blank)}
            if found.cautions:
                told["x-warnings"] = json.dumps([text[:CAUTION] for text in found.cautions])  # ASCII, as a header is
            return told, answers_to_bytes(found.columns)

        headers, body = await rows.run(answer)
        return Response(body, media_type=ARROW, headers=headers)

    async def offset(request: Request) -> Response:
        there = await asyncio.to_thread(backend.data.offset, request.path_params["digest"])
        return Response(headers={"upload-offset": str(there), "cache-control": "no-store"})

    async def append(request: Request) -> Response:
        numbers = [request.headers.get(name, "") for name in ("upload-offset", "upload-length")]
        if not all(number.isdecimal() and len(number) < 16 for number in numbers):
            raise OptionError("The headers Upload-Offset and Upload-Length are numbers of bytes.", "Upload-Offset: 0")
        chunk = await request.body()
        there = await asyncio.to_thread(
            backend.data.append, request.path_params["digest"], int(numbers[0]), chunk, int(numbers[1])
        )
        return Response(status_code=204, headers={"upload-offset": str(there)})

    return [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/loaded", loaded, methods=["GET"]),
        Route("/v1/models/{ref}", model, methods=["GET"]),
        Route("/v1/models/{ref}", delete, methods=["DELETE"]),
        Route("/v1/models/{ref}/versions", versions, methods=["GET"]),
        Route("/v1/models/{ref}/record", record, methods=["GET"]),
        Route("/v1/models/{ref}/published/{name}", publish, methods=["PUT"]),
        Route("/v1/models/{ref}/aliases/{alias}", alias, methods=["PUT"]),
        Route("/v1/models/{ref}/exports/{variant}", exported, methods=["GET"]),
        Route("/v1/models/{ref}/predict", predict, methods=["POST"]),
        Route("/v1/data/{digest}", offset, methods=["HEAD"]),
        Route("/v1/data/{digest}", append, methods=["PATCH"]),
    ]


class Writing(msgspec.Struct, frozen=True):
    """How a model that writes is to write: some options of a `PredictRequest`."""

    column: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json: Any = None
    choice: tuple[str, ...] = ()
    regex: str | None = None
    steps: int | None = None
    guidance: float | None = None


def _writing(params: Mapping[str, str], most: int) -> dict[str, Any]:
    """Options of writing that a request for rows has.

    Raises
    ------
    OptionError
        If they are not valid.
    Refused
        If more tokens are wanted than the service takes.
    """
    if "writing" not in params:
        return {}
    try:
        found = msgspec.json.decode(params["writing"], type=Writing)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise OptionError(f"writing cannot be read: {error}", '?writing={"max_tokens": 20}') from None
    if most and found.max_tokens is not None and found.max_tokens > most:
        raise Refused(f"max_tokens {found.max_tokens:,} is more than this service takes: {most:,}.", f"{most}")
    return msgspec.structs.asdict(found)


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)
