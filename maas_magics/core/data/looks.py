"""Texts that were meant as dates or numbers, but are written as no reader here takes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from maas_magics.core.data.origin import bare_numbers, dates_of, plain_numbers
from maas_magics.core.data.units import marks

LOOKED_AT = 500
"""Different texts of a column by which it is judged."""

LEAST = 3
"""Least different numbers with separated thousands for a column to be taken as one of such numbers."""

AS_TEXTS = " as texts"

_TIMES = ("", " %H:%M", " %H:%M:%S", ", %H:%M", ", %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_DATES = (
    *(("dmy", f"%d{mark}%m{mark}%Y") for mark in "./-"),
    *(("mdy", f"%m{mark}%d{mark}%Y") for mark in "./-"),
    *(("ymd", f"%Y{mark}%m{mark}%d") for mark in "./"),
    ("dmy", "%d/%m/%y"),
    ("mdy", "%m/%d/%y"),
    *(("", pattern) for pattern in ("%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d. %B %Y")),
)
_LIKE_A_DATE = re.compile(
    r"\d{1,4}[./-]\d{1,2}[./-]\d{2,4}\b|\d{1,2}[. -]+[A-Za-z]{3,9}[ -]\d{4}|[A-Za-z]{3,9} \d{1,2}, \d{4}"
)

_GROUPED = (
    (".", ",", re.compile(r"[+-]?\d{1,3}(\.\d{3})*(,\d+)?"), re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?")),
    (",", ".", re.compile(r"[+-]?\d{1,3}(,\d{3})*(\.\d+)?"), re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")),
    ("'", ".", re.compile(r"[+-]?\d{1,3}('\d{3})*(\.\d+)?"), re.compile(r"[+-]?\d{1,3}('\d{3})+(\.\d+)?")),
    (" ", ",", re.compile(r"[+-]?\d{1,3}( \d{3})*(,\d+)?"), re.compile(r"[+-]?\d{1,3}( \d{3})+(,\d+)?")),
)
"""What stands between thousands, and before fractions; any number of the kind, and one that shows the kind."""


@dataclass(frozen=True)
class Look:
    """What texts look like, an example of them, and what to type to have them read as such."""

    what: str
    example: str
    fix: str

    def __str__(self) -> str:
        return f"holds {self.what}{AS_TEXTS} (such as {self.example!r})"


def look(name: str, texts: Iterable[str]) -> Look | None:
    """What all texts of a column look like; None where they are just texts.

    Parameters
    ----------
    name : str
    texts : iterable of str
        Different ones, without what is missing.
    """
    some = [text.strip() for text in islice(texts, LOOKED_AT)]
    return (_dates(name, some) or _numbers(name, some) or _measured(name, some)) if some else None


def _dates(name: str, texts: list[str]) -> Look | None:
    if not all(map(_LIKE_A_DATE.match, texts)):
        return None
    found = [
        (order, date + time)
        for order, date in _DATES
        if _is_date(texts[0], date, partly=True)
        for time in _TIMES
        if all(_is_date(text, date + time) for text in texts)
    ]
    if not found:
        return None
    order, pattern = found[0]
    fix = dates_of(name, order, pattern)
    if len({order for order, _ in found}) > 1:
        fix += ", where the day comes first; the month may as well (mdy, %m before %d)"
    return Look("dates", texts[0], fix)


def _is_date(text: str, pattern: str, partly: bool = False) -> bool:
    try:
        datetime.strptime(text, pattern)
    except ValueError as error:
        return partly and "unconverted data" in str(error)
    return True


def _numbers(name: str, texts: list[str]) -> Look | None:
    if len(texts) < LEAST or not texts[0].lstrip("+-")[:1].isdigit():
        return None
    plain = [re.sub("[\u00a0\u202f\u2009]", " ", text).replace("\u2019", "'") for text in texts]
    for mark, point, any_of_them, grouped in _GROUPED:
        example = next((text for text, each in zip(texts, plain, strict=True) if grouped.fullmatch(each)), None)
        if example is not None and all(map(any_of_them.fullmatch, plain)):
            return Look("numbers with their thousands set apart", example, plain_numbers(name, mark, point))
    return None


def _measured(name: str, texts: list[str]) -> Look | None:
    found = marks(texts)
    return None if found is None else Look(found.what, found.example, bare_numbers(name, found.steps))
