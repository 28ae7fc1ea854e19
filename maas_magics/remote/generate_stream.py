"""Texts of servers of other makes as they are written: the generate extension of the Open Inference Protocol.

A request names inputs by one JSON object each, and is answered by events, ``data: {"text_output": …}``, as KServe's
specification has it and Triton, its vLLM and TensorRT-LLM backends and the runtimes of KServe answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import httpx2
import msgspec
import numpy as np

from maas_magics.api.errors import DataError, OptionError, ServiceError
from maas_magics.api.requests import GenerateRequest
from maas_magics.api.signature import TensorSpec
from maas_magics.api.stream import Chunk, Finish
from maas_magics.core.chunks import ChunkReader, Chunks, check
from maas_magics.remote.client import Client
from maas_magics.remote.oip import path_of

TEXT, ANSWER = "text_input", "text_output"
"""Names of the input and the output where a model has those of the specification."""

ABSENT = (404, 405, 501)
"""Statuses of a server, or of a model of it, that streams nothing."""

ABOUT = ("model_name", "model_version", "id", "sequence_id", "sequence_start", "sequence_end", "finish_reason", "error")
"""Fields of an event that are not outputs."""


def generate(client: Client, request: GenerateRequest, specs: Sequence[TensorSpec]) -> ChunkReader | None:
    """Begin an answer; None where the server streams none of this model, or is given no text.

    Parameters
    ----------
    client : Client
    request : GenerateRequest
        ``max_steps`` counts events.
    specs : sequence of TensorSpec
        Inputs of the model; none where the server does not report any.

    Raises
    ------
    OptionError
        If the parameters cannot be sent.
    MaasError
        Whatever the server refuses.
    """
    inputs = _inputs(request.data, specs)
    if inputs is None:
        return None
    check(request)
    try:
        body = msgspec.json.encode({**inputs, **({"parameters": request.params} if request.params else {})})
    except (TypeError, ValueError) as error:
        raise OptionError(f"The parameters cannot be sent: {error}", "Give numbers and texts.") from None
    answer = client.open(
        "POST",
        path_of(request.model) + "/generate_stream",
        content=body,
        headers={"content-type": "application/json", "accept": "text/event-stream"},
        repeat=False,
        allowed=ABSENT,
    )
    if answer.status_code in ABSENT:
        answer.close()
        return None
    chunks = Chunks()
    reader = ChunkReader(chunks, request.model)
    pump = threading.Thread(target=_read, args=(answer, chunks, request), name="maas-magics-generate", daemon=True)
    pump.start()
    return reader


def _inputs(data: Any, specs: Sequence[TensorSpec]) -> dict[str, Any] | None:
    """Values by their inputs; None where there is no text among them, or more than one value of an input."""
    if isinstance(data, str):
        texts = [spec.name for spec in specs if spec.datatype == "BYTES"]
        name = TEXT if TEXT in texts or not specs else texts[0] if len(texts) == 1 else ""
        return {name: data} if name else None
    if not isinstance(data, Mapping):
        return None
    found = {str(name): value.item() if isinstance(value, np.generic) else value for name, value in data.items()}
    plain = all(isinstance(value, (str, int, float, bool)) for value in found.values())
    return found if plain and any(isinstance(value, str) for value in found.values()) else None


def _read(answer: httpx2.Response, chunks: Chunks, request: GenerateRequest) -> None:
    """Read a connection to its end, as fast as the reader takes the chunks; closing it cancels the answer."""
    try:
        until = None if request.timeout is None else time.monotonic() + request.timeout
        finish: Finish = "stop"
        index = 0
        for data in _events(answer):
            event = _event(data)
            if not chunks.wait_for_room():
                return
            if until is not None and time.monotonic() > until:
                raise ServiceError(f"The answer took longer than {request.timeout:g} s.", "timeout=60")
            delta = _delta(event)
            if delta is not None:
                chunks.put(Chunk(index, delta))
                index += 1
            finish = "length" if event.get("finish_reason") == "length" else finish
            if request.max_steps is not None and index >= request.max_steps:
                finish = "length"
                break
        chunks.put(Chunk(index, None, finish))
    except (httpx2.TransportError, httpx2.StreamError) as error:
        chunks.fail(ServiceError(f"The server broke off: {type(error).__name__}.", "Try again."))
    except Exception as error:
        chunks.fail(error)
    finally:
        answer.close()


def _events(answer: httpx2.Response) -> Any:
    """What the events of an answer hold; of one that is no stream, all that it holds."""
    if "text/event-stream" not in answer.headers.get("content-type", ""):
        yield answer.read().decode(errors="replace")
        return
    for told in httpx2.EventSource(answer, max_event_size=None):
        if told.data.strip() == "[DONE]":
            return
        yield told.data


def _event(data: str) -> dict[str, Any]:
    try:
        event = msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ServiceError(f"The server's answer cannot be read: {error}") from None
    if event.get("error"):
        raise DataError(f"The server refuses it: {event['error']}")
    return event


def _delta(event: dict[str, Any]) -> Any:
    """The text of an event, or its outputs by name where it has others; None where it has none."""
    if ANSWER in event:
        return cast(Any, event[ANSWER])
    found = {name: value for name, value in event.items() if name not in ABOUT}
    return None if not found else next(iter(found.values())) if len(found) == 1 else found
