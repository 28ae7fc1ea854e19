"""Functions that a model may call, as texts: what is asked of it, and the calls that are found in what it writes."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from maas_magics.api.errors import OptionError

MOST = 128
"""Functions of a request."""

MARK, END = "<tool_call>", "</tool_call>"
"""What stands around a call, where a template says so; elsewhere an answer that is a call is nothing but JSON."""

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

NONE = {"type": "object", "properties": {}, "additionalProperties": False}
"""What a function without parameters is given."""

EXAMPLE = '{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", …}}}'


class Tools:
    """Functions of a request.

    Parameters
    ----------
    given : sequence of Any
        As they were sent.
    choice : Any
        ``tool_choice``: ``"auto"``, ``"none"``, ``"required"``, or the function that is to be called.
    several : bool
        Whether an answer may call more than one.

    Raises
    ------
    OptionError
        If they are not valid.
    """

    def __init__(self, given: Sequence[Any], choice: Any, several: bool = True) -> None:
        if len(given) > MOST:
            raise OptionError(f"tools holds {len(given):,} functions; {MOST} at most were expected.", "")
        self._functions = dict(map(_function, given))
        if len(self._functions) < len(given):
            raise OptionError("Two tools have the same name.", "")
        self.given = list(given)
        self._several = several
        named = _named(choice)
        if named and named not in self._functions:
            raise OptionError(f"tool_choice names {named[:64]!r}, which is not among the tools.", "")
        wanted = [named] if named else list(self._functions)
        self.schema = _schema([self._functions[name] for name in wanted]) if named or choice == "required" else None
        """What an answer keeps to that is to be a call; None where the model decides."""

    def read(self, text: str) -> tuple[str, list[dict[str, Any]]]:
        """What an answer says, and the calls in it, in the form of OpenAI's API.

        Parameters
        ----------
        text : str
            The whole answer.
        """
        said, mark, rest = text.partition(MARK)
        bodies = [part.partition(END)[0] for part in rest.split(MARK)] if mark else [text]
        found = [call for body in bodies for call in self._calls(body)]
        if not found:
            return text, []
        return (said.strip() if mark else ""), found if self._several else found[:1]

    def _calls(self, text: str) -> list[dict[str, Any]]:
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            return []
        each = told if isinstance(told, list) else [told]
        calls = [self._call(one) for one in each]
        return [] if None in calls else [call for call in calls if call is not None]

    def _call(self, told: Any) -> dict[str, Any] | None:
        """A call, where some JSON is one: the name of a function, and its arguments."""
        if not isinstance(told, Mapping):
            return None
        told = told["function"] if isinstance(told.get("function"), Mapping) else told
        name, given = told.get("name"), told.get("arguments", told.get("parameters", {}))
        if not isinstance(name, str) or name not in self._functions:
            return None
        text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        function = {"name": name, "arguments": text}
        return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


class Held:
    """An answer as it comes, of which what may be a call is held back.

    Parameters
    ----------
    tools : Tools or None
        Functions that may be called; of an answer without any, nothing is held back.
    """

    def __init__(self, tools: Tools | None) -> None:
        self._tools = tools
        self._text = ""
        self._said = self._calls = False

    def add(self, text: str) -> str:
        """Letters that are certain to be said.

        Parameters
        ----------
        text : str
            What came.
        """
        if self._tools is None:
            return text
        self._text += text
        if not self._said and self._text.lstrip()[:1] in ("", "{", "["):
            return ""
        if self._calls:
            return ""
        place = self._text.find(MARK)
        self._calls = place >= 0
        if not self._calls:
            most = min(len(MARK) - 1, len(self._text))
            begun = next((size for size in range(most, 0, -1) if self._text.endswith(MARK[:size])), 0)
            place = len(self._text) - begun
        said, self._text = self._text[:place], self._text[place:]
        self._said = self._said or bool(said)
        return said

    def rest(self) -> tuple[str, list[dict[str, Any]]]:
        """What was held back: letters, or calls."""
        text, self._text = self._text, ""
        return self._tools.read(text) if self._tools is not None else (text, [])


def _function(tool: Any) -> tuple[str, dict[str, Any]]:
    """A function by its name, checked."""
    known = isinstance(tool, Mapping) and tool.get("type", "function") == "function"
    function = tool.get("function") if known else None
    if not isinstance(function, Mapping):
        raise OptionError("A tool is not a function.", EXAMPLE)
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise OptionError("The name of a tool is not 1 to 64 letters, digits, dots, dashes and underscores.", EXAMPLE)
    if parameters is not None and not isinstance(parameters, Mapping):
        raise OptionError(f"The parameters of the tool {name!r} are not a schema.", EXAMPLE)
    return name, {"name": name, "parameters": dict(parameters or NONE)}


def _named(choice: Any) -> str:
    """The function that is to be called; empty where none is named."""
    if choice is None or choice in ("auto", "none", "required"):
        return ""
    function = choice.get("function") if isinstance(choice, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise OptionError(
            f"tool_choice {str(choice)[:40]!r} is not known.",
            'auto, none, required, or {"type": "function", "function": {"name": …}}',
        )
    return str(function["name"])


def _schema(functions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A schema of one call of some functions; what their own schemas refer to by name stands beside it."""
    calls, shared = [], dict[str, dict[str, Any]]()
    for function in functions:
        parameters = dict(function["parameters"])
        for key in ("$defs", "definitions"):
            for name, schema in (parameters.pop(key, None) or {}).items():
                if shared.setdefault(key, {}).setdefault(name, schema) != schema:
                    raise OptionError(f"Two tools mean different schemas by {name!r}.", "Rename one.")
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": function["name"]}, "arguments": parameters},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return {**(calls[0] if len(calls) == 1 else {"anyOf": calls}), **shared}
