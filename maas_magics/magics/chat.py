"""`%%chat`: a conversation with a model, which each cell continues."""

from __future__ import annotations

import html
import os
import time
from typing import Any

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import GenerateRequest, PredictRequest
from maas_magics.api.stream import ChunkStream
from maas_magics.magics import completions as offers
from maas_magics.magics.declared import options_of
from maas_magics.magics.options import Command, MagicOption, text
from maas_magics.magics.shell import Magic

EACH = 0.05
"""Seconds between two looks of an answer on its way: 20 a second."""

USUAL = 512
"""Tokens of an answer at most, where nothing is said."""

SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "json", "choice", "regex")

NOTES = {"length": " … (as many tokens as were wanted)", "cancelled": " … (stopped)"}
"""What stands behind an answer that did not end by itself."""

COMMAND = Command(
    "chat",
    "Say something to a model that writes; the next cell continues the conversation.",
    (
        MagicOption(("model",), "NAME, NAME:3 or NAME@alias", metavar="NAME", offer=offers.models),
        MagicOption(("message",), "what is said, in quotes; or the cell", text, "TEXT", "?"),
        *(option for option in options_of(PredictRequest) if option.name in SAMPLING),
        MagicOption(("--system",), "how the model is to answer, in quotes: begins a new conversation", text, "TEXT"),
        MagicOption(("--new",), "begin a new conversation", switch=True),
    ),
    example='%%chat writer --temperature 0.7\nWhat is a bird of prey?\n%chat writer "And what does it eat?"\n'
    "%chat writer --new",
    body="As a cell magic, the cell is what is said.",
)


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Say something, and show the answer as it comes."""
    values = COMMAND.parse(line, magic.names)
    name, said = values.pop("model"), values.pop("message", None)
    new, system = values.pop("new", False), values.pop("system", None)
    if cell is not None:
        if said is not None:
            raise OptionError("What is said stands in the cell, and on the line.", "%%chat NAME, or %chat NAME TEXT")
        said = cell.strip("\n")
    if not said and not new and system is None:
        raise OptionError("Nothing is said.", f'%chat {name} "Hello", or %%chat {name} and a text in the cell')
    magic.session.wait_for(name)
    talks: dict[str, list[dict[str, str]]] = magic.session.conversations
    messages = [] if new or system is not None else list(talks.get(name, ()))
    if system is not None:
        messages.append({"role": "system", "content": system})
    if not said:
        talks[name] = messages
        return None
    messages.append({"role": "user", "content": said})
    params = PredictRequest(model=name, data=None, **values).sampling
    stream = magic.session.generate(
        GenerateRequest(
            model=name, data={"messages": messages}, params=params, max_steps=values.get("max_tokens", USUAL)
        )
    )
    answer: list[str] = []
    try:
        _show(magic, stream, answer)
    finally:  # what is there when someone stops it stays
        stream.close()
        if answer:
            talks[name] = [*messages, {"role": "assistant", "content": "".join(answer)}]
    return None


def _show(magic: Magic, stream: ChunkStream, answer: list[str]) -> None:
    """Show an answer as it comes, a few times a second, and as a whole at its end."""
    there: Any = _Cell() if hasattr(magic.shell, "kernel") else _Terminal()
    live = os.environ.get("MAAS_UI") not in ("static", "off")
    shown = time.monotonic()
    finish = "cancelled"
    try:
        for chunk in stream:
            if chunk.delta:
                answer.append(str(chunk.delta))
            finish = chunk.finish or finish
            now = time.monotonic()
            if live and now - shown >= EACH:
                there.show("".join(answer), "")
                shown = now
    finally:
        note = NOTES.get(finish, "" if answer else "(the model ended its answer at once)")
        there.show("".join(answer), note)
        there.end()


class _Cell:
    """The output of a cell, where a text takes the place of the one before."""

    def __init__(self) -> None:
        from IPython.display import DisplayHandle

        self._handle: Any = DisplayHandle()  # type: ignore[no-untyped-call]
        self._begun = False

    def show(self, said: str, note: str) -> None:
        grey = f'<span style="opacity: 0.6">{html.escape(note)}</span>' if note else ""
        style = "white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5"
        plain = {"text/plain": said + note, "text/html": f'<div style="{style}">{html.escape(said)}{grey}</div>'}
        (self._handle.update if self._begun else self._handle.display)(plain, raw=True)
        self._begun = True

    def end(self) -> None:
        pass


class _Terminal:
    """A terminal, where a text grows."""

    def __init__(self) -> None:
        self._length = 0

    def show(self, said: str, note: str) -> None:
        print(said[self._length :] + note, end="", flush=True)
        self._length = len(said)

    def end(self) -> None:
        print()
