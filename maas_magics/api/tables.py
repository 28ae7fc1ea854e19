"""Small tables of text and HTML. Inline styles only: a saved notebook carries no stylesheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

CELL = "text-align:left;padding:2px 12px 2px 0"


def figure(value: float) -> str:
    """A figure with four significant digits, as people write it."""
    if value is None or math.isnan(value):
        return "–"
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.3g}"
    return f"{value:.4g}"


def size(count: float) -> str:
    """Bytes as people write them."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def text_table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Rows in aligned columns."""
    every = [*([head] if head else []), *rows]
    if not every:
        return ""
    widths = [max(len(row[i]) for row in every if i < len(row)) for i in range(max(map(len, every)))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in every
    )


def html_table(rows: Sequence[Sequence[str]], caption: str = "", head: Sequence[str] = ()) -> str:
    """Rows as an HTML table; every cell is escaped."""
    title = (
        f'<caption style="text-align:left;font-weight:600;padding:4px 0">{escape(caption)}</caption>' if caption else ""
    )
    top = "<tr>" + "".join(f'<th style="{CELL}">{escape(cell)}</th>' for cell in head) + "</tr>" if head else ""
    body = "".join(
        "<tr>" + "".join(f'<td style="{CELL}">{escape(cell)}</td>' for cell in row) + "</tr>" for row in rows
    )
    return f'<table style="border-collapse:collapse;margin:2px 0">{title}{top}{body}</table>'
