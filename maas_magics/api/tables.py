"""Small tables of text and HTML. Inline styles only: a saved notebook carries no stylesheet."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from html import escape

# JupyterLab stripes the rows of a table by these colours; what else a page does to tables is undone one by one.
PLAIN = ("--jp-layout-color0", "--jp-rendermime-table-row-background", "--jp-rendermime-table-row-hover-background")
TABLE = (
    "border-collapse:collapse;border:none;margin:4px 0;width:auto;table-layout:auto;font-variant-numeric:tabular-nums;"
    + ";".join(f"{name}:transparent" for name in PLAIN)
)
CELL = "border:none;vertical-align:top"
GAP = 18
EDGE = ";border-bottom:1px solid #80889066"
CAPTION = "text-align:left;font-weight:600;padding:4px 0;caption-side:top"
STRONG = ";font-weight:700;color:#2f9e6b"
FAINT = ";opacity:.55"

_NUMBER = re.compile(r"[-+−]?[\d,]*\.?\d+(e[-+]?\d+)?( ?(%|B|kB|MB|GB|★))?|[-+−]?(inf|nan)", re.IGNORECASE)


def format_number(value: float) -> str:
    """A number with four significant digits; a dash for NaN.

    Parameters
    ----------
    value : float
        The number.
    """
    if value is None or math.isnan(value):
        return "–"
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.3g}"
    return f"{value:.4g}"


def size(count: float) -> str:
    """A number of bytes in B, kB, MB or GB, with one decimal.

    Parameters
    ----------
    count : float
        Bytes.
    """
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def text_table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Rows in aligned columns; columns of numbers end where their heads end.

    Parameters
    ----------
    rows : sequence of sequence of str
        Cells.
    head : sequence of str
        Heads of the columns; none when empty.
    """
    every = [*([head] if head else []), *rows]
    if not every:
        return ""
    many = max(map(len, every))
    widths = [max(len(row[i]) for row in every if i < len(row)) for i in range(many)]
    ends = [_is_numeric(rows, i) for i in range(many)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if end else cell.ljust(width) for cell, width, end in zip(row, widths, ends, strict=False)
        ).rstrip()
        for row in every
    )


def html_table(
    rows: Sequence[Sequence[str]],
    caption: str = "",
    head: Sequence[str] = (),
    *,
    ends: bool = False,
    strong: Collection[tuple[int, int]] = (),
    faint: Collection[int] = (),
) -> str:
    """Rows as an HTML table, the one look of all tables; every cell is escaped.

    Parameters
    ----------
    rows : sequence of sequence of str
        Cells.
    caption : str
        Text above the table; none when empty.
    head : sequence of str
        Heads of the columns; none when empty.
    ends : bool
        Whether all columns but the first end at one line, as columns of numbers always do.
    strong : collection of (int, int)
        Rows and columns of cells that stand out.
    faint : collection of int
        Rows that stand back.
    """
    many = max(map(len, [head, *rows]), default=0)
    right = [(ends and i > 0) or _is_numeric(rows, i) for i in range(many)]

    def line(row: Sequence[str], tag: str, place: int, style: str) -> str:
        cells = "".join(
            f'<{tag} style="{CELL};padding:2px 0 2px {GAP if i else 0}px;text-align:{"right" if right[i] else "left"}'
            f'{style}{STRONG if (place, i) in strong else ""}">{escape(cell)}</{tag}>'
            for i, cell in enumerate([*row, *[""] * (many - len(row))])
        )
        return f"<tr>{cells}</tr>"

    title = f'<caption style="{CAPTION}">{escape(caption)}</caption>' if caption else ""
    top = line(head, "th", -1, EDGE) if head else ""
    body = "".join(line(row, "td", place, FAINT if place in faint else "") for place, row in enumerate(rows))
    return f'<table style="{TABLE}">{title}{top}{body}</table>'


def _is_numeric(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column holds only numbers, and perhaps gaps."""
    cells = [row[column] for row in rows if column < len(row) and row[column] not in ("", "–")]
    return bool(cells) and all(_NUMBER.fullmatch(cell) for cell in cells)
