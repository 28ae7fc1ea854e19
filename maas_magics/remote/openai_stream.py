"""Texts of servers of OpenAI's API as they are written: what is sent, and what comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import msgspec

from maas_magics.api.errors import DataError, OptionError, ServiceError, did_you_mean
from maas_magics.api.requests import GenerateRequest
from maas_magics.api.stream import Chunk, Finish, Usage
from maas_magics.api.wire import decode_error
from maas_magics.core.chunks import ChunkReader, Chunks, check
from maas_magics.remote.client import Client
from maas_magics.remote.generate_stream import ABSENT

PLAIN = ("temperature", "top_p", "top_k", "seed", "stop", "presence_penalty", "frequency_penalty", "logit_bias")
"""Parameters that are sent as they are called here."""

FORMS = ("json", "choice", "regex")

SLOW = httpx2.Timeout(600.0, connect=5.0)
"""For a server that reads a long prompt, or has others before it, and sends nothing meanwhile."""

DONE = "[DONE]"

OURS, VLLM, LLAMA = "maas_magics", "vllm", "llamacpp"
"""What servers say who owns their models; these keep to a form also where the API has none."""


def generate(client: Client, request: GenerateRequest, owner: str = "") -> ChunkReader:
    """Begin an answer.

    Parameters
    ----------
    client : Client
        Speaks to the server.
    request : GenerateRequest
        A text to go on with, or ``{"messages": […]}``; ``max_steps`` counts tokens, as many as the server likes when
        None.
    owner : str
        Who owns the model, as the server says; what it takes beside the API depends on it.

    Raises
    ------
    OptionError
        If a parameter is not known, or such a server has no such form.
    MaasError
        Whatever the server refuses.
    """
    check(request)
    data = _data(request.data)
    sampling, extra, talks = _sampling(request.params, owner)
    asked = {"model": request.model, "stream": True, **sampling, **extra}
    if request.max_steps is not None:
        asked["max_tokens"] = request.max_steps
    answer = None
    if isinstance(data, str) and not talks:
        answer = _open(client, "/completions", {**asked, "prompt": data}, ABSENT)
        if answer.status_code in ABSENT:  # no such path, or the model takes conversations alone
            answer.close()
            answer = None
    if answer is None:
        messages = [{"role": "user", "content": data}] if isinstance(data, str) else data
        answer = _open(client, "/chat/completions", {**asked, "messages": messages})
    chunks = Chunks()
    reader = ChunkReader(chunks, request.model)
    pump = threading.Thread(target=_read, args=(answer, chunks, request), name="maas-magics-generate", daemon=True)
    pump.start()
    return reader


def _open(client: Client, path: str, asked: dict[str, Any], allowed: tuple[int, ...] = ()) -> httpx2.Response:
    try:
        body = msgspec.json.encode(asked)
    except (TypeError, ValueError) as error:
        raise OptionError(f"The request cannot be sent: {error}", "Give texts, numbers and lists.") from None
    head = {"content-type": "application/json", "accept": "text/event-stream"}
    return client.open("POST", path, content=body, headers=head, repeat=False, allowed=allowed, timeout=SLOW)


def _data(data: Any) -> str | list[Any]:
    """A text, or the messages of a conversation."""
    if isinstance(data, Mapping) and len(data) == 1:
        (name, value), *_ = data.items()
        data = list(value) if name == "messages" and isinstance(value, (list, tuple)) else value
        if name == "messages" and not isinstance(data, list):
            raise DataError("messages is not a list of messages.", '{"messages": [{"role": "user", "content": "…"}]}')
        if name == "messages":
            return data  # type: ignore[no-any-return]
    while isinstance(data, (list, tuple)) and len(data) == 1:
        data = data[0]
    if not isinstance(data, str):
        raise DataError("A text, or the messages of a conversation, was expected.", '{"prompt": "Once upon"}')
    return data


def _sampling(params: Mapping[str, Any], owner: str) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """How tokens are chosen; what a form is in the server's words; whether only conversations have it."""
    given = {name: value for name, value in params.items() if value is not None}
    unknown = next((name for name in given if name not in (*PLAIN, *FORMS)), None)
    if unknown is not None:
        raise OptionError(
            f"There is no parameter {unknown!r} for a server of OpenAI's API.", did_you_mean(unknown, (*PLAIN, *FORMS))
        )
    forms = [form for form in FORMS if form in given]
    if len(forms) > 1:
        raise OptionError(f"An answer keeps to one form; {' and '.join(forms)} were given.", f"Drop {forms[1]}.")
    # The likeliest token where nothing is said, as in a kernel: such servers would draw one.
    sampling = {"temperature": 0.0, **{name: given[name] for name in PLAIN if name in given}}
    extra, talks = _formed(forms[0], given[forms[0]], owner) if forms else ({}, False)
    return sampling, extra, talks


def _formed(form: str, told: Any, owner: str) -> tuple[dict[str, Any], bool]:
    """A form in the words of a server, and whether only conversations have it there."""
    if form == "json" and isinstance(told, str):
        try:
            told = msgspec.json.decode(told)
        except msgspec.MsgspecError as error:
            raise OptionError(f"json=… is not a schema: {error}", 'json={"type": "object"}') from None
    schema = {"type": "object"} if told is True else told
    if owner == OURS:
        return {f"guided_{form}": schema}, False
    if owner == VLLM:  # the newer word, and the one before it
        return {"structured_outputs": {form: schema}, f"guided_{form}": schema}, False
    if owner == LLAMA and form == "json":
        return {"json_schema": schema}, False
    if owner == LLAMA and form == "choice":
        return {"grammar": "root ::= " + " | ".join(_quoted(one) for one in told)}, False
    if form == "json":
        named = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        return {"response_format": {"type": "json_object"} if told is True else named}, True
    raise OptionError(f"This server has no way to ask for {form}=…: OpenAI's API has JSON alone.", "json=… has one.")


def _quoted(text: str) -> str:
    """A text in the grammars of llama.cpp."""
    escaped = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escaped.get(letter, letter) for letter in str(text)) + '"'


def _read(answer: httpx2.Response, chunks: Chunks, request: GenerateRequest) -> None:
    """Read a connection to its end, as fast as the reader takes the chunks; closing it cancels the answer."""
    try:
        until = None if request.timeout is None else time.monotonic() + request.timeout
        finish: Finish = ""
        usage, index = None, 0
        for data in _events(answer):
            if data.strip() == DONE:  # not every server says why
                finish = finish or "stop"
                break
            event = _event(data)
            if not chunks.wait_for_room():
                return
            if until is not None and time.monotonic() > until:
                raise ServiceError(f"The answer took longer than {request.timeout:g} s.", "timeout=60")
            usage = _usage(event) or usage
            for choice in event.get("choices") or ():
                text = choice.get("text") or (choice.get("delta") or choice.get("message") or {}).get("content")
                if text:
                    chunks.put(Chunk(index, text))
                    index += 1
                if choice.get("finish_reason"):
                    finish = "length" if choice["finish_reason"] == "length" else "stop"
        if not finish:
            raise ServiceError("The server broke off before the answer's end.", "Try again.")
        chunks.put(Chunk(index, None, finish, usage))
    except (httpx2.TransportError, httpx2.StreamError) as error:
        chunks.fail(ServiceError(f"The server broke off: {type(error).__name__}.", "Try again."))
    except Exception as error:
        chunks.fail(error)
    finally:
        answer.close()


def _events(answer: httpx2.Response) -> Iterator[str]:
    """What the events of an answer hold, with the mark of its end; of one that is no stream, all that it holds."""
    if "text/event-stream" in answer.headers.get("content-type", ""):
        yield from (told.data for told in httpx2.EventSource(answer, max_event_size=None))
    else:
        yield answer.read().decode(errors="replace")


def _event(data: str) -> dict[str, Any]:
    try:
        event = msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ServiceError(f"The server's answer cannot be read: {error}") from None
    if event.get("error"):
        raise decode_error(data.encode(), f"The server refuses it: {str(event['error'])[:300]}")
    return event


def _usage(event: Mapping[str, Any]) -> Usage | None:
    """What an answer took, where an event says it."""
    told = event.get("usage")
    if not isinstance(told, dict):
        return None
    return Usage(int(told.get("prompt_tokens") or 0), int(told.get("completion_tokens") or 0))
