"""Completion of options and of their values, in ``%train --mo⇥``, ``%%train`` and ``x = %train --mo⇥``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from maas_magics.api.errors import MaasError
from maas_magics.magics import maas
from maas_magics.magics.options import Command, Typed
from maas_magics.magics.words import Names, split

if TYPE_CHECKING:
    from maas_magics.session import Session

LINE = re.compile(r"^\s*(?:[\w, ]+=\s*)?%{1,2}(train|evaluate|export|predict|maas)\s(.*)$", re.DOTALL)

OPENED = re.compile(r"""(?:^|\s)((["'])[^"']*)$""")
"""A last word whose quotes are still open: spaces belong to it."""


def make_matcher(session: Session, shell: Any) -> Callable[[Any], Any]:
    """A matcher for ``shell.Completer.custom_matchers``."""
    from IPython.core.completer import SimpleCompletion, SimpleMatcherResult, context_matcher

    def match(context: Any) -> Any:
        found = LINE.match(context.text_until_cursor)
        if found is None:
            return SimpleMatcherResult(completions=[], suppress=False)
        offered, word = complete(found[1], found[2], session, shell.user_ns)
        quoted = [f'"{value}"' if re.search(r"\s", value) else value for value in offered]
        kind = "param" if word.startswith("-") else "value"
        typed = word.lstrip("\"'")
        shown = [SimpleCompletion(text, type=kind) for text in quoted if text.lstrip('"').startswith(typed)]
        return SimpleMatcherResult(completions=shown, matched_fragment=word, suppress=bool(shown))

    matcher: Callable[[Any], Any] = context_matcher(identifier="maas_magics", priority=200)(match)
    return matcher


def complete(name: str, line: str, session: Session, variables: dict[str, Any]) -> tuple[list[str], str]:
    """What the last word of a magic's line may become, and that word."""
    opened = OPENED.search(line)
    start = opened.start(1) if opened else line.rfind(" ") + 1
    head, word = line[:start], line[start:]
    try:
        words = split(head)
    except MaasError:
        return [], word
    command: Command | None
    if name == "maas":
        if not words:
            return [*maas.SUBCOMMANDS, *maas.MAGICS], word
        name = words.pop(0)
        command = (
            maas.SUBCOMMANDS[name][0]
            if name in maas.SUBCOMMANDS
            else maas.MAGICS[name].COMMAND
            if name in maas.MAGICS
            else None
        )
    else:
        command = maas.MAGICS[name].COMMAND
    if command is None:
        return [], word
    typed = Typed(Names(variables), words, session.model_names, lambda: [info.id for info in session.jobs()])
    return command.complete(typed, word), word
