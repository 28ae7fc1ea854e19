"""Texts by the generate extension of the Open Inference Protocol: ``generate`` and ``generate_stream`` of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from maas_magics.api.backend import Backend
from maas_magics.api.errors import DataError, OptionError, Refused
from maas_magics.api.requests import GenerateRequest
from maas_magics.api.results import ModelInfo
from maas_magics.service.answers import Answers
from maas_magics.service.gate import Visit
from maas_magics.service.generations import Generations
from maas_magics.service.openai.responses import EventStream, WholeAnswer
from maas_magics.service.openai.texts import Answer, Answering, Form, gathered
from maas_magics.service.settings import Settings
from maas_magics.service.threads import RowThreads

TEXT = "text_input"
"""Name of the input; the model's own is one as well."""

COUNTS = ("max_tokens", "max_new_tokens")
"""Parameters that say how many tokens are wanted at most."""

EXAMPLE = '{"text_input": "Once upon", "parameters": {"max_tokens": 20}}'


@dataclass(frozen=True)
class _OipForm(Form):
    """Answers as KServe and Triton write them down; ``model`` is ``name:version``."""

    last: ClassVar[bytes] = b""

    def whole(self, answers: Sequence[Answer], usage: dict[str, int]) -> bytes:
        (one,) = answers
        return msgspec.json.encode({**self._about, "text_output": one.text, "finish_reason": one.end})

    def part(
        self, place: int, text: str | None, end: str | None, first: bool, tokens: Any = None, before: int = 0
    ) -> bytes:
        told = {**self._about, "text_output": text or "", **({"finish_reason": end} if end else {})}
        return b"data: %s\n\n" % msgspec.json.encode(told)

    @property
    def _about(self) -> dict[str, str]:
        name, _, version = self.model.partition(":")
        return {"model_name": name, "model_version": version}


def oip_generate_routes(
    backend: Backend, settings: Settings, generations: Generations, answers: Answers, rows: RowThreads
) -> list[Route]:
    """Routes of the models that write; answers are begun in ``rows``."""

    async def whole(request: Request) -> Response:
        form, answering = await begun(request)
        return WholeAnswer(lambda: gathered(form, answering, [""]))

    async def stream(request: Request) -> Response:
        form, answering = await begun(request)
        visit: Visit = request.scope["visit"]
        return EventStream(form, answering, [""], False, lambda error: answers.refusal(visit, error)[2])

    async def begun(request: Request) -> tuple[Form, Answering]:
        visit: Visit = request.scope["visit"]
        body = await request.body()
        asked = _read(body)
        params = dict(asked.get("parameters") or {})
        most = _most(params, settings.max_steps)
        params = {name: value for name, value in params.items() if name not in COUNTS}
        path = request.path_params
        ref = f"{path['model']}:{path['version']}" if "version" in path else path["model"]

        def begin() -> Any:
            info = backend.models.get(ref)
            request_ = GenerateRequest(
                model=info.ref,
                data=_text(asked, info),
                params=params,
                max_steps=most or settings.max_steps or None,
                timeout=settings.generation_seconds or None,
                priority=generations.priority(visit, "interactive"),
            )
            return backend.generate(request_)

        made = await generations.taken(visit, len(body), most, lambda: rows.run(begin))
        visit.model = made.model
        return _OipForm("", "", made.model, 0), Answering([made], generations.end, 1)

    one = "/v2/models/{model}"
    return [
        Route(path + end, route, methods=["POST"])
        for path in (one, one + "/versions/{version}")
        for end, route in (("/generate", whole), ("/generate_stream", stream))
    ]


def _read(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"The body cannot be read: {str(error)[:300]}", EXAMPLE) from None
    if not isinstance(found.get("parameters") or {}, dict):
        raise DataError("parameters is not an object.", EXAMPLE)
    return found


def _most(params: Mapping[str, Any], limit: int) -> int | None:
    """Tokens of the answer at most."""
    most = next((params[name] for name in COUNTS if params.get(name) is not None), None)
    if most is None:
        return None
    if type(most) is not int or most < 1:
        raise OptionError(f"max_tokens is {str(most)[:40]}; at least 1 was expected.", EXAMPLE)
    if limit and most > limit:
        raise Refused(f"max_tokens {most:,} is more than this service takes.", f"max_tokens: {limit}")
    return most


def _text(asked: Mapping[str, Any], info: ModelInfo) -> str:
    """The text of a request, for a model that writes."""
    inputs = info.signature.inputs
    if not info.writes:
        raise OptionError(f"{info.ref} ({info.task}) writes no text.", "Ask another model, or …/infer.")
    text = asked.get(TEXT, asked.get(inputs[0].name))
    if not isinstance(text, str):
        raise DataError(f"{TEXT} is not a text.", EXAMPLE)
    return text
