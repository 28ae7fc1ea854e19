"""The line of a sweep, such as ``lr=1e-4..1e-1 log, hidden=[64, 128], dropout=0..0.5``."""

from __future__ import annotations

import ast
import math
import re

from maas_magics.api.errors import OptionError
from maas_magics.api.space import Choices, Range, Space

REAL = ("lr", "weight_decay", "label_smoothing")
"""Fields whose range is of real numbers even where its ends are whole."""

EXAMPLE = "lr=1e-4..1e-1 log, hidden=[64, 128], dropout=0.0..0.5"

OPENING, CLOSING = "([{", ")]}"


def parse_space(line: str) -> Space:
    """Parameters of a sweep by name.

    ``a..b`` is a range, of whole numbers if both ends are or ``int`` follows; ``log`` spreads it evenly in the
    logarithm, ``step=s`` makes it a grid. ``[x, y, z]`` are choices, each a Python literal.

    Raises
    ------
    OptionError
        Names the part of the line that cannot be read.
    """
    space: Space = {}
    for part in _parts(line):
        name, equals, told = (piece.strip() for piece in part.partition("="))
        if not equals or not name.isidentifier():
            raise OptionError(f"{part!r} is not of the form NAME=VALUES.", f"For example: {EXAMPLE}")
        if name in space:
            raise OptionError(f"{name!r} is given twice.", "Give each parameter once.")
        space[name] = _choices(name, told) if told.startswith("[") else _range(name, told)
    if not space:
        raise OptionError("The sweep names no parameter.", f"For example: {EXAMPLE}")
    return space


def _parts(line: str) -> list[str]:
    """Pieces between commas that stand outside brackets and quotes."""
    parts, piece, depth, quote = [], "", 0, ""
    for char in line:
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in OPENING + CLOSING:
            depth += 1 if char in OPENING else -1
        if char == "," and not depth and not quote:
            parts.append(piece)
            piece = ""
        else:
            piece += char
    if depth or quote:
        raise OptionError(f"{piece.strip()!r} {'has an open quote' if quote else 'has unequal brackets'}.", EXAMPLE)
    return [piece.strip() for piece in (*parts, piece) if piece.strip()]


def _choices(name: str, told: str) -> Choices:
    try:
        found = ast.literal_eval(told)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        inner = [item.strip() for item in _parts(told[1:-1])] if told.endswith("]") else []
        wrong = next((item for item in inner if not _literal(item)), told)
        hint = f"Write {wrong!r}, with quotes." if wrong.replace("-", "").isidentifier() else f"{name}=[64, 128, 256]"
        raise OptionError(f"{name}: {wrong} is not a Python literal.", hint) from None
    if not isinstance(found, list) or not found:
        raise OptionError(f"{name}: {told} holds no choices.", f"{name}=[64, 128, 256]")
    twice = next((item for index, item in enumerate(found) if item in found[:index]), None)
    if twice is not None:
        raise OptionError(f"{name}: {twice!r} is given twice.", f"Drop one from {told}")
    return Choices(tuple(found))


def _literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return True


def _range(name: str, told: str) -> Range:
    words = told.split()
    if not words or ".." not in words[0]:
        raise OptionError(
            f"{name}: {told!r} is neither a range nor choices.", f"{name}=0.1..0.9, or {name}=[{told or '1, 2'}]"
        )
    ends = words[0].partition("..")
    low, high = _number(name, ends[0]), _number(name, ends[2])
    step, log, whole = None, False, isinstance(low, int) and isinstance(high, int) and name not in REAL
    for word in words[1:]:
        if word == "log":
            log = True
        elif word == "int":
            whole = True
        elif word.startswith("step="):
            step = _number(name, word[5:])
        else:
            raise OptionError(f"{name}: {word!r} is none of log, int, step=….", f"{name}={words[0]} log")
    if not low < high:
        raise OptionError(f"{name}: {words[0]} does not go up.", f"{name}={ends[2]}..{ends[0]}")
    if whole and (low != int(low) or high != int(high)):
        raise OptionError(f"{name}: {words[0]} has ends that are not whole.", f"Drop int from {told!r}.")
    if log and low <= 0:
        raise OptionError(f"{name}: {ends[0]} has no logarithm.", f"{name}=1e-4..{ends[2]} log")
    if step is not None and (log or not 0 < step <= high - low or (whole and step != int(step))):
        why = "does not go with log" if log else f"does not fit {words[0]}"
        raise OptionError(f"{name}: step={step:g} {why}.", f"{name}={words[0]} step={'1' if whole else '0.1'}")
    if whole:
        low, high, step = int(low), int(high), None if step is None else int(step)
    return Range(low=low, high=high, whole=whole, log=log, step=step)


def _number(name: str, text: str) -> float:
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise OptionError(f"{name}: {text!r} is not a number.", f"{name}=1e-4..1e-1")
    return value
