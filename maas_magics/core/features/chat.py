"""Conversations as texts, by the template of a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from maas_magics.api.errors import DataError
from maas_magics.core.data.prose import Part
from maas_magics.core.features.templates import names_in, run

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Template of conversations that a network from scratch learns."""

MARKS = ("<|im_start|>", "<|im_end|>")
"""Its tokens around a message."""

CALL = "<tool_call>"
"""What stands before a call of a tool, where a template says so; the answer may then begin behind it."""


def rendered(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    answer: bool,
    names: Mapping[str, Any],
    tools: Sequence[Mapping[str, Any]] = (),
) -> str:
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
    tools : sequence of mapping
        Functions that may be called, as OpenAI's API describes them.

    Raises
    ------
    DataError
        If they are not a conversation, or the template refuses them or knows no tools.
    """
    plain = [_checked(message, place) for place, message in enumerate(messages)]
    if not plain:
        raise DataError("The conversation has no messages.", '[{"role": "user", "content": "…"}]')
    if tools and "tools" not in names_in(template):
        raise DataError("The template of the model's conversations knows no tools.", "Leave them out.")
    if not template:
        return "\n".join(str(message["content"]) for message in plain)
    given = {"tools": list(tools)} if tools else {}
    return run(template, {"messages": plain, "add_generation_prompt": answer, **names, **given})


def opening(template: str) -> str:
    """What an answer begins with that is a call of a tool.

    Parameters
    ----------
    template : str
        Jinja.
    """
    return f"{CALL}\n" if CALL in template else ""


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
    calls = message.get("tool_calls")
    if content is None and calls:
        content = ""
    if not isinstance(content, str):
        raise DataError(f"The content of message {place} is not a text.", '{"role": "user", "content": "…"}')
    return {**message, "content": content, **({"tool_calls": [_called(one, place) for one in calls]} if calls else {})}


def _called(call: Any, place: int) -> dict[str, Any]:
    """A call with its arguments as values, as templates take them: OpenAI's API has them as JSON."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise DataError(f"A call of message {place} names no function.", '{"function": {"name": …, "arguments": "{}"}}')
    given = function.get("arguments", {})
    if isinstance(given, str):
        try:
            given = json.loads(given or "{}")
        except (ValueError, RecursionError):
            raise DataError(f"The arguments of a call of message {place} are not JSON.", '"arguments": "{}"') from None
    return {**call, "function": {**function, "arguments": given}}
