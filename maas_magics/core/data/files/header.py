"""The first row of a file of delimited text: names of its columns, and what lies above or beside them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from maas_magics.core.data.files.dialect import LINES, Dialect, cells
from maas_magics.core.data.values import number_of


def clean_names(raw: Sequence[str], text: str, dialect: Dialect) -> list[str]:
    """Names of columns without the spaces around them, unless they stand in quotes.

    Parameters
    ----------
    raw : sequence of str
        As Arrow reads them.
    text : str
        The file's beginning, from its header on.
    dialect : Dialect
    """
    if not dialect.header:
        return [str(number) for number in range(len(raw))]
    start = text[: sum(map(len, raw)) + 4 * len(raw)]
    found = [name if _quoted(name) in start else _bare(name) for name in raw]
    doubled = {name for name, times in Counter(found).items() if times > 1}
    return [came if name in doubled else name for came, name in zip(raw, found, strict=True)]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _bare(name: str) -> str:
    name = name.strip()
    inner = name[1:-1]
    return inner if len(name) > 1 and name[0] == name[-1] == '"' and '"' not in inner else name


def all_numbers(names: Sequence[str]) -> bool:
    """Whether what is taken for names are numbers, such as the first row of a file without a header."""
    return all(number_of(name) is not None for name in names)


def misshapen(text: str, dialect: Dialect, told: str) -> tuple[str, str] | None:
    """What is wrong with a row that has more or fewer cells than the header, and what to type.

    Parameters
    ----------
    text : str
        The file's beginning.
    dialect : Dialect
    told : str
        What Arrow says.

    Returns
    -------
    str, str
        The rest of a sentence that begins with the file's name, and a hint; None where the error is another.
    """
    found = re.search(r"Expected (\d+) columns, got (\d+):? ?(.*)", told, re.DOTALL)
    if found is None:
        return None
    wanted, got, shown = int(found[1]), int(found[2]), found[3].splitlines()[0][:60] if found[3] else ""
    lines = text.splitlines(keepends=True)
    row = next((i for i, line in enumerate(lines) if i >= dialect.skip and shown and line.startswith(shown)), None)
    where = f"row {row + 1:,}" if row is not None else "a row"
    above = _above(lines, dialect)
    if above > dialect.skip:
        first = lines[dialect.skip].strip()[:40]
        return (
            f"cannot be read: its header seems to be row {above + 1}; above it is other text, such as {first!r}",
            f"Leave out the {above} lines above the header: --csv skip={above}",
        )
    return (
        f"cannot be read: {where} has {got} cells, where the header has {wanted} ({shown!r})",
        "Put quotes around a text that holds the character between cells, or correct the row in the file.",
    )


def _above(lines: Sequence[str], dialect: Dialect) -> int:
    """Lines above the first that has as many cells as most have, where those before it have fewer."""
    marks = dict.fromkeys((dialect.separator, ";", ",", "\t", "|"))
    if "separator" in dialect.told:
        marks = {dialect.separator: None}
    for mark in marks:
        widths = [len((cells([line], mark) or [[]])[0]) for line in lines[dialect.skip : dialect.skip + LINES]]
        usual, times = Counter(widths).most_common(1)[0] if widths else (0, 0)
        if usual > 1 and 2 * times > len(widths):
            at = widths.index(usual)
            return dialect.skip + at if all(width < usual for width in widths[:at]) else dialect.skip
    return dialect.skip
