"""Completion of options and of their values, in ``%train --mo⇥``, ``%%train`` and ``x = %train --mo⇥``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from maas_magics.api.errors import MaasError
from maas_magics.magics import maas
from maas_magics.magics.options import Command, MagicOption
from maas_magics.magics.scope import local_names
from maas_magics.magics.typed import Typed
from maas_magics.magics.words import Names, split, uncommented

if TYPE_CHECKING:
    from maas_magics.session import Session

LINE = re.compile(r"^(?:[^#'\"]*:)?\s*(?:[\w,. ]+=\s*|return\s+)?%{1,2}(\w+)\s(.*)$", re.DOTALL)

OPENED = re.compile(r"""(?:^|\s)((["'])[^"']*)$""")
"""A last word whose quotes are still open: spaces belong to it."""


def matches(context: Any, session: Callable[[], Session], shell: Any) -> Any:
    """What IPython's completer is offered for a line up to the cursor.

    Parameters
    ----------
    context : IPython.core.completer.CompletionContext
        The cell and the cursor.
    session : callable
        Returns the session, where one of the magics stands in the line.
    shell : InteractiveShell
        The shell whose variables may be named.

    Returns
    -------
    IPython.core.completer.SimpleMatcherResult
        The completions; other matchers are suppressed where there are some, or where the cursor is in a comment.
    """
    from IPython.core.completer import SimpleCompletion, SimpleMatcherResult

    found = LINE.match(context.text_until_cursor)
    if found is not None and found[1] != "maas" and found[1] not in maas.words():
        found = None
    commented = found is not None and not OPENED.search(found[2]) and len(uncommented(found[2])) < len(found[2].strip())
    if found is None or commented:
        return SimpleMatcherResult(completions=[], suppress=commented)
    above = "\n".join(context.full_text.split("\n")[: context.cursor_line])
    variables, local = {**shell.user_global_ns, **shell.user_ns}, local_names(above, context.text_until_cursor)
    offered, word = complete(found[1], found[2], session(), variables, local)
    quoted = [f'"{value}"' if re.search(r"\s", value) else value for value in offered]
    kind = "param" if word.startswith("-") else "value"
    typed = word.lstrip("\"'")
    shown = [SimpleCompletion(text, type=kind) for text in quoted if text.lstrip('"').startswith(typed)]
    return SimpleMatcherResult(completions=shown, matched_fragment=word, suppress=bool(shown), ordered=True)


def complete(
    name: str, line: str, session: Session, variables: dict[str, Any], local: list[str]
) -> tuple[list[str], str]:
    """What the last word of a magic's line may become, and that word.

    Parameters
    ----------
    name, line : str
        Of the magic, up to the cursor.
    session : Session
    variables : dict
        The notebook's.
    local : list of str
        Names of the function around, whose values no one knows yet.
    """
    opened = OPENED.search(line)
    start = opened.start(1) if opened else max(line.rfind(" "), line.rfind("\t")) + 1
    head, word = line[:start], line[start:]
    try:
        words: list[str] = split(head)
    except MaasError:
        return [], word
    command: Command | None
    if name == "maas":
        if not words:
            return [*maas.SUBCOMMANDS, *maas.words()], word
        name = words.pop(0)
        if name in maas.SUBCOMMANDS:
            command = maas.SUBCOMMANDS[name][0]
        else:
            known = maas.words()
            command = known[name].COMMAND if name in known else None
    else:
        command = maas.words()[name].COMMAND
    if command is None:
        return [], word
    typed = Typed(
        Names({name: value for name, value in variables.items() if name not in local}),
        words,
        word,
        local,
        session.model_names,
        lambda: [info.id for info in session.jobs()],
        session.version_names,
        lambda path: session.columns_of(path) if "://" not in path and os.path.exists(os.path.expanduser(path)) else [],
    )
    return offered(command, typed), word


def offered(command: Command, typed: Typed) -> list[str]:
    """What the word being typed may become: options that are required first, values as they are declared."""
    if typed.word.startswith("-"):
        flag, equals, value = typed.word.partition("=")
        option = next((option for option in command.options if flag in option.flags), None)
        if equals and option is not None:
            return [f"{flag}={found}" for found in _values(option, typed, value)]
        return _flags(command, typed)
    positionals = [option for option in command.options if option.positional]
    filled = _filled(command, typed)
    given = [option for flag in typed.words for option in command.options if flag in option.flags]
    last = given[-1] if given else None
    if last is not None and typed.words[-1] not in last.flags and (last.many != "+" or filled < len(positionals)):
        last = None
    if last is None or last.switch:
        last = positionals[filled] if filled < len(positionals) else None
    if last is None and positionals and positionals[-1].many == "+":
        last = positionals[-1]
    values = [] if last is None else _values(last, typed, typed.word)
    return values or ([] if typed.word else _flags(command, typed))


def _flags(command: Command, typed: Typed) -> list[str]:
    """Options that are not on the line, those that are required first."""
    words = {word.partition("=")[0] for word in typed.words}
    left = [option for option in command.options if not option.positional and not words & set(option.flags)]
    return [max(option.flags, key=len) for option in sorted(left, key=lambda option: not option.needed)]


def _values(option: MagicOption, typed: Typed, word: str) -> list[str]:
    if option.switch:
        return []
    before, comma, _ = word.rpartition(",") if option.listed else ("", "", "")
    found = option.offers(replace(typed, word=word.rpartition(",")[2] if comma else word))
    taken = set(before.split(",")) if comma else set()
    return [f"{before}{comma}{value}" for value in found if value not in taken]


def _filled(command: Command, typed: Typed) -> int:
    """How many positionals stand on the line already."""
    count, taking = 0, ""
    for word in typed.words:
        option = next((option for option in command.options if word in option.flags), None)
        if option is not None or word.startswith("-"):
            taking = "" if option is None or option.switch or "=" in word else option.many or "1"
        elif not taking:
            count += 1
        elif taking != "+":
            taking = ""
    return count
