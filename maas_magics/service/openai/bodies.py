"""Bodies of requests as clients of OpenAI's API send them, and what each asks of a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeVar

import msgspec

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.requests import Priority
from maas_magics.service.openai.tools import Tools

T = TypeVar("T", bound="Sampled")

MOST_CHOICES, MOST_PROMPTS = 16, 64
"""Answers to a prompt, and prompts of a request."""


class StreamOptions(msgspec.Struct, frozen=True):
    """What a stream holds besides: with ``include_usage`` a last chunk that says what it took."""

    include_usage: bool | None = None


class Sampled(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests for text say; fields that are not known here are passed over, as other servers do."""

    model: str
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    guided_json: Any = None
    guided_choice: list[str] | None = None
    guided_regex: str | None = None
    service_tier: str | None = None
    priority: int | None = None

    @property
    def waits(self) -> Priority:
        """Whether someone waits for it: not in the tier ``flex``, nor with a priority above 0, as vLLM has it."""
        return "batch" if self.service_tier == "flex" or (self.priority or 0) > 0 else "interactive"

    @property
    def choices(self) -> int:
        """Answers to each prompt."""
        return 1 if self.n is None else self.n

    @property
    def most(self) -> int | None:
        """Tokens of an answer at most; as many as there is room for where it is None."""
        return self.max_tokens

    @property
    def form(self) -> Any:
        """Schema that the answer keeps to; True for any object, None for no form."""
        return self.guided_json

    @property
    def told(self) -> int | None:
        """How many tokens are told beside each that comes; None where none is told."""
        return None

    def params(self, place: int) -> dict[str, Any]:
        """Parameters of the answer of a place: each of several has a seed of its own.

        Parameters
        ----------
        place : int
            Of the answer, from 0.
        """
        asked = {
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "seed": None if self.seed is None else self.seed + place,
            "stop": self.stop,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "logit_bias": self.logit_bias,
            "json": self.form,
            "choice": self.guided_choice,
            "regex": self.guided_regex,
            "logprobs": self.told,
        }
        return {name: value for name, value in asked.items() if value is not None}


class Completion(Sampled, frozen=True, kw_only=True):
    """A request for texts that go on."""

    prompt: str | list[Any]
    echo: bool | None = None
    logprobs: int | None = None
    suffix: str | None = None

    @property
    def told(self) -> int | None:
        """How many tokens are told beside each that comes."""
        return self.logprobs

    @property
    def most(self) -> int | None:
        """Tokens of an answer at most: 16, as OpenAI has it, where nothing is said."""
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def prompts(self) -> list[str]:
        """The prompts, as texts.

        Raises
        ------
        OptionError
            If they are ids of tokens.
        """
        given = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        texts = [one for one in given if isinstance(one, str)]
        if len(texts) != len(given):
            raise OptionError("prompt holds ids of tokens; texts were expected.", '"prompt": "Once upon"')
        return texts


class Chat(Sampled, frozen=True, kw_only=True, dict=True):
    """A request for the next message of a conversation."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None

    @cached_property
    def functions(self) -> Tools | None:
        """Functions that may be called; None where there are none, or none may be."""
        if not self.tools:
            if self.tool_choice not in (None, "none", "auto"):
                raise OptionError("tool_choice asks for a call, and there are no tools.", '"tools": […]')
            return None
        found = Tools(self.tools, self.tool_choice, self.parallel_tool_calls is not False)
        return None if self.tool_choice == "none" else found

    @property
    def data(self) -> dict[str, Any]:
        """The conversation, as a model takes it."""
        tools = self.functions
        if tools is None:
            return {"messages": self.messages}
        return {"messages": self.messages, "tools": tools.given, "calls": tools.schema is not None}

    @property
    def form(self) -> Any:
        """Schema that the answer keeps to, by ``tool_choice`` or ``response_format``.

        Raises
        ------
        OptionError
            If it is not one.
        """
        answered = self._answered()
        wanted = self.functions.schema if self.functions is not None else None
        if wanted is not None and answered is not None:
            raise OptionError("An answer is a call, or keeps to response_format.", "Drop one of them.")
        return answered if wanted is None else wanted

    def _answered(self) -> Any:
        asked = self.response_format or {}
        kind = asked.get("type", "text")
        if kind == "json_object":
            return True
        if kind == "json_schema":
            told = asked.get("json_schema")
            if not isinstance(told, dict) or told.get("schema") is None:
                raise OptionError("response_format has no schema.", '{"type": "json_schema", "json_schema": {…}}')
            return told["schema"]
        if kind != "text":
            raise OptionError(f"response_format {str(kind)[:40]!r} is not known.", "text, json_object, or json_schema")
        return self.guided_json

    @property
    def told(self) -> int | None:
        """How many tokens are told beside each that comes."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def most(self) -> int | None:
        """Tokens of an answer at most."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """A request for vectors of texts."""

    model: str
    input: str | list[Any]
    encoding_format: str | None = None
    dimensions: int | None = None

    @property
    def texts(self) -> list[str]:
        """The texts.

        Raises
        ------
        OptionError
            If they are ids of tokens.
        """
        given = [self.input] if isinstance(self.input, str) else self.input
        texts = [one for one in given if isinstance(one, str)]
        if len(texts) != len(given) or not texts:
            raise OptionError("input is not a text, or a list of texts.", '"input": ["a text"]')
        return texts


def read(body: bytes, kind: type[T]) -> T:
    """A body, checked.

    Parameters
    ----------
    body : bytes
        JSON.
    kind : type
        What it is to be.

    Raises
    ------
    DataError
        If it is not.
    OptionError
        If it asks for something that is not answered here.
    """
    found = decoded(body, kind)
    prompts: Sequence[Any] = found.prompts if isinstance(found, Completion) else ("",)
    if not 1 <= found.choices <= MOST_CHOICES:
        raise OptionError(f"n is {found.choices}; 1 to {MOST_CHOICES} was expected.", '"n": 1')
    if not 1 <= len(prompts) <= MOST_PROMPTS:
        raise OptionError(f"prompt holds {len(prompts)} texts; 1 to {MOST_PROMPTS} were expected.", "")
    if found.most is not None and found.most < 1:
        raise OptionError(f"max_tokens is {found.most}; at least 1 was expected.", '"max_tokens": 16')
    if isinstance(found, Completion) and found.echo and found.logprobs is not None:
        raise OptionError("echo is not supported with logprobs: those of a prompt are not told.", "Leave out one.")
    if isinstance(found, Completion) and found.suffix:
        raise OptionError("suffix is not supported: a text is continued, not filled in.", "Leave it out.")
    return found


M = TypeVar("M")


def decoded(body: bytes, kind: type[M]) -> M:
    """JSON of a kind.

    Parameters
    ----------
    body : bytes
        JSON.
    kind : type
        What it is to be.

    Raises
    ------
    DataError
        If it is not.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"The body cannot be read: {str(error)[:300]}") from None
