"""A backend for any server of OpenAI's API: texts of its models, from the same cells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import numpy as np

from maas_magics.api.backend import Inferred
from maas_magics.api.errors import DataError, MaasError, NotFound, OptionError, ServiceError, did_you_mean
from maas_magics.api.requests import GenerateRequest, PredictRequest
from maas_magics.api.results import ModelInfo, Prediction
from maas_magics.api.signature import Signature, TensorSpec
from maas_magics.api.stream import ChunkStream
from maas_magics.core.data.prose import USUAL, before_answer, prompts_of
from maas_magics.core.data.sources import open_source
from maas_magics.remote import openai_stream
from maas_magics.remote.client import Client
from maas_magics.remote.only_inference import OnlyInference, OnlyModels, refuse

PROTOCOL = "OpenAI's API"

AT_A_TIME = 8
"""Rows that are asked for at a time."""

CHUNK = 256
"""Rows that are read at a time."""

PROMPT = "prompt"

TAKES = Signature(
    (TensorSpec(PROMPT, "BYTES", (-1, 1), "a text to continue"),), (TensorSpec("prediction", "BYTES", (-1, 1)),)
)


class _Model(msgspec.Struct, frozen=True):
    id: str
    created: float | None = None
    owned_by: str | None = None


class _Listed(msgspec.Struct, frozen=True):
    data: list[_Model]


class _Models(OnlyModels):
    """Models that a server lists; all of them are taken to write texts."""

    def list(self) -> Sequence[ModelInfo]:
        """Every one of them."""
        try:
            return [_info(one) for one in self._told(_Listed, "/models").data]
        except MaasError as error:
            if _elsewhere(error):
                raise
            raise self._no_such_server() from None

    def get(self, ref: str) -> ModelInfo:
        """What a name stands for: one of the list, or another one that the server knows, such as a version."""
        known = self.list()
        for info in known:
            if ref in (info.name, info.ref):
                return info
        try:
            return _info(self._told(_Model, f"/models/{quote(ref, safe=':@/')}"))
        except MaasError as error:
            if _elsewhere(error):
                raise
            there = did_you_mean(ref, [info.name for info in known])
            raise NotFound(f"{self._client.url} has no model {ref!r}.", there) from None

    def _told(self, kind: Any, path: str) -> Any:
        answer = self._client.request("GET", path, patience=3.0)
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError:
            raise self._no_such_server() from None

    def _no_such_server(self) -> ServiceError:
        told = f"{self._client.url}/models answered no list of models: this is not a server of {PROTOCOL}."
        return ServiceError(told, "%connect openai+https://HOST/v1")


def _elsewhere(error: MaasError) -> bool:
    """Whether an error is not about what was asked for: no server, or a token that is not known."""
    return isinstance(error, ServiceError) and "answered" not in error.message


def _info(told: _Model) -> ModelInfo:
    return ModelInfo(
        name=told.id,
        version=0,
        task="language",
        architecture=told.owned_by or "",
        created=told.created or 0.0,
        signature=TAKES,
        iterative=True,
    )


def with_path(url: str) -> str:
    """An address with the path of the API, which is ``/v1`` where none is named.

    Parameters
    ----------
    url : str
        Of a server.
    """
    return url if urlsplit(url).path else f"{url}/v1"


class OpenAIBackend(OnlyInference):
    """Asks the models of a server; a server that lists no models is none.

    Parameters
    ----------
    client : Client
        Speaks to the server.

    Raises
    ------
    ServiceError
        If it does not answer, or not as such a server does.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(client, PROTOCOL)
        self.models = _Models(client, PROTOCOL)
        self.models.list()

    def generate(self, request: GenerateRequest) -> ChunkStream:
        """What a model writes to a text, or in a conversation."""
        return openai_stream.generate(self._client, request, self._owner(request.model, request.params))

    def _owner(self, model: str, params: Mapping[str, Any]) -> str:
        """Who owns a model, where an answer is to keep to a form; only then it is asked for."""
        return self.models.get(model).architecture if any(form in params for form in openai_stream.FORMS) else ""

    def _predict(self, request: PredictRequest, notify: Callable[[int, int], None]) -> Prediction:
        if request.top or request.probabilities:
            raise OptionError(f"{request.model} writes texts, which have no labels.", "Drop --top and --proba.")
        most = USUAL if request.max_tokens is None else request.max_tokens
        if most < 1:
            raise OptionError(f"max_tokens is {most}; at least 1 was expected.", "--max-tokens 100")
        owner = self._owner(request.model, request.sampling)
        source = open_source(request.data, request.csv)
        found: list[str] = []
        for table in source.chunks(min(CHUNK, request.batch_size or CHUNK)):
            if table.num_rows:
                prompts = prompts_of(table, PROMPT, request.column)
                found += self._answers(prompts, request, most, owner, len(found))
                notify(len(found), source.rows or 0)
        if not found:
            raise DataError("The data has no rows.", "Give at least one row to predict.")
        columns = {"prediction": np.array(found, dtype=object)}
        return Prediction(model=request.model, columns=columns)

    def _answers(
        self, prompts: Sequence[Any], request: PredictRequest, most: int, owner: str, before: int
    ) -> Sequence[str]:
        """What is written to each prompt, several at a time; where one fails, the others are not waited for."""
        given_up = threading.Event()

        def answer(place: int) -> str:
            if given_up.is_set():
                return ""
            params = request.sampling
            if params.get("seed") is not None:
                params["seed"] += before + place
            prompt = prompts[place]
            data = prompt if isinstance(prompt, str) else {"messages": before_answer(prompt)}
            asked = GenerateRequest(model=request.model, data=data, params=params, max_steps=most)
            stream = openai_stream.generate(self._client, asked, owner)
            try:
                parts = []
                for chunk in stream:
                    if given_up.is_set():
                        return ""
                    parts.append(chunk.delta or "")
                return "".join(parts)
            finally:
                stream.close()

        with ThreadPoolExecutor(min(AT_A_TIME, len(prompts)), "maas-magics-ask") as threads:
            try:
                return list(threads.map(answer, range(len(prompts))))
            except BaseException:
                given_up.set()
                raise

    def infer(self, model: str, inputs: Mapping[str, Any]) -> Inferred:
        """No such thing in the protocol."""
        return refuse(PROTOCOL, "takes no tensors")

    def load(self, model: str, kv_memory: int | None = None) -> None:
        """No such thing in the protocol."""
        refuse(PROTOCOL, "loads no models on request")

    def unload(self, model: str) -> None:
        """No such thing in the protocol."""
        refuse(PROTOCOL, "unloads no models on request")
