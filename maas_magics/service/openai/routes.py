"""Routes of OpenAI's API: ``/v1/models``, ``/v1/completions``, ``/v1/chat/completions``, ``/v1/embeddings``."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from maas_magics.api.backend import Backend
from maas_magics.api.errors import OptionError, Refused
from maas_magics.api.requests import GenerateRequest, PredictRequest, Priority
from maas_magics.api.results import ModelInfo
from maas_magics.api.stream import ChunkStream
from maas_magics.service.answers import Answers
from maas_magics.service.gate import Visit
from maas_magics.service.generations import Generations
from maas_magics.service.openai.bodies import Chat, Completion, Embeddings, Sampled, decoded, read
from maas_magics.service.openai.responses import EventStream, WholeAnswer
from maas_magics.service.openai.texts import Answering, Form, gathered, usage_of
from maas_magics.service.settings import Settings
from maas_magics.service.threads import RowThreads

JSON = "application/json"


def openai_routes(
    backend: Backend, settings: Settings, generations: Generations, answers: Answers, rows: RowThreads
) -> list[Route]:
    """Routes of the models that write, and of those that make vectors of texts; requests are begun in ``rows``."""

    async def models(request: Request) -> Response:
        found = await asyncio.to_thread(backend.models.list)
        told = [_told(info, info.name) for info in found if info.writes or _embeds(info) or info.draws]
        return _json({"object": "list", "data": told})

    async def model(request: Request) -> Response:
        ref = request.path_params["ref"]
        return _json(_told(await asyncio.to_thread(backend.models.get, ref), ref))

    async def completions(request: Request) -> Response:
        asked = read(await request.body(), Completion)
        before = [text if asked.echo else "" for text in asked.prompts for _ in range(asked.choices)]
        return await _answer(request, asked, list(asked.prompts), before)

    async def chat(request: Request) -> Response:
        asked = read(await request.body(), Chat)
        return await _answer(request, asked, [asked.data], [""] * asked.choices)

    async def _answer(request: Request, asked: Sampled, data: list[Any], before: list[str]) -> Response:
        visit: Visit = request.scope["visit"]
        most = asked.most
        if most is not None and settings.max_steps and most > settings.max_steps:
            raise Refused(f"max_tokens {most:,} is more than this service takes.", f"max_tokens: {settings.max_steps}")
        streams = await _begun(visit, asked, data)
        visit.model = streams[0].model
        answering = Answering(streams, generations.end, asked.choices)
        form = Form.of(isinstance(asked, Chat), asked.model)
        tools = asked.functions if isinstance(asked, Chat) else None
        if not asked.stream:
            return WholeAnswer(lambda: gathered(form, answering, before, tools))
        usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        return EventStream(form, answering, before, usage, lambda error: answers.refusal(visit, error)[2], tools)

    async def _begun(visit: Visit, asked: Sampled, data: list[Any]) -> Sequence[ChunkStream]:
        """A stream for each answer; none is left where one cannot begin."""
        priority = generations.priority(visit, asked.waits)
        begins = [
            partial(rows.run, _begin, asked, one, asked.params(place), priority)
            for one in data
            for place in range(asked.choices)
        ]
        return await generations.several(visit, sum(map(len, map(str, data))), asked.most, begins)

    def _begin(asked: Sampled, data: Any, params: dict[str, Any], priority: Priority) -> ChunkStream:
        info = backend.models.get(asked.model)
        if not info.writes:
            raise OptionError(f"{info.ref} ({info.task}) writes no text.", _those(backend, lambda one: one.writes))
        return backend.generate(
            GenerateRequest(
                model=asked.model,
                data=data,
                params=params,
                max_steps=asked.most or settings.max_steps or None,
                timeout=settings.generation_seconds or None,
                priority=priority,
            )
        )

    async def embeddings(request: Request) -> Response:
        asked = decoded(await request.body(), Embeddings)
        if asked.dimensions is not None:
            raise OptionError("dimensions is not supported: vectors are as long as the model makes them.", "")
        if asked.encoding_format not in (None, "float", "base64"):
            raise OptionError(f"encoding_format is {asked.encoding_format[:40]!r}.", "float, or base64")
        vectors = await rows.run(_embedded, asked.model, asked.texts)
        told = [
            {"object": "embedding", "index": place, "embedding": _written(vector, asked.encoding_format)}
            for place, vector in enumerate(vectors)
        ]
        words = sum(len(text.split()) for text in asked.texts)
        used = usage_of(words, 0)
        del used["completion_tokens"]
        return _json({"object": "list", "data": told, "model": asked.model, "usage": used})

    def _embedded(ref: str, texts: list[str]) -> Any:
        info = backend.models.get(ref)
        if not _embeds(info):
            raise OptionError(f"{info.ref} ({info.task}) makes no vectors of texts.", _those(backend, _embeds))
        import pyarrow as pa

        table = pa.table({info.signature.inputs[0].name: texts})
        columns = backend.predict(PredictRequest(model=ref, data=table)).columns
        return np.asarray(next(iter(columns.values())), dtype=np.float32)

    return [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{ref}", model, methods=["GET"]),
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/embeddings", embeddings, methods=["POST"]),
    ]


def _told(info: ModelInfo, name: str) -> dict[str, Any]:
    """A model as they list it."""
    return {"id": name, "object": "model", "created": int(info.created), "owned_by": "maas_magics"}


def _embeds(info: ModelInfo) -> bool:
    """Whether a model makes vectors of texts."""
    inputs = info.signature.inputs
    return info.vector and len(inputs) == 1 and inputs[0].datatype == "BYTES" and "text" in inputs[0].meaning


def _those(backend: Backend, fits: Any) -> str:
    """Models that could be asked instead."""
    names = [info.name for info in backend.models.list() if fits(info)][:5]
    return f"There is: {', '.join(names)}." if names else "There is none here."


def _written(vector: Any, form: str | None) -> Any:
    """A vector as numbers, or as the base64 of float32 in little-endian."""
    if form == "base64":
        return base64.b64encode(np.ascontiguousarray(vector, dtype="<f4").tobytes()).decode()
    return vector.tolist()


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)
