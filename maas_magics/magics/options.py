"""Options of a magic, declared once: the parser, the help, the hints and the completion all come from there."""

from __future__ import annotations

import argparse
import ast
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from maas_magics.api.errors import MaasError, OptionError, did_you_mean
from maas_magics.api.tables import text_table
from maas_magics.magics.words import Names, split

Convert = Callable[[Names, str], Any]
Offer = Callable[["Typed"], Iterable[str]]


@dataclass(frozen=True)
class Typed:
    """A line that is being typed, for completion.

    Attributes
    ----------
    names : Names
    words : list of str
        Words before the one that is being typed.
    models, jobs : callable
        Names of the models in the store, ids of the jobs.
    """

    names: Names
    words: list[str]
    models: Callable[[], list[str]]
    jobs: Callable[[], list[str]]

    def value_of(self, *flags: str) -> str | None:
        """Word that follows a flag, or the first positional when no flag is given."""
        if not flags:
            return next((word for word in self.words if not word.startswith("-")), None)
        return next((after for word, after in zip(self.words, self.words[1:], strict=False) if word in flags), None)


def text(names: Names, word: str) -> str:
    """The word itself."""
    return word


def whole(names: Names, word: str) -> int:
    """A whole number."""
    return int(names.number(word, int))


def real(names: Names, word: str) -> float:
    """A number."""
    return float(names.number(word, float))


def commas(names: Names, word: str) -> tuple[Any, ...]:
    """Names separated by commas, each perhaps a function of the notebook."""
    return tuple(names.choice(part.strip()) for part in word.split(",") if part.strip())


def literal(word: str) -> Any:
    """A Python literal, several separated by commas as a tuple, else text."""
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(word.lower(), word)


def pair(names: Names, word: str) -> tuple[str, Any]:
    """``key=value``."""
    key, equals, value = word.partition("=")
    if not equals or not key.isidentifier():
        raise OptionError(f"{word!r} is no key=value.", "For example: hidden=256,128")
    found = names.variables.get(value) if value.isidentifier() else None
    return key, found if isinstance(found, (int, float, str, bool, tuple, list)) else literal(value)


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes
    ----------
    flags : tuple of str
        ``("--epochs",)``; a word without dashes is positional.
    help : str
        One line.
    convert : callable
        From a word to its value.
    metavar : str
        What stands in the help for its value.
    many : {"", "+", "*", "?"}
        How many words it takes; one when empty.
    switch : bool
        Takes no value.
    offer : callable or sequence
        Values to complete.
    choices : tuple of str
        The only values there are.
    required : bool
        Whether it must be given; a positional must, unless it takes ``"?"`` words.
    """

    flags: tuple[str, ...]
    help: str
    convert: Convert = text
    metavar: str = ""
    many: str = ""
    switch: bool = False
    offer: Offer | Sequence[str] = ()
    choices: tuple[str, ...] = ()
    required: bool = False

    @property
    def key(self) -> str:
        """Name of its value."""
        return max(self.flags, key=len).lstrip("-").replace("-", "_")

    @property
    def positional(self) -> bool:
        """Whether it has no dashes."""
        return not self.flags[0].startswith("-")

    @property
    def usage(self) -> str:
        """How it is typed: ``NAME``, ``--data DATA``."""
        word = self.metavar or self.flags[0].upper()
        if self.positional:
            return word
        return max(self.flags, key=len) + ("" if self.switch else f" {word}")

    @property
    def needed(self) -> bool:
        """Whether a line without it makes no sense."""
        return self.required or (self.positional and self.many != "?")


class HelpAsked(Exception):
    """Somebody typed ``--help``; carries the text."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(
            f"%{self.prog}: {message.removeprefix('argument ')}.", f"%{self.prog} --help lists the options."
        )


@dataclass(frozen=True)
class Command:
    """A magic's name, summary and options.

    Attributes
    ----------
    name : str
    summary : str
    options : tuple of Option
    example : str
        A line or two to copy.
    """

    name: str
    summary: str
    options: tuple[Option, ...]
    example: str = ""
    body: str = ""
    _parsers: list[argparse.ArgumentParser] = field(default_factory=list, compare=False)

    def parser(self) -> argparse.ArgumentParser:
        """The parser, made once."""
        if self._parsers:
            return self._parsers[0]
        parser = _Parser(prog=self.name, allow_abbrev=False, add_help=False)
        for option in self.options:
            given: dict[str, Any] = {"default": None}
            if option.switch:
                given["action"] = "store_true"
            elif option.positional:
                given["nargs"] = "*" if option.many == "+" else "?"
            elif option.many:
                given |= {"nargs": option.many, "action": "extend"}
            parser.add_argument(*option.flags, **given)
        self._parsers.append(parser)
        return parser

    def parse(self, line: str, names: Names) -> dict[str, Any]:
        """Values of a line, by option; only those that were given.

        Raises
        ------
        OptionError
            For an unknown option, a value of the wrong kind, or a missing one.
        HelpAsked
        """
        words = [names.expand(word) for word in split(line)]
        if "--help" in words or "-h" in words:
            raise HelpAsked(self.help())
        known = {flag for option in self.options for flag in option.flags}
        for word in words:
            flag = word.partition("=")[0]
            if flag.startswith("--") and flag not in known:
                raise OptionError(
                    f"%{self.name} has no option {flag}.", did_you_mean(flag, [k for k in known if k.startswith("--")])
                )
        parsed, unknown = self.parser().parse_known_intermixed_args(words)
        if unknown:
            what = "has no option" if unknown[0].startswith("-") else "cannot tell what this is for:"
            raise OptionError(f"%{self.name} {what} {unknown[0]}", f"%{self.usage}")
        found = vars(parsed)
        missing = next((option for option in self.options if option.needed and found[option.key] in (None, [])), None)
        if missing is not None:
            raise OptionError(f"%{self.name} needs {missing.usage}.", f"%{self.usage}")
        values: dict[str, Any] = {}
        for option in self.options:
            given = found[option.key]
            if given is None or option.switch:
                values |= {option.key: True} if given else {}
            elif isinstance(given, list):
                values[option.key] = [self._convert(option, names, word) for word in given]
            else:
                values[option.key] = self._convert(option, names, given)
        return values

    def _convert(self, option: Option, names: Names, word: str) -> Any:
        if option.choices and word not in option.choices:
            raise OptionError(
                f"{max(option.flags, key=len)}: there is no {word!r}.", did_you_mean(word, option.choices)
            )
        try:
            return option.convert(names, word)
        except MaasError as error:
            raise type(error)(f"{max(option.flags, key=len)}: {error.message}", error.hint) from None

    @property
    def usage(self) -> str:
        """A line to type: ``train NAME --data DATA [options]``."""
        optional = [f"[{option.usage}]" for option in self.options if option.positional and not option.needed]
        rest = ["[options]"] if any(not option.positional and not option.needed for option in self.options) else []
        return " ".join([self.name, *(option.usage for option in self.options if option.needed), *optional, *rest])

    def help(self) -> str:
        """The help text."""
        rows = []
        for option in self.options:
            flags = ", ".join(sorted(option.flags, key=len))
            rows.append((f"  {option.usage.replace(max(option.flags, key=len), flags, 1)}", option.help))
        parts = [f"usage: %{self.usage}", self.summary, text_table([*rows, ("  -h, --help", "this text")])]
        if self.body:
            parts.append(self.body)
        if self.example:
            parts.append("for example:\n" + textwrap.indent(self.example, "  "))
        return "\n\n".join(parts)

    def complete(self, typed: Typed, word: str) -> list[str]:
        """What the word being typed may become."""
        if word.startswith("-"):
            return sorted(
                max(o.flags, key=len)
                for o in self.options
                if not o.positional and max(o.flags, key=len) not in typed.words
            )
        positionals = [option for option in self.options if option.positional]
        filled = self._filled(typed)
        given = [option for flag in typed.words for option in self.options if flag in option.flags]
        last = given[-1] if given else None
        if last is not None and typed.words[-1] not in last.flags and (last.many != "+" or filled < len(positionals)):
            last = None
        if last is None or last.switch:
            last = positionals[filled] if filled < len(positionals) else None
        if last is None:
            return []
        return list(last.offer(typed) if callable(last.offer) else last.choices or last.offer)

    def _filled(self, typed: Typed) -> int:
        """How many positionals stand on the line already."""
        count, taking = 0, ""
        for word in typed.words:
            option = next((option for option in self.options if word in option.flags), None)
            if option is not None or word.startswith("-"):
                taking = "" if option is None or option.switch or "=" in word else option.many or "1"
            elif not taking:
                count += 1
            elif taking != "+":
                taking = ""
        return count
