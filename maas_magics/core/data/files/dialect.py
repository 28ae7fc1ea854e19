"""How a file of delimited text is written: inferred from its beginning, or given by the caller.

Numbers, dates and booleans are recognised; of them, a cell that is empty or one of `WORDS` is missing. A column with
any other cell is text, where every cell is itself, ``NA`` and ``null`` included, and only the empty one is missing.
``missing=NA`` says otherwise.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from maas_magics.api.errors import OptionError, did_you_mean

WORDS = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "NaT", "None", "n/a", "na", "nan", "none", "null", "?", "-", "--", ".", "missing",
)  # fmt: skip
"""What stands for a missing number."""

SEPARATORS = {"": ";", "comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "space": " "}
KEYS = ("sep", "decimal", "encoding", "missing", "dates", "skip", "header")

ORDERS = {"dmy": ("%d", "%m", "%y"), "mdy": ("%m", "%d", "%y"), "ymd": ("%y", "%m", "%d")}
"""Orders of day, month and year."""

HEAD = 2**18
"""Bytes by which a file is judged."""

LINES = 100


@dataclass(frozen=True)
class Dialect:
    """How the cells of a file are separated and written.

    Attributes
    ----------
    separator, decimal : str
        One character each.
    encoding : str
        Of the text, as Python names it.
    missing : tuple of str
        Texts that count as missing in columns of text as well; only the empty one where there is none.
    skip : int
        Lines before the header.
    dates : str
        Order of day, month and year, one of `ORDERS`; empty where dates are as ISO 8601 has them.
    header : bool
        Whether the first row names the columns; else their names are 0, 1, ….
    told : frozenset of str
        What the caller gave.
    """

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ()
    skip: int = 0
    dates: str = ""
    header: bool = True
    told: frozenset[str] = frozenset()

    def __str__(self) -> str:
        shown = "a tab" if self.separator == "\t" else repr(self.separator)
        parts = [f"{shown} between cells"]
        if self.decimal != ".":
            parts.append(f"{self.decimal!r} for the decimal point")
        if self.encoding not in ("utf-8", "utf-8-sig"):
            parts.append(f"{self.encoding} for its text")
        return ", ".join(parts)


def read_dialect(text: str | None) -> Dialect:
    """Read the option ``csv``: ``sep=; decimal=, encoding=latin-1 missing=NA``, in any order.

    An empty separator is the semicolon, which a notebook takes away from the end of a line.

    Raises
    ------
    OptionError
        For a word that is unknown, or invalid.
    """
    found: dict[str, Any] = {}
    missing: tuple[str, ...] = ()
    for word in (text or "").replace("sep= ", "sep=space ").split():
        key, equals, value = word.partition("=")
        if key not in KEYS or not equals:
            raise OptionError(
                f"{word!r} is not a setting of CSV files.",
                did_you_mean(key, KEYS) or 'csv="sep=; decimal=, missing=NA"',
            )
        if key == "missing":
            missing += (value,)
            continue
        if key == "skip":
            if not value.isdecimal():
                raise OptionError(f"{value!r} is not a number of lines above the header.", "For example: skip=3")
            found["skip"] = int(value)
            continue
        if key == "header":
            if value not in ("yes", "no"):
                raise OptionError(f"{value!r} does not say whether there is a header.", "header=no, or header=yes")
            found["header"] = value == "yes"
            continue
        if key == "dates":
            if value not in ORDERS:
                raise OptionError(f"{value!r} is not an order of day, month and year.", f"One of: {', '.join(ORDERS)}")
        elif key == "encoding":
            try:
                codecs.lookup(value)
            except LookupError:
                raise OptionError(f"{value!r} is not an encoding.", "For example: encoding=latin-1") from None
        elif len(value := SEPARATORS.get(value, value) if key == "sep" or value else value) != 1:
            raise OptionError(f"{key}={value!r} is not one character.", f"For example: {key}=;")
        found["separator" if key == "sep" else key] = value
    if found.get("separator", ",") == found.get("decimal", "."):
        raise OptionError("The separator and the decimal point are the same character.", 'csv="sep=; decimal=,"')
    return Dialect(**found, missing=missing, told=frozenset(found))


def patterns(dialect: Dialect) -> list[str]:
    """How dates may be written beside ISO 8601; a year of two digits is tried before one of four."""
    parts = ORDERS.get(dialect.dates)
    if parts is None:
        return []
    dates = [mark.join(parts).replace("%y", year) for mark in "./-" for year in ("%y", "%Y")]
    return [date + time for date in dates for time in ("", " %H:%M", " %H:%M:%S")]


def sniff(head: bytes, ending: str, said: Dialect) -> Dialect:
    """How a file is written that begins with ``head``, as far as the caller has not given it."""
    found = said
    if "encoding" not in said.told:
        found = replace(found, encoding=_encoding(head))
    text = head.decode(found.encoding, errors="replace").lstrip("\ufeff")
    usual = "\t" if ending == "tsv" else ","
    named = re.match(r"sep=(.)\r?\n", text)
    if named and not said.skip:  # a line that spreadsheets write for one another
        found = replace(found, skip=1)
    lines = text.splitlines(keepends=True)[found.skip :]
    lines = lines[: LINES + 1] if len(head) < HEAD or len(lines) > LINES + 1 else lines[:-1] or lines
    if "separator" not in said.told:
        found = replace(found, separator=named[1] if named else _separator(lines, usual))
    if "decimal" not in said.told and found.separator != ",":
        found = replace(found, decimal=_decimal(lines, found.separator))
    return found


def _encoding(head: bytes) -> str:
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(head) > 3 and head.count(0) * 3 > len(head):
        return "utf-16-le" if head[1] == 0 else "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252" if not set(head) & {0x81, 0x8D, 0x8F, 0x90, 0x9D} else "latin-1"
    return "utf-8"


def cells(lines: Sequence[str], separator: str) -> list[list[str]]:
    """Cells of some lines; the rest of a line that cannot be parted is left out."""
    found = []
    try:
        for row in csv.reader(lines, delimiter=separator):
            if row:
                found.append(row)
    except csv.Error:
        pass
    return found


def _separator(lines: Sequence[str], usual: str) -> str:
    """The character that parts most lines into as many cells as the header has, if that is more than one."""
    best, score = usual, (0.0, 0, 0)
    for separator in dict.fromkeys((usual, ",", ";", "\t", "|")):
        rows = cells(lines, separator)
        width = len(rows[0]) if rows else 0
        if width < 2:
            continue
        alike = sum(len(row) == width for row in rows) / len(rows)
        found = (round(alike, 1), int(separator == usual), width)
        if alike > 0.7 and found > score:
            best, score = separator, found
    return best


def _decimal(lines: Sequence[str], separator: str) -> str:
    some = [cell.strip() for row in cells(lines, separator)[1:] for cell in row]
    commas = any(re.fullmatch(r"[+-]?\d*,\d+([eE][+-]?\d+)?", cell) for cell in some)
    points = any(re.fullmatch(r"[+-]?\d*\.\d+([eE][+-]?\d+)?", cell) for cell in some)
    return "," if commas and not points else "."
