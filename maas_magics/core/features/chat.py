"""Conversations as texts, by the template of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from maas_magics.api.errors import DataError
from maas_magics.core.data.prose import Part

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Template of conversations that a network from scratch learns."""

MARKS = ("<|im_start|>", "<|im_end|>")
"""Its tokens around a message."""

MOST = 2**20
"""Letters of a text that a template makes."""


def rendered(template: str, messages: Sequence[Mapping[str, Any]], answer: bool, names: Mapping[str, Any]) -> str:
    """The text of a conversation.

    Parameters
    ----------
    template : str
        Jinja, run in a sandbox; where it is empty, the messages stand below each other.
    messages : sequence of mapping
        Each with its ``role`` and ``content``.
    answer : bool
        Whether an answer begins behind it.
    names : mapping
        What else the template may name.

    Raises
    ------
    DataError
        If they are not a conversation, or the template refuses them.
    """
    plain = [_checked(message, place) for place, message in enumerate(messages)]
    if not plain:
        raise DataError("The conversation has no messages.", '[{"role": "user", "content": "…"}]')
    if not template:
        return "\n".join(str(message["content"]) for message in plain)
    try:
        parts, size = [], 0
        for part in _compiled(template).generate(messages=plain, add_generation_prompt=answer, **names):
            parts.append(part)
            size += len(part)
            if size > MOST:
                raise DataError(f"The conversation has more than {MOST:,} letters.", "Send fewer messages.")
        return "".join(parts)
    except DataError:
        raise
    except Exception as error:  # a template raises what it likes
        raise DataError(f"The model's template refuses the conversation: {str(error)[:200]}") from None


def turns(template: str, messages: Sequence[Mapping[str, Any]], names: Mapping[str, Any]) -> list[Part]:
    """A conversation in parts, of which a network learns what the assistant says.

    Parameters
    ----------
    template : str
        As `rendered` takes it.
    messages : sequence of mapping
        Each with its ``role`` and ``content``.
    names : mapping
        What else the template may name.
    """
    found: list[Part] = []
    told = ""
    for place, message in enumerate(messages):
        if message.get("role") != "assistant":
            continue
        before = rendered(template, messages[:place], True, names) if place else ""
        whole = rendered(template, messages[: place + 1], False, names)
        start = next((at for at, (one, two) in enumerate(zip(before, whole, strict=False)) if one != two), len(before))
        if not whole.startswith(told):  # a template that writes older messages in another way
            found, told = [], ""
        found += [Part(whole[len(told) : start], False), Part(whole[start:], True)]
        told = whole
    return found


def _checked(message: Any, place: int) -> dict[str, Any]:
    """A message whose content is a text, of one or several parts."""
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise DataError(f"Message {place} has no role.", '{"role": "user", "content": "…"}')
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        content = "".join(part for part in parts if isinstance(part, str)) if None not in parts else None
    if content is None and message.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise DataError(f"The content of message {place} is not a text.", '{"role": "user", "content": "…"}')
    return {**message, "content": content}


@lru_cache(maxsize=16)
def _compiled(template: str) -> Any:
    """A template in the sandbox that transformers renders them in: it calls and changes nothing but plain values."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])

    def refuse(text: str) -> None:
        raise DataError(f"The model's template refuses the conversation: {text[:200]}")

    made.globals["raise_exception"] = refuse
    return made.from_string(template)
