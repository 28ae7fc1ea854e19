"""Texts that are numbers with something in front of or behind them, and numbers among which a few texts stand."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from maas_magics.core.data.files.dialect import WORDS
from maas_magics.core.data.values import FEW, number_of

MOSTLY = 0.99
"""A column of a text file of which this share are numbers is one of numbers."""

OFTEN = 0.8
"""A column of texts of which this share are numbers may have been meant as numbers."""

MARKED = 0.95
"""Share of the different texts that have a unit, or some sign, where the column is one of measured numbers."""

LEAST = 3
"""Different numbers that show that there is a unit."""

_NUMBER = r"[+-]?(?:\d+(?:[.,'\u2019 \u00a0\u202f]\d{3})*(?:[.,]\d+)?|[.,]\d+)(?:[eE][+-]?\d+)?"
_CELL = re.compile(rf"([^\d\s+.,-][^\d+.,-]*?)?(\s*)({_NUMBER})(\s*)(\D*)")
_SIGNS = frozenset("€$£¥₹₩₽¢")
_BOUNDS = frozenset("<>≤≥~≈")
_CODES = frozenset({"EUR", "USD", "GBP", "CHF", "JPY", "CNY", "INR", "SEK", "NOK", "DKK", "PLN", "CZK", "AUD", "CAD"})
_TIMES = {"k": "e3", "K": "e3", "M": "e6", "Mio": "e6", "Mio.": "e6", "B": "e9", "G": "e9"}
_ORDINAL = frozenset({"st", "nd", "rd", "th"})


@dataclass(frozen=True)
class Marks:
    """What stands around the numbers of a column.

    Attributes
    ----------
    front, behind : tuple of str
        With the spaces between them and the number; one of them is empty, unless all have both.
    comma : bool
        Whether fractions follow a comma.
    thousands : bool
        Whether points stand between thousands then.
    times : bool
        Whether what stands behind multiplies, such as ``k``.
    example : str
    """

    front: tuple[str, ...]
    behind: tuple[str, ...]
    comma: bool
    thousands: bool
    times: bool
    example: str

    @property
    def what(self) -> str:
        """As in "holds numbers with 'm²' behind"."""
        told = [f"{_either(marks)} {where}" for marks, where in ((self.front, "in front"), (self.behind, "behind"))
                if marks]  # fmt: skip
        return f"numbers with {' and '.join(told)}"

    @property
    def steps(self) -> str:
        """Methods of a column of texts in pandas that make numbers of them."""
        found = ""
        if self.times:
            found = "".join(f".str.replace({mark.strip()!r}, {_TIMES[mark.strip()]!r})" for mark in self.behind)
        elif len(self.behind) == 1:
            found = f".str.removesuffix({self.behind[0]!r})"
        if self.front:
            only = self.front[0] if len(self.front) == 1 else ""
            found += (
                f".str.removeprefix({only!r})"
                if only and not set(only) & _BOUNDS
                else f".str.lstrip({''.join(dict.fromkeys(''.join(self.front)))!r})"
            )
        if self.comma:
            found += '.str.replace(".", "")' if self.thousands else ""
            found += '.str.replace(",", ".")'
        return found


def _either(marks: tuple[str, ...]) -> str:
    return " or ".join(repr(mark.strip()) for mark in marks)


def marks(texts: list[str]) -> Marks | None:
    """What stands around numbers; None where the texts are not such numbers.

    One and the same word behind numbers is a unit; letters right in front of them are part of a code.
    """
    cells = [(text, found) for text in texts if (found := _CELL.fullmatch(text)) is not None]
    if len(cells) < LEAST or len(cells) < MARKED * len(texts) - (len(texts) >= FEW):
        return None
    fronts = Counter((found[1] or "") + (found[2] if found[1] else "") for _, found in cells)
    behinds = Counter((found[4] if found[5] else "") + found[5] for _, found in cells)
    if len({found[3] for _, found in cells}) < LEAST:
        return None
    front = tuple(sorted(mark for mark in fronts if mark))
    behind = tuple(sorted(mark for mark in behinds if mark))
    times = len(behinds) > 1 or (bool(behind) and behind[0].strip() in ("k", "Mio", "Mio."))
    if not (front or behind) or not _is_front(fronts, len(cells)) or not _is_behind(behinds):
        return None
    example = next(text for text, found in cells if found[1] or found[5])
    numbers = [found[3] for _, found in cells]
    comma = any("," in text and "." not in text[text.rindex(",") :] for text in numbers if "," in text)
    return Marks(front, behind, comma, comma and any("." in text for text in numbers), times, example)


def _is_front(fronts: Mapping[str, int], rows: int) -> bool:
    """Whether what stands in front is nothing, one sign of money, or a bound of some numbers."""
    there = {mark.strip() for mark in fronts if mark}
    if not there:
        return True
    if all(set(mark) <= _BOUNDS | {"=", " "} for mark in there):
        return rows > FEW or not fronts.get("", 0)  # among a few texts they are classes such as '<5'
    return len(fronts) == 1 and all(mark in _CODES or set(mark) <= _SIGNS for mark in there)


def _is_behind(behinds: Mapping[str, int]) -> bool:
    """Whether what stands behind is nothing, one unit, or says how many thousands there are."""
    there = {mark.strip() for mark in behinds if mark}
    if len(behinds) > 1:
        return there <= set(_TIMES)
    return all(len(mark) <= 20 and mark not in _ORDINAL and _is_unit(mark) for mark in there)


def _is_unit(mark: str) -> bool:
    return any(char.isalpha() or char in "%‰°″′\"'" or char in _SIGNS for char in mark) and not mark.startswith(
        ("/", "-", "_", ":", ";")
    )


@dataclass(frozen=True)
class Odd:
    """Texts among numbers: which, how many rows of them, and how many rows have any value."""

    texts: tuple[str, ...]
    rows: int
    present: int

    @property
    def few(self) -> bool:
        """Whether nearly all are numbers."""
        return self.rows <= max(1, (1 - MOSTLY) * self.present) and self.present > FEW

    def __str__(self) -> str:
        shown = ", ".join(map(repr, self.texts[:3]))
        return shown + (f" and {len(self.texts) - 3:,} more" if len(self.texts) > 3 else "")


class NumberTally:
    """Counts which texts of a column spell numbers, a part of its rows at a time."""

    MOST = 1_000
    """Most different texts besides numbers in a column of numbers."""

    def __init__(self) -> None:
        self._odd = Counter[str]()
        self._numbers = 0
        self._different: set[str] = set()
        self.codes = False
        """Whether it is not a column of numbers: of digits that begin with a zero, infinite, or of many other texts."""

    def add(self, counted: Mapping[str, int]) -> None:
        """Take in how often each text occurs; words for what is missing count as such."""
        for text, rows in counted.items():
            if self.codes:
                return
            number = None if text in WORDS else number_of(text)
            if number is not None:
                self._numbers += rows
                if len(self._different) <= FEW:
                    self._different.add(text)
                self.codes = re.match(r"[+-]?0\d", text.strip()) is not None or not math.isfinite(number)
            elif text not in WORDS:
                self._odd[text] += rows
                self.codes = len(self._odd) > self.MOST

    def merge(self, other: NumberTally) -> None:
        """Take in what was found in other rows."""
        self._odd.update(other._odd)
        self._numbers += other._numbers
        self._different |= other._different
        self.codes = self.codes or other.codes or len(self._odd) > self.MOST

    @property
    def odd(self) -> Odd | None:
        """Texts among what else are numbers; None where too few are."""
        present = self._numbers + self._odd.total()
        if self.codes or len(self._different) <= FEW or self._numbers < OFTEN * present:
            return None
        return Odd(tuple(text for text, _ in self._odd.most_common()), self._odd.total(), present)


def odd_ones(counted: Mapping[str, int]) -> Odd | None:
    """Texts among what else are numbers, by how often each occurs; None where there are none, or most are none."""
    tally = NumberTally()
    tally.add(counted)
    return tally.odd if tally.odd is not None and tally.odd.texts else None
