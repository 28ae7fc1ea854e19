"""A magic's line in words, and what a word stands for in the notebook."""

from __future__ import annotations

import ast
import glob
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from maas_magics.api.errors import OptionError, did_you_mean

OPENING = {"(": ")", "[": "]", "{": "}"}
QUOTES = "\"'"
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


class Quoted(str):
    """A word that stood in quotes: text, never a variable or an expression.

    Attributes
    ----------
    flag : str
        ``--out=``, where the quotes follow that.
    """

    flag = ""


FLAG = re.compile(r"--?[A-Za-z][\w-]*=")
"""What may stand before quotes that are a whole value."""


def split(line: str) -> list[str]:
    """Words of a line; a comment behind them falls away.

    White space inside brackets or quotes does not part words. Quotes around a whole word, or around the whole value
    behind ``--option=``, make it `Quoted`; a backslash before a quote or a backslash takes it as it is there.

    Raises
    ------
    OptionError
        If a quote or a bracket is left open.
    """
    words, end, left, escapes = _read(line)
    if left:
        raise OptionError(
            f"The line ends inside {'quotes' if left in QUOTES else 'brackets'}: {words[-1]!r}.",
            f"Close them with {left}",
        )
    if words and line[:end].rstrip().endswith(";"):
        words[-1] = words[-1].removesuffix(";")
    return [_bare(word, escapes) for word in words if word]


def uncommented(line: str) -> str:
    """A line without the comment behind it, and without white space at its ends."""
    return line[: _read(line)[1]].strip()


def _read(line: str) -> tuple[list[str], int, str, bool]:
    """What `_scan` finds, and whether backslashes escape: not where that leaves quotes open, as at a folder's end."""
    found = _scan(line, escapes=True)
    if found[2] and found[2] in QUOTES:
        plain = _scan(line, escapes=False)
        if not plain[2]:
            return (*plain, False)
    return (*found, True)


def _scan(line: str, escapes: bool) -> tuple[list[str], int, str]:
    """Words as they stand, where the comment begins, and what is left open."""
    words: list[str] = []
    word, quote, closing, place = "", "", list[str](), 0
    while place < len(line):
        char = line[place]
        if quote:
            if char == "\\" and escapes:
                place += 1
                char += line[place : place + 1]
            elif char == quote:
                quote = ""
        elif char in QUOTES:
            quote = char
        elif char in OPENING:
            closing.append(OPENING[char])
        elif closing:
            if char == closing[-1]:
                closing.pop()
        elif char.isspace():
            if word:
                words.append(word)
            word = char = ""
        elif char == "#" and (not word or word[-1] in "\"')]};"):
            break
        word += char
        place += 1
    return ([*words, word] if word else words), min(place, len(line)), quote or (closing[-1] if closing else "")


def _bare(word: str, escapes: bool) -> str:
    """A word without the quotes around it; as it stands where they are not around the whole of it."""
    found = FLAG.match(word)
    flag = found[0] if found else ""
    value = word[len(flag) :]
    if len(value) < 2 or value[0] not in QUOTES or value[-1] != value[0]:
        return word
    inside, quote = value[1:-1], value[0]
    rest = re.sub(r"\\.", "", inside, flags=re.DOTALL) if escapes else inside
    if quote in rest:
        return word
    quoted = Quoted(re.sub(r"\\([\\\"'])", r"\1", inside) if escapes else inside)
    quoted.flag = flag
    return quoted


def _single(word: str) -> bool:
    """Whether braces hold one expression, which is not a dict."""
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

        So are what follows the name in ``hf:{folder}``, and what a path begins with, ``{folder}/file``. Only whole
        words are looked at otherwise, and none in quotes, so braces and dollar signs inside a text stay what they are.
        A value that is a text and names no variable, or a path, is as if in quotes: it is never run.
        """
        if isinstance(word, Quoted):
            return word
        if word.startswith("$") and word[1:].isidentifier():
            expression = word[1:]
        elif word.startswith("{") and _single(word):
            expression = word[1:-1]
        else:
            folder, slash, file = word.rpartition("}/")
            value = self._behind(f"{folder}}}") if slash else None
            if value is not None:
                return Quoted(f"{value}/{file}")
            head, colon, rest = word.partition(":")
            value = self._behind(rest) if colon and head.isidentifier() else None
            return word if value is None else Quoted(f"{head}:{value}")
        value = self.evaluate(expression)
        if isinstance(value, os.PathLike) or (isinstance(value, str) and value not in self.variables):
            return Quoted(os.fspath(value))
        return str(value) if isinstance(value, (str, int, float, bool)) else expression

    def _behind(self, rest: str) -> str | None:
        """The text or path that ``$name`` or ``{expression}`` holds; None for anything else."""
        braced = rest.startswith("{") and _single(rest)
        if not braced and not (rest.startswith("$") and rest[1:].isidentifier()):
            return None
        value = self.evaluate(rest[1:-1] if braced else rest[1:])
        return os.fspath(value) if isinstance(value, (str, os.PathLike)) else None

    def evaluate(self, expression: str) -> Any:
        """Value of an expression in the notebook.

        Raises
        ------
        OptionError
            If it has none.
        """
        try:
            # As the one scope of the expression: functions and comprehensions in it see no other.
            return eval(expression, {"__builtins__": __builtins__, **self.variables})
        except NameError as error:
            missing = error.name or expression
            raise OptionError(f"There is no variable {missing!r}.", did_you_mean(missing, self._offered())) from None
        except Exception as error:
            raise OptionError(f"{expression!r} cannot be evaluated: {type(error).__name__}: {error}") from None

    def held(self, word: str) -> Any:
        """What a variable, or an attribute of one, holds; None for any other word, and for one in quotes."""
        if isinstance(word, Quoted):
            return None
        root, dot, _ = word.partition(".")
        if not dot or root not in self.variables or not all(part.isidentifier() for part in word.split(".")):
            return self.variables.get(word)
        return self.evaluate(word)

    def data(self, word: str) -> Any:
        """A variable, an expression of variables, or a path or URL; in quotes, a path or URL.

        Raises
        ------
        OptionError
            For quotes around what is a variable or an expression of one.
        """
        found = self.rows(word)
        if isinstance(found, Quoted):
            if _root(word) in self.variables:
                raise OptionError(
                    f"{str(word)!r} is a text, as quotes make it.", f"Without quotes it is the variable: {word}"
                )
            return str(found)
        return found

    def rows(self, word: str) -> Any:
        """The same; and in quotes, what is neither path nor URL stays a text, `Quoted`."""
        if word in self.variables and not isinstance(word, Quoted):
            return self.variables[word]
        if is_place(word):
            return str(word)
        if isinstance(word, Quoted):
            return word
        try:
            return self.evaluate(word)
        except OptionError as error:
            near = error.hint.startswith("Did you mean") and "/" not in word
            if not _like_path(word) or near or _root(word) in self.variables:
                raise
            raise OptionError(
                f"There is no file {word!r}, and no variable of this name.",
                f"The working folder is {os.getcwd()!r}.",
            ) from None

    def number(self, word: str, kind: type[int] | type[float]) -> int | float:
        """A number, or a variable that holds one."""
        value = self.held(word)
        value = word if value is None else value
        try:
            number = kind(value)
            if isinstance(value, bool) or (isinstance(value, float) and number != value == value):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise OptionError(f"{str(word)!r} is not a {'whole ' if kind is int else ''}number.") from None
        return number

    def module(self, word: str) -> Any:
        """A torch module or class in a variable, else the word itself, an architecture's name."""
        if isinstance(word, Quoted):
            return str(word)
        value = self.held(word)
        if value is not None and (is_module(value) or isinstance(value, type) or callable(value)):
            return value
        head, colon, ref = word.partition(":")
        if colon and head.isidentifier() and ref and not ref.startswith("="):
            return word  # NAME:REF, such as a folder
        if not word.isidentifier() and not word.replace("-", "_").isidentifier():
            return self.evaluate(word)
        return word

    def thing(self, word: str) -> Any:
        """What a variable holds, else the word itself, such as a path, also where it begins like a variable."""
        root, _, rest = word.partition(".")
        if is_place(word) or (_like_path(word) and rest.isidentifier() and not hasattr(self.held(root), rest)):
            return str(word)
        value = self.held(word)
        return str(word) if value is None else value

    def choice(self, word: str) -> Any:
        """A function in a variable or of an expression, else the word itself, a registered name.

        Raises
        ------
        OptionError
            For an expression of anything but a function or a name.
        """
        value = self.held(word)
        if callable(value):
            return value
        if isinstance(word, Quoted) or not (any(char in word for char in "([") or word.startswith("lambda")):
            return str(word)
        value = self.evaluate(word)
        if not callable(value) and not isinstance(value, str):
            raise OptionError(f"{word!r} is of type {type(value).__name__}, not a function.", "A name, or a function.")
        return value

    def target(self, word: str, data: Any, read: Callable[[Any], Sequence[str]] | None = None) -> Any:
        """A column's name, several separated by commas, or, where there is no such column, an array in a variable.

        ``read`` finds the columns of data that is not a table; it is called where the word may be more than a column.
        """
        columns = column_names(data)
        if not columns and read is not None and (word in self.variables or not word.isidentifier()):
            columns = list(read(data))
        if word in columns:
            return str(word)
        near = [name for name in columns if name.strip().casefold() == str(word).strip().casefold()]
        if len(near) == 1 and near[0].strip() == str(word).strip():
            return near[0]
        if near and isinstance(data, (str, os.PathLike)):
            return str(word)  # which is refused as nearly a column: no variable of that name is meant
        if not isinstance(word, Quoted):
            value = self.held(word)
            if value is not None and not isinstance(value, str):
                return value
        several = tuple(parts(word))
        if several and several != (word,) and set(several) <= set(columns):
            return several if len(several) > 1 else several[0]
        if not isinstance(word, Quoted) and any(char in word for char in ("([" if columns else "([.")):
            return self.evaluate(word)
        return several if len(several) > 1 else str(word)

    def listed(self, word: str, data: Any, read: Callable[[Any], Sequence[str]]) -> tuple[str, ...]:
        """Names of columns between commas; a column whose own name has commas where there is one."""
        found = tuple(parts(word))
        if "," in word and word in (column_names(data) or read(data)):
            return (str(word),)
        return found

    def _offered(self) -> list[str]:
        return [name for name, value in self.variables.items() if not name.startswith("_") and column_names(value)]


def parts(word: str) -> list[str]:
    """What stands between the commas of a word: none within quotes around a part, or within brackets, is one of them.

    A part loses the quotes around it; of a word that was in quotes as a whole, every comma counts.
    """
    if isinstance(word, Quoted):
        return [part.strip() for part in word.split(",") if part.strip()]
    found, quote, depth, escaped = [""], "", 0, False
    for char in word:
        if quote:
            quote = "" if char == quote and not escaped else quote
            escaped = char == "\\" and not escaped
        elif char in QUOTES and (depth or not found[-1].strip()):
            quote = char
        elif char in OPENING:
            depth += 1
        elif char in OPENING.values():
            depth -= 1
        elif char == "," and depth <= 0:
            found.append("")
            continue
        found[-1] += char
    if quote or depth:  # a name with a bracket of its own
        found = word.split(",")
    return [str(_bare(part.strip(), escapes=True)) for part in found if part.strip()]


def is_place(word: str) -> bool:
    """Whether a word is a URL, ends like a file, or names files that exist."""
    if "://" in word or word.lower().endswith(FILE_ENDINGS):
        return True
    path = os.path.expanduser(word)
    try:
        return os.path.exists(path) or (not path.isspace() and any(c in path for c in "*?[") and bool(glob.glob(path)))
    except (ValueError, OSError):  # a null character, or more than a name may hold
        return False


def _like_path(word: str) -> bool:
    """Whether a word may be a file's name: slashes, or an ending, and nothing that only Python has."""
    return re.fullmatch(r"(?:[^\s()\[\]{}'\",=]*[/\\])?[^\s()\[\]{}'\",=/\\]*", word) is not None and (
        "/" in word or "\\" in word or re.search(r"\.\w{1,8}$", word) is not None
    )


def _root(expression: str) -> str:
    """The name that an expression begins with."""
    found = re.match(r"\s*([^\W\d]\w*)\s*(?:$|[.\[(])", expression)
    return found[1] if found else ""


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
    """Whether it is a torch module; torch is not imported to find out."""
    return any(base.__module__.startswith("torch.nn.modules.module") for base in type(value).__mro__)
