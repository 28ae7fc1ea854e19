"""Where rows came from, so that hints name what to type there.

Readers of rows report it by `came_from`; messages look it up here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

KINDS = ("table", "polars", "arrays", "csv", "file", "cell")

_now: ContextVar[str] = ContextVar("origin", default="table")


def origin_of(source: Any) -> str:
    """One of `KINDS`: what a source has its rows from."""
    found = getattr(source, "origin", "table")
    return found if found in KINDS else "table"


def came_from(source: Any) -> None:
    """Note that the current rows are those of a source."""
    _now.set(origin_of(source))


def as_numbers(name: str) -> str:
    """What to type to have a column of texts read as numbers."""
    return _say(
        table=f"Convert it: df[{name!r}] = pd.to_numeric(df[{name!r}])",
        polars=f"Convert it: df = df.with_columns(pl.col({name!r}).cast(pl.Float64))",
        csv='Say how the file writes numbers, or what means missing: --csv "decimal=, missing=NA"',
        cell=f"Type a number for {name!r}, or nothing where there is none.",
        file=f"Write {name!r} to the file as numbers.",
        arrays="Convert it: .astype('float64')",
    )


def as_dates(name: str) -> str:
    """What to type to have a column read as dates."""
    return _say(
        table=f"Convert it: df[{name!r}] = pd.to_datetime(df[{name!r}])",
        polars=f"Convert it: df = df.with_columns(pl.col({name!r}).str.to_datetime())",
        csv="Write dates as 2024-01-31, or say in which order the file has day, month and year: --csv dates=dmy",
        cell=f"Type {name!r} as 2024-01-31 or 2024-01-31 12:30:00.",
        file=f"Write {name!r} to the file as dates, or as texts such as 2024-01-31 12:30:00.",
        arrays="Convert it: .astype('datetime64[s]')",
    )


def dates_of(name: str, order: str, pattern: str) -> str:
    """What to type to have texts of a pattern read as dates; ``order`` is ``dmy``, ``mdy``, ``ymd``, or empty."""
    return _say(
        table=f"df[{name!r}] = pd.to_datetime(df[{name!r}], format={pattern!r})",
        polars=f"df = df.with_columns(pl.col({name!r}).str.to_datetime({pattern!r}))",
        csv=f"--csv dates={order}" if order else f"Write {name!r} as 2024-01-31.",
        cell=f"Type {name!r} as 2024-01-31 or 2024-01-31 12:30:00.",
        file=f"Write {name!r} to the file as dates, or as texts such as 2024-01-31 12:30:00.",
        arrays="Give them as datetime64.",
    )


def plain_numbers(name: str, thousands: str, point: str) -> str:
    """What to type to have texts read as numbers whose thousands, and fractions, are set apart by some character."""
    dot = f'.str.replace("{point}", ".")' if point != "." else ""
    marks = f'thousands="{thousands}", decimal="{point}"'
    return _say(
        table=f'df[{name!r}] = df[{name!r}].str.replace("{thousands}", ""){dot}.astype(float)',
        polars=f'pl.col({name!r}).str.replace_all("{thousands}", "", literal=True)'
        + (f'.str.replace("{point}", ".", literal=True)' if dot else "")
        + ".cast(pl.Float64)",
        csv=f"Give the table that this makes of the file: pd.read_csv(…, {marks})",
        cell=f"Type {name!r} as 1234.5.",
        file=f"Write {name!r} to the file as numbers.",
        arrays="Give them as numbers.",
    )


def bare_numbers(name: str, steps: str) -> str:
    """What to type to have numbers without what stands around them; ``steps`` are methods of a column in pandas."""
    column = f"df[{name!r}]{steps}.astype(float)"
    return _say(
        table=f"df[{name!r}] = {column}",
        polars=f"Give numbers alone: pl.col({name!r}).str.extract(…).cast(pl.Float64)",
        csv=f"Give the table that this makes of the file: df = pd.read_csv(…); df[{name!r}] = {column}",
        cell=f"Type {name!r} as a number alone.",
        file=f"Write {name!r} to the file as numbers.",
        arrays="Give them as numbers.",
    )


def odd_missing(name: str, odd: Sequence[str]) -> str:
    """What to type to have the few texts among numbers count as missing."""
    word = odd[0]
    said = f"--csv missing={word}" if word and not set(word) & set(" \t'\"") else f"Leave the cell {word!r} empty"
    if word.count(",") == 1 and word.replace(",", "").lstrip("+-").isdigit():
        said = f"Write {word!r} as {word.replace(',', '.')} in the file"
    return _say(
        table=f'Where they are missing: df[{name!r}] = pd.to_numeric(df[{name!r}], errors="coerce")',
        polars=f"Where they are missing: pl.col({name!r}).cast(pl.Float64, strict=False)",
        csv=f"Where it is missing: {said}",
        cell=f"Type a number for {name!r}, or nothing where there is none.",
        file=f"Write {name!r} to the file as numbers, and null where there is none.",
        arrays="Give them as numbers, and NaN where there is none.",
    )


def is_csv() -> bool:
    """Whether the current rows are those of a CSV file, where one odd cell makes a column text."""
    return _now.get() == "csv"


def as_missing(word: str) -> str:
    """A sentence about what to do where a text means that nothing is there."""
    return "Where it means missing, " + _say(
        table=f"df = df.replace({word!r}, None) says so.",
        polars=f"pl.col(…).replace({word!r}, None) says so.",
        csv=f'csv="missing={word}" (--csv missing={word}) says so.',
        cell="leave it empty.",
        file="write null to the file.",
        arrays="give None.",
    )


def several_labels(name: str) -> str:
    """What to type to have lists of labels as one column of 0 and 1 for each label."""
    return _say(
        table=f"labels = df.pop({name!r}).map(lambda row: '|'.join(map(str, row))).str.get_dummies(); "
        "df = df.join(labels), then --target labels.columns (an Arrow table: .to_pandas() first)",
        polars=f"labels = df[{name!r}].explode().unique().to_list(); df = df.with_columns("
        f"pl.col({name!r}).list.contains(label).cast(pl.Int8).alias(str(label)) for label in labels).drop({name!r}), "
        "then --target with those names",
        arrays="MultiLabelBinarizer().fit_transform(y) of scikit-learn makes it.",
        other=f"Write them to the file in place of {name!r}, and name all of them: --target a,b,c",
    )


def spoken(name: str, array: str, axes: bool = False) -> str:
    """A column as it is spoken of; ``array`` is the name of an array that has none, ``axes`` whether it has several."""
    if _now.get() == "arrays" and (axes or name == array):
        return "The array" if name == array else f"Array {name!r}"
    return f"Column {name!r}"


def not_infinite() -> str:
    """What to type to have infinite values count as missing."""
    return _say(
        table="Mark them as missing: df = df.replace([np.inf, -np.inf], np.nan)",
        polars="Mark them as missing: pl.when(pl.col(…).is_finite()).then(pl.col(…))",
        arrays="Mark them as missing: x[np.isinf(x)] = np.nan",
        other="Mark them as missing: leave them out, or write NaN.",
    )


def with_weights(name: str) -> str:
    """What to type where rows have no weight."""
    return "Drop those rows, or give them a weight: " + _say(
        table=f"df[{name!r}].fillna(1)",
        polars=f"pl.col({name!r}).fill_null(1)",
        arrays="np.nan_to_num(…, nan=1)",
        other=f"write 1 for {name!r}.",
    )


def nearer(name: str) -> str:
    """A sentence about what to do where float64 rounds numbers."""
    return _say(
        table=f"Take away what they share: df[{name!r}] -= df[{name!r}].min(); or df[{name!r}].astype(str), "
        "if they are names.",
        other="Take away what they share, such as the smallest; or give them as texts, if they are names.",
    )


def in_zone(name: str, zone: str | None) -> str:
    """A sentence about what to do where moments are meant in a zone, or by their own clock."""
    place = f'"{zone}"' if zone else None
    said = (
        f"Where they are meant in {zone}, write their offset" if zone else "Where their own clock is meant, write none"
    )
    return _say(
        table=f"{'Where they are meant so' if zone else 'Where its own clock is meant'}: "
        f"df[{name!r}].dt.tz_localize({place})",
        polars=f"{'Where they are meant so' if zone else 'Where its own clock is meant'}: "
        f"pl.col({name!r}).dt.replace_time_zone({place})",
        other=said + (": 2024-01-31 12:30:00+01:00" if zone else ": 2024-01-31 12:30:00"),
    )


def _say(*, table: str, other: str = "", **others: str) -> str:
    origin = _now.get()
    return table if origin == "table" else others.get(origin) or other or table
