"""Where rows came from, so that what a person is told to type is about that.

Whoever reads rows says so by `came_from`; sentences about them ask here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

_KINDS = ("table", "arrays", "csv", "file", "cell")

_now: ContextVar[str] = ContextVar("origin", default="table")


def origin_of(source: Any) -> str:
    """``"table"``, ``"arrays"``, ``"csv"``, ``"file"`` or ``"cell"``."""
    found = getattr(source, "origin", "")
    if found in _KINDS:
        return str(found)
    return "arrays" if getattr(source, "arrays", False) else "table"


def came_from(source: Any) -> None:
    """Take it that the rows at hand are those of a source."""
    _now.set(origin_of(source))


def as_numbers(name: str) -> str:
    """What to type to have a column of texts read as numbers."""
    return _say(
        table=f"Convert it: df[{name!r}] = pd.to_numeric(df[{name!r}])",
        csv='Say how it writes numbers, or what means missing: --csv "decimal=, missing=NA"',
        cell=f"Type a number for {name!r}, or nothing where there is none.",
        file=f"Write {name!r} to the file as numbers.",
        arrays="Convert it: .astype('float64')",
    )


def as_dates(name: str) -> str:
    """What to type to have a column of texts read as dates."""
    return _say(
        table=f"Convert it: df[{name!r}] = pd.to_datetime(df[{name!r}])",
        csv="Write dates as 2024-01-31, or say in which order theirs stand: --csv dates=dmy",
        cell=f"Type {name!r} as 2024-01-31 or 2024-01-31 12:30:00.",
        file=f"Write {name!r} to the file as dates, or as texts such as 2024-01-31 12:30:00.",
        arrays="Convert it: .astype('datetime64[s]')",
    )


def dates_of(name: str, order: str, pattern: str) -> str:
    """What to type to have texts read as dates whose parts stand in the order ``dmy``, ``mdy`` or ``ymd``."""
    return _say(
        table=f"df[{name!r}] = pd.to_datetime(df[{name!r}], format={pattern!r})",
        csv=f"--csv dates={order}",
        cell=f"Type {name!r} as 2024-01-31 or 2024-01-31 12:30:00.",
        file=f"Write {name!r} to the file as dates, or as texts such as 2024-01-31 12:30:00.",
    )


def plain_numbers(name: str, thousands: str, decimal: str) -> str:
    """What to type to have texts read as numbers whose thousands are set apart."""
    point = f'.str.replace("{decimal}", ".")' if decimal != "." else ""
    return _say(
        table=f'df[{name!r}] = df[{name!r}].str.replace("{thousands}", "", regex=False){point}.astype(float)',
        csv=f'pd.read_csv(PATH, thousands="{thousands}", decimal="{decimal}") makes a table that has them as numbers',
        cell=f"Type {name!r} as 1234.5.",
        file=f"Write {name!r} to the file as numbers.",
    )


def as_missing(words: Sequence[str]) -> str:
    """What to type where a text means that nothing is there."""
    return _say(
        table=f"df = df.replace({words[0]!r}, None)",
        csv=f'csv="missing={words[0]}" (--csv missing={words[0]})',
        cell="leave the cell of the table empty",
        file="leave it out of the file",
    )


def nearer(name: str) -> str:
    """What to type to have numbers told apart that float64 rounds."""
    return _say(
        table=f"Take away what they share: df[{name!r}] -= df[{name!r}].min(); or df[{name!r}].astype(str), "
        "if they are names.",
        other="Take away what they share, such as the smallest; or give them as texts, if they are names.",
    )


def _say(*, table: str, **others: str) -> str:
    origin = _now.get()
    if origin == "table":
        return table
    return others.get(origin) or others.get("other") or table
