"""Texts that a model writes, as a whole or as they come, in the form of OpenAI's API."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, ClassVar

import msgspec

from maas_magics.api.stream import Chunk, ChunkStream
from maas_magics.service.openai.tools import Tools


@dataclass(frozen=True)
class Form:
    """How answers of a kind are written down.

    Attributes
    ----------
    kind : {"text_completion", "chat.completion"}
    id : str
    model : str
        ``name:version`` that answers.
    created : int
        Seconds since 1970.
    """

    kind: str
    id: str
    model: str
    created: int

    last: ClassVar[bytes] = b"data: [DONE]\n\n"
    """What stands at the end of a stream."""

    @classmethod
    def of(cls, chat: bool, model: str) -> Form:
        """For an answer that begins now."""
        name, kind = ("chatcmpl", "chat.completion") if chat else ("cmpl", "text_completion")
        return cls(kind, f"{name}-{secrets.token_hex(12)}", model, int(time.time()))

    @property
    def chat(self) -> bool:
        """Whether answers are messages."""
        return self.kind == "chat.completion"

    def whole(self, answers: Sequence[Answer], usage: dict[str, int]) -> bytes:
        """All answers at once."""
        choices = []
        for place, one in enumerate(answers):
            said: dict[str, Any] = {"text": one.text}
            if self.chat:
                message = {"role": "assistant", "content": one.text or (None if one.calls else ""), "refusal": None}
                said = {"message": {**message, **({"tool_calls": one.calls} if one.calls else {})}}
            told = self._logprobs(one.tokens, one.told)
            choices.append({"index": place, **said, "logprobs": told, "finish_reason": one.end})
        return msgspec.json.encode({**self._head(self.kind), "choices": choices, "usage": usage})

    def _logprobs(self, tokens: Sequence[dict[str, Any]], told: bool, before: int = 0) -> dict[str, Any] | None:
        """Logarithms of tokens' shares in the form that a kind of answer has, behind so many letters of others."""
        if not told:
            return None
        if self.chat:
            each = [
                {**{name: value for name, value in one.items() if name != "top"}, "top_logprobs": one["top"]}
                for one in tokens
            ]
            return {"content": each, "refusal": None}
        texts = [one["token"] for one in tokens]
        return {
            "tokens": texts,
            "token_logprobs": [one["logprob"] for one in tokens],
            "top_logprobs": [{other["token"]: other["logprob"] for other in one["top"]} for one in tokens],
            "text_offset": list(accumulate(map(len, texts), initial=before))[:-1],
        }

    def part(
        self, place: int, text: str | None, end: str | None, first: bool, tokens: Any = None, before: int = 0
    ) -> bytes:
        """A chunk of one answer, as an event; its tokens come behind so many letters of others."""
        if self.chat:
            delta = {**({"role": "assistant"} if first else {}), **({"content": text} if text or first else {})}
            said: dict[str, Any] = {"delta": {**delta, **({"content": ""} if first and not text else {})}}
        else:
            said = {"text": text or ""}
        told = self._logprobs(tokens or (), tokens is not None, before)
        choice = {"index": place, **said, "logprobs": told, "finish_reason": end}
        return self._event({"choices": [choice]})

    def called(self, place: int, calls: Sequence[dict[str, Any]]) -> bytes:
        """A chunk of one answer with the calls that it makes, as an event."""
        told = [{"index": index, **call} for index, call in enumerate(calls)]
        choice = {"index": place, "delta": {"tool_calls": told}, "logprobs": None, "finish_reason": None}
        return self._event({"choices": [choice]})

    def used(self, usage: dict[str, int]) -> bytes:
        """The last chunk, which says what all answers took."""
        return self._event({"choices": [], "usage": usage})

    def _event(self, told: dict[str, Any]) -> bytes:
        kind = "chat.completion.chunk" if self.chat else self.kind
        return b"data: %s\n\n" % msgspec.json.encode({**self._head(kind), **told})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage_of(prompts: int, completion: int) -> dict[str, int]:
    """Tokens of prompts and of answers."""
    return {"prompt_tokens": prompts, "completion_tokens": completion, "total_tokens": prompts + completion}


@dataclass
class Answer:
    """One answer, as far as it is there.

    Attributes
    ----------
    text : str
    tokens : list of dict
        Those that came, with the logarithms of their shares, where they are told.
    told : bool
        Whether they are.
    end : str
        Why it ended.
    calls : list of dict
        Calls of functions.
    """

    text: str
    tokens: list[dict[str, Any]]
    told: bool = False
    end: str = "stop"
    calls: list[dict[str, Any]] = field(default_factory=list)


def parts_of(delta: Any) -> tuple[str, list[dict[str, Any]] | None]:
    """Text of a chunk, and its tokens where they are told."""
    return (delta["text"], delta["tokens"]) if isinstance(delta, dict) else (delta or "", None)


class Answering:
    """Answers of one request, on their way.

    Parameters
    ----------
    streams : sequence of ChunkStream
        One for each answer.
    ended : callable
        Gets why each ended, and how many chunks it had, once.
    choices : int
        Answers to each prompt.
    """

    def __init__(self, streams: Sequence[ChunkStream], ended: Callable[[str, int], None], choices: int) -> None:
        self._streams, self._ended, self._choices = streams, ended, choices
        self._left = len(streams)
        self.prompts = self.completion = 0
        """Tokens of the prompts, each counted once, and of the answers."""

    async def chunks(self) -> AsyncGenerator[tuple[int, Chunk]]:
        """Chunks of all answers as they come, each with the place of its answer."""
        queue: asyncio.Queue[tuple[int, Chunk | Exception]] = asyncio.Queue(64)

        async def read(place: int, stream: ChunkStream) -> None:
            count, outcome = 0, "error"
            try:
                async for chunk in stream:
                    count += 1
                    outcome = chunk.finish or outcome
                    await queue.put((place, chunk))
            except asyncio.CancelledError:
                outcome = "cancelled"
                raise
            except Exception as error:  # raised where the answers are read
                await queue.put((place, error))
            finally:
                stream.close()
                self._ended(outcome, count)

        tasks = [asyncio.ensure_future(read(place, stream)) for place, stream in enumerate(self._streams)]
        left = len(tasks)
        try:
            while left:
                place, found = await queue.get()
                if isinstance(found, Exception):
                    raise found
                if found.finish:
                    left -= 1
                    self._count(place, found)
                yield place, found
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _count(self, place: int, last: Chunk) -> None:
        if last.usage is not None:
            self.completion += last.usage.steps
            if place % self._choices == 0:
                self.prompts += last.usage.input

    @property
    def usage(self) -> dict[str, int]:
        """What they took so far."""
        return usage_of(self.prompts, self.completion)


def end_of(chunk: Chunk) -> str | None:
    """Why an answer ends, in their words."""
    return {"stop": "stop", "length": "length", "cancelled": "stop"}.get(chunk.finish)


CALLED = "tool_calls"
"""Why an answer ends that calls a function."""


async def gathered(form: Form, answering: Answering, before: Sequence[str], tools: Tools | None = None) -> bytes:
    """All answers, once they are there.

    Parameters
    ----------
    form, answering
    before : sequence of str
        What stands before each answer.
    tools : Tools or None
        Functions that may be called.
    """
    answers = [Answer(text, []) for text in before]
    async for place, chunk in answering.chunks():
        text, tokens = parts_of(chunk.delta)
        one = answers[place]
        one.text += text
        one.tokens += tokens or []
        one.told = one.told or tokens is not None
        one.end = end_of(chunk) or one.end
    if tools is not None:
        for one in answers:
            one.text, one.calls = tools.read(one.text)
            one.end = CALLED if one.calls and one.end == "stop" else one.end
    return form.whole(answers, answering.usage)
