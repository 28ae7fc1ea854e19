"""``/v1/images/generations``: pictures of a prompt, as clients of OpenAI's API ask for them."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from maas_magics.api.backend import Backend
from maas_magics.api.errors import GenerationEnded, OptionError, Refused
from maas_magics.api.png import png
from maas_magics.api.requests import GenerateRequest
from maas_magics.api.results import ModelInfo
from maas_magics.api.stream import ChunkStream
from maas_magics.service.gate import Visit
from maas_magics.service.generations import Generations
from maas_magics.service.openai.bodies import decoded
from maas_magics.service.openai.responses import WholeAnswer
from maas_magics.service.openai.texts import Answering
from maas_magics.service.settings import Settings
from maas_magics.service.threads import RowThreads

MOST = 10
"""Pictures of a request."""


class Images(msgspec.Struct, frozen=True, kw_only=True):
    """What a request for pictures says; fields that are not known here are passed over, as other servers do.

    Attributes
    ----------
    prompt, model : str
    n : int or None
        How many; 1 when None.
    size : str or None
        ``"WIDTHxHEIGHT"``, that of the model's pictures, or ``"auto"``.
    response_format : str or None
        ``"b64_json"``, in which all pictures come.
    stream : bool or None
        Not offered: a picture comes whole.
    seed, steps, guidance
        How pictures are drawn, as in `maas_magics.core.runtimes.pictures.sampler.PictureParams`; each of several has a
        seed of its own, counted from ``seed``.
    """

    prompt: str
    model: str
    n: int | None = None
    size: str | None = None
    response_format: str | None = None
    stream: bool | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None

    def params(self, place: int) -> dict[str, Any]:
        """Parameters of the picture of a place.

        Parameters
        ----------
        place : int
            Of the picture, from 0.
        """
        seed = None if self.seed is None else self.seed + place
        return {"seed": seed, "steps": self.steps, "guidance": self.guidance}


def image_routes(backend: Backend, settings: Settings, generations: Generations, rows: RowThreads) -> list[Route]:
    """Routes of the models that draw pictures; requests are begun in ``rows``."""

    async def images(request: Request) -> Response:
        visit: Visit = request.scope["visit"]
        asked = decoded(await request.body(), Images)
        _check(asked, settings)
        info = await rows.run(_drawing, asked)
        begins = [partial(rows.run, _begin, asked, place) for place in range(asked.n or 1)]
        streams = await generations.several(visit, len(asked.prompt), asked.steps, begins)
        visit.model = streams[0].model
        return WholeAnswer(lambda: _whole(streams, generations.end, size_of(info)))

    def _drawing(asked: Images) -> ModelInfo:
        """The model that is asked, which draws pictures of that size."""
        info = backend.models.get(asked.model)
        if not info.draws:
            names = [each.name for each in backend.models.list() if each.draws][:5]
            hint = f"There is: {', '.join(names)}." if names else "There is none here."
            raise OptionError(f"{info.ref} ({info.task}) draws no pictures.", hint)
        if asked.size not in (None, "auto", size_of(info)):
            raise OptionError(f"size is {asked.size[:40]!r}; {info.ref} draws {size_of(info)}.", '"size": "auto"')
        return info

    def _begin(asked: Images, place: int) -> ChunkStream:
        return backend.generate(
            GenerateRequest(
                model=asked.model,
                data=asked.prompt,
                params=asked.params(place),
                timeout=settings.generation_seconds or None,
            )
        )

    return [Route("/v1/images/generations", images, methods=["POST"])]


def size_of(info: ModelInfo) -> str:
    """Size of the pictures that a model draws, as ``"WIDTHxHEIGHT"``.

    Parameters
    ----------
    info : ModelInfo
        Of a model that draws.
    """
    _, height, width, *_ = info.signature.outputs[0].shape
    return f"{width}x{height}"


def _check(asked: Images, settings: Settings) -> None:
    """Raise `OptionError` for what is out of range, and `Refused` for more than the service does."""
    if asked.n is not None and not 1 <= asked.n <= MOST:
        raise OptionError(f"n is {asked.n}; 1 to {MOST} was expected.", '"n": 1')
    if asked.response_format not in (None, "b64_json"):
        told = f"response_format is {asked.response_format[:40]!r}: no picture is kept here for a URL."
        raise OptionError(told, '"response_format": "b64_json"')
    if asked.stream:
        raise OptionError("Pictures come whole, not as a stream.", "Leave out stream.")
    if asked.steps is not None and settings.max_steps and asked.steps > settings.max_steps:
        raise Refused(f"steps {asked.steps:,} is more than this service takes.", f"steps: {settings.max_steps}")


async def _whole(streams: Sequence[ChunkStream], ended: Callable[[str, int], None], size: str) -> bytes:
    """All pictures, once they are there."""
    found: dict[int, Any] = {}
    async for place, chunk in Answering(streams, ended, len(streams)).chunks():
        found[place] = chunk.delta if chunk.delta is not None else found.get(place)
    if any(one is None for one in found.values()):
        raise GenerationEnded(f"A picture of {streams[0].model} was cancelled.", "Try again.")
    told = await asyncio.to_thread(lambda: [_base64(found[place]) for place in range(len(streams))])
    answer = {"created": int(time.time()), "output_format": "png", "size": size}
    return msgspec.json.encode({**answer, "data": [{"b64_json": one} for one in told]})


def _base64(pixels: Any) -> str:
    found = np.asarray(pixels, dtype=np.uint8)
    channels = found.shape[2] if found.ndim == 3 else 1
    made = png(found.tobytes(), found.shape[0], found.shape[1], channels)
    return base64.b64encode(made).decode()
