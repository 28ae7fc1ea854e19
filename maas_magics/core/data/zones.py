"""Time zones of the moments that a model learnt, against those of the rows to predict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from maas_magics.core.data.arrow import dates, is_moment, is_text
from maas_magics.core.data.origin import in_zone

LOOKED_AT = 1_000
"""Texts of a column that are looked at to see whether they name a zone."""


def zone_of(kind: pa.DataType) -> str:
    """Time zone of a type of moments; empty where it has none."""
    return getattr(kind, "tz", None) or ""


def zone_assumed(values: pa.ChunkedArray, learnt: str | None) -> tuple[str, str] | None:
    """Zone of some moments, and the one that was learnt, where one of the two is empty; else None."""
    if learnt is None:
        return None
    found = _zone(values)
    return None if found is None or bool(found) == bool(learnt) else (found, learnt)


def cautions(assumed: Iterable[tuple[str, str, str]]) -> list[str]:
    """Sentences about moments whose zone had to be assumed, from names of columns, and their `zone_assumed`.

    They have none while those that were learnt had one, or the other way round.
    """
    naive: dict[str, list[str]] = {}
    aware: dict[str, list[str]] = {}
    for name, found, learnt in assumed:
        others, zone = (aware, found) if found else (naive, learnt)
        others.setdefault(zone, []).append(name)
    said = [
        f"Times without a zone in {_named(names)} were taken as UTC; the model learnt times in {zone}. "
        f"{in_zone(names[0], zone)}"
        for zone, names in naive.items()
    ]
    return said + [
        f"Times in {zone} in {_named(names)} were turned into UTC; the model learnt times without a zone. "
        f"{in_zone(names[0], None)}"
        for zone, names in aware.items()
    ]


def _zone(values: pa.ChunkedArray) -> str | None:
    """Zone of some moments, empty where they have none; None where there are no moments."""
    if is_moment(values.type):
        return zone_of(values.type) if values.null_count < len(values) else None
    found = dates(values.slice(0, LOOKED_AT)) if is_text(values.type) else None
    return None if found is None else zone_of(found.type)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ("column " if len(names) == 1 else "columns ") + ", ".join(map(repr, names[:3])) + more
