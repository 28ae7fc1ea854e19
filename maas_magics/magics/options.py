"""Options of a magic, declared once: the parser, the help, the hints and the completion all come from there."""

from __future__ import annotations

import argparse
import ast
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from maas_magics.api.errors import MaasError, OptionError, did_you_mean
from maas_magics.api.hints import meant
from maas_magics.api.tables import text_table
from maas_magics.magics import completions as offers
from maas_magics.magics.typed import Typed
from maas_magics.magics.words import Names, Quoted, parts, split

MARK = "\0"
"""Stands before a word in quotes, which is never an option."""

Convert = Callable[[Names, str], Any]
Offer = Callable[[Typed], Iterable[str]]


def text(names: Names, word: str) -> str:
    """The word itself."""
    return str(word)


def typed(names: Names, word: str) -> str:
    """The word with its quotes, for readers of more than the word."""
    return word


def whole(names: Names, word: str) -> int:
    """A whole number."""
    return int(names.number(word, int))


def real(names: Names, word: str) -> float:
    """A number."""
    return float(names.number(word, float))


def commas(names: Names, word: str) -> tuple[Any, ...]:
    """Names separated by commas; each may be a function of the notebook."""
    return tuple(names.choice(part) for part in parts(word))


def texts(names: Names, word: str) -> tuple[str, ...]:
    """Texts separated by commas, or those of a list in a variable."""
    held = None if isinstance(word, Quoted) else names.held(word)
    return tuple(map(str, held)) if isinstance(held, (list, tuple)) else tuple(parts(word))


def literal(word: str) -> Any:
    """A Python literal, several separated by commas as a tuple, else text."""
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(word.lower(), word)


def rate_of(names: Names, word: str) -> tuple[str, float]:
    """``pattern=rate``."""
    pattern, equals, rate = word.rpartition("=")
    if not equals or not pattern:
        raise OptionError(f"{word!r} is not of the form pattern=rate.", "For example: head.*=1e-3")
    return pattern, real(names, rate)


def epoch_of(names: Names, word: str) -> tuple[str, int]:
    """``pattern@epoch``."""
    pattern, at, epoch = word.rpartition("@")
    if not at or not pattern:
        raise OptionError(f"{word!r} is not of the form pattern@epoch.", "For example: encoder.*@5")
    return pattern, whole(names, epoch)


def real_or_auto(names: Names, word: str) -> float | str:
    """A number, or ``auto``."""
    return "auto" if word == "auto" else real(names, word)


def whole_or_auto(names: Names, word: str) -> int | str:
    """A whole number, or ``auto``."""
    return "auto" if word == "auto" else whole(names, word)


def callback(names: Names, word: str) -> Any:
    """A function, or an object that can be called, by an expression of the notebook.

    Raises
    ------
    OptionError
        If it cannot be called.
    """
    found = names.evaluate(word)
    if not callable(found):
        raise OptionError(f"{word!r} is of type {type(found).__name__}, not a function.", "def callback(event): …")
    return found


def pair(names: Names, word: str) -> tuple[str, Any]:
    """``key=value``."""
    key, equals, value = word.partition("=")
    if not equals or not key.isidentifier():
        raise OptionError(f"{word!r} is not of the form key=value.", "For example: hidden=256,128")
    found = names.held(value)
    return key, found if isinstance(found, (int, float, str, bool, tuple, list)) else literal(value)


def pairs(names: Names, word: str) -> list[tuple[str, str]]:
    """``key=name,other=name``."""
    found = []
    for part in parts(word):
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier() or not value:
            raise OptionError(f"{part!r} is not of the form argument=column.", "For example: ids=tokens,mask=mask")
        found.append((key, value))
    return found


def loss_of(names: Names, word: str) -> Any:
    """A loss, or a dict of one for each target: in a variable, or as ``a=mse,b=cross_entropy``."""
    held = names.held(word)
    if isinstance(held, Mapping):
        return dict(held)
    if "=" not in word or callable(held) or any(char in word for char in "([:"):
        return names.choice(word)
    return {key: names.choice(value) for key, value in pairs(names, word)}


NUMBERS: dict[Convert, Offer] = {
    whole: offers.whole_numbers,
    real: offers.numbers,
    whole_or_auto: offers.or_auto(offers.whole_numbers),
    real_or_auto: offers.or_auto(offers.numbers),
}
"""Variables that are offered for what is a number."""


NOTHING = Typed(Names({}), [], "", [], list, list, lambda model: [], lambda file: [])
"""A line of which nothing is there yet."""


@dataclass(frozen=True)
class MagicOption:
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
    listed : bool
        Whether one word holds several values, between commas.
    listing : bool
        Whether the help lists the values that are offered.
    name : str
        Of its value; as its longest flag where empty.
    gather : callable
        From the values of several words to one.
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
    listed: bool = False
    listing: bool = False
    name: str = ""
    gather: Callable[[list[Any]], Any] = list

    def offers(self, typed: Typed) -> Sequence[str]:
        """Values to complete."""
        offer = self.offer or NUMBERS.get(self.convert, self.choices)
        return list(offer(typed)) if callable(offer) else offer

    @property
    def told(self) -> str:
        """Its line of the help."""
        offered = self.offers(NOTHING) if self.listing else ()
        return f"{self.help}: {', '.join(offered)}" if offered else self.help

    @property
    def key(self) -> str:
        """Name of its value."""
        return self.name or max(self.flags, key=len).lstrip("-").replace("-", "_")

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
        """Whether a line must have it."""
        return self.required or (self.positional and self.many != "?")


def _marked(word: str) -> str:
    return f"{word.flag}{MARK}{word}" if isinstance(word, Quoted) else word


class HelpAsked(Exception):
    """The line has ``--help``; carries the text."""


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
    options : tuple of MagicOption
    example : str
        A line or two to copy.
    body : str
        The help of the cell.
    groups : dict of str to str
        Keys of options by the heading that they stand under in the help, in that order.
    """

    name: str
    summary: str
    options: tuple[MagicOption, ...]
    example: str = ""
    body: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
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
            if option.positional:
                parser.add_argument(option.key, **given)
            else:
                parser.add_argument(*option.flags, dest=option.key, **given)
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
        words = [_marked(names.expand(word)) for word in split(line)]
        if "--help" in words or "-h" in words:
            raise HelpAsked(self.help())
        self._check_flags(words)
        parsed, unknown = self.parser().parse_known_intermixed_args(words)
        if unknown:
            what = "has no option" if unknown[0].startswith("-") else "does not know what this is for:"
            raise OptionError(f"%{self.name} {what} {unknown[0].replace(MARK, '')}", f"%{self.usage}")
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
                values[option.key] = option.gather([self._convert(option, names, word) for word in given])
            else:
                values[option.key] = self._convert(option, names, given)
        return values

    def _check_flags(self, words: Sequence[str]) -> None:
        """Raise for an option that there is not, and for one that is given twice."""
        known = {flag: option for option in self.options for flag in option.flags if not option.positional}
        seen: set[str] = set()
        for word in words:
            flag = word.partition("=")[0]
            option = known.get(flag)
            if option is None and flag.startswith("--"):
                hint = meant(flag, [other for other in known if other.startswith("--")])
                raise OptionError(f"%{self.name} has no option {flag}.", hint or f"%{self.name} --help lists them.")
            if option is None:
                continue
            if option.key in seen:
                every = f", with all its values: {option.usage} …" if option.many else "."
                raise OptionError(f"{max(option.flags, key=len)} is given twice.", f"Give it once{every}")
            seen.add(option.key)

    def _convert(self, option: MagicOption, names: Names, word: str) -> Any:
        if word.startswith(MARK):
            word = Quoted(word[len(MARK) :])
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
        rows = {}
        for option in self.options:
            flags = ", ".join(sorted(option.flags, key=len))
            rows[option.key] = f"  {option.usage.replace(max(option.flags, key=len), flags, 1)}", option.told
        rows["help"] = "  -h, --help", "this text"
        lines = dict(zip(rows, text_table(list(rows.values())).splitlines(), strict=True))
        grouped = " ".join(self.groups.values()).split()
        listed = [line for key, line in lines.items() if key not in grouped and key != "help"]
        for head, keys in self.groups.items():
            listed += ["", f"{head}:", *(lines[key] for key in keys.split())]
        listed += [*([""] if self.groups else []), lines["help"]]
        parts = [f"usage: %{self.usage}", self.summary, "\n".join(listed)]
        if self.body:
            parts.append(self.body)
        if self.example:
            parts.append("for example:\n" + textwrap.indent(self.example, "  "))
        return "\n\n".join(parts)
