"""A magic's line in words, and what a word stands for in the notebook."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from typing import Any

from maas_magics.api.errors import OptionError, did_you_mean

OPENING = {"(": ")", "[": "]", "{": "}"}
FILE_ENDINGS = (
    ".csv",
    ".tsv",
    ".txt",
    ".parquet",
    ".pq",
    ".jsonl",
    ".ndjson",
    ".json",
    ".arrow",
    ".feather",
    ".ipc",
    ".gz",
    ".bz2",
    ".zst",
)


def split(line: str) -> list[str]:
    """Words of a line. White space inside brackets or quotes does not part them; quotes around a whole word fall away.

    Raises
    ------
    OptionError
        If a quote or a bracket is left open.
    """
    words: list[str] = []
    word, quote, closing, inside = "", "", [], False
    for char in line.strip().removesuffix(";"):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in OPENING:
            closing.append(OPENING[char])
        elif closing and char == closing[-1]:
            closing.pop()
        elif char.isspace() and not closing:
            if inside:
                words.append(_bare(word))
            word, inside = "", False
            continue
        word, inside = word + char, True
    if quote or closing:
        raise OptionError(
            f"The line ends inside {'quotes' if quote else 'brackets'}: {word!r}.",
            f"Close them with {quote or closing[-1]}",
        )
    return [*words, _bare(word)] if inside else words


def _bare(word: str) -> str:
    if len(word) >= 2 and word[0] == word[-1] and word[0] in "\"'" and word[0] not in word[1:-1]:
        return word[1:-1]
    return word


def _single(word: str) -> bool:
    """Whether braces hold one expression, which is no dict."""
    try:
        node = ast.parse(word, mode="eval").body
    except SyntaxError:
        return False
    return isinstance(node, ast.Set) and len(node.elts) == 1


class Names:
    """What the words of one line stand for in the notebook.

    Parameters
    ----------
    variables : mapping
        The notebook's variables.
    """

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.variables = variables

    def expand(self, word: str) -> str:
        """A word that is ``$name`` or ``{expression}`` as its value in text; any other word as it is.

        Only whole words are looked at, so braces and dollar signs inside a text stay what they are.
        """
        if word.startswith("$") and word[1:].isidentifier():
            expression = word[1:]
        elif word.startswith("{") and _single(word):
            expression = word[1:-1]
        else:
            return word
        value = self.evaluate(expression)
        return str(value) if isinstance(value, (str, int, float, bool)) else expression

    def evaluate(self, expression: str) -> Any:
        """Value of an expression in the notebook.

        Raises
        ------
        OptionError
            If it has none.
        """
        try:
            return eval(expression, {"__builtins__": __builtins__}, self.variables)
        except NameError as error:
            missing = error.name or expression
            raise OptionError(f"There is no variable {missing!r}.", did_you_mean(missing, self._offered())) from None
        except Exception as error:
            raise OptionError(f"{expression!r} cannot be evaluated: {type(error).__name__}: {error}") from None

    def data(self, word: str) -> Any:
        """A variable, an expression of variables, or a path or URL."""
        if word in self.variables:
            return self.variables[word]
        if "://" in word or word.lower().endswith(FILE_ENDINGS) or os.path.exists(os.path.expanduser(word)):
            return word
        return self.evaluate(word)

    def number(self, word: str, kind: type[int] | type[float]) -> int | float:
        """A number, or a variable that holds one."""
        value = self.variables.get(word, word) if word.isidentifier() else word
        try:
            number = kind(value)
            if isinstance(value, bool) or (isinstance(value, float) and number != value == value):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise OptionError(f"{word!r} is no {'whole ' if kind is int else ''}number.") from None
        return number

    def module(self, word: str) -> Any:
        """A torch module or class in a variable, else the word itself, an architecture's name."""
        value = self.variables.get(word)
        if value is not None and (is_module(value) or isinstance(value, type) or callable(value)):
            return value
        if not word.isidentifier() and not word.replace("-", "_").isidentifier():
            return self.evaluate(word)
        return word

    def choice(self, word: str) -> Any:
        """A function in a variable, else the word itself, a registered name."""
        value = self.variables.get(word)
        return value if callable(value) else word

    def target(self, word: str, data: Any) -> Any:
        """A column's name, several separated by commas, or an array in a variable."""
        columns = column_names(data)
        if word in columns:
            return word
        if word in self.variables and not isinstance(self.variables[word], str):
            return self.variables[word]
        parts = tuple(part.strip() for part in word.split(","))
        if len(parts) > 1 and set(parts) <= set(columns):
            return parts
        if any(char in word for char in ("([" if columns else "([.")):
            return self.evaluate(word)
        return parts if len(parts) > 1 else word

    def _offered(self) -> list[str]:
        return [name for name, value in self.variables.items() if not name.startswith("_") and column_names(value)]


def column_names(data: Any) -> list[str]:
    """Names of the columns of a table or a dict of arrays; none for anything else."""
    names = getattr(data, "column_names", None) or getattr(data, "columns", None)
    if names is None and isinstance(data, Mapping):
        names = list(data)
    try:
        return [str(name) for name in names] if names is not None and not callable(names) else []
    except TypeError:
        return []


def is_module(value: Any) -> bool:
    """Whether it is a torch module; torch is not imported to tell."""
    return any(base.__module__.startswith("torch.nn.modules.module") for base in type(value).__mro__)
