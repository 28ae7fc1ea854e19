"""Columns of every kind, drawn at random, and tables of them.

A drawn column is a list of plain Python values, ``None`` for missing, so that one and the same table can be given in
every way that `ways` knows.
"""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Values = list[Any]

WORDS = (
    "a", "b", "B", "NA", "N/A", "null", "NULL", "nan", "NaN", "None", "true", "False", "1", "1.0", "01", "007", "1e3",
    "-", "inf", "ü", "x,y", 'q"t', "two words", "2020-01-01", "12:30", "0x10", "é;è", "it's", "<NA>", "#N/A", "?", "yes",
)  # fmt: skip
"""Texts that some reader of files takes for something else."""

NAMES = ("a", "b b", "ü", "x.y", "q'", "0", "index", "a,b", "label", "Target", "class", "x;y", "prediction", "_", "A")

ZONES = (None, dt.UTC)


@dataclass(frozen=True)
class Column:
    """A drawn column.

    Attributes
    ----------
    kind : str
        Name of what drew it.
    values : list
        One plain value a row.
    """

    kind: str
    values: Values


def _some(rng: np.random.Generator, values: Values, share: float) -> Values:
    return [None if gone else value for gone, value in zip(rng.random(len(values)) < share, values, strict=True)]


def _floats(rng: np.random.Generator, n: int) -> Values:
    level = rng.choice([0.0, 0.0, 5.4e6, -1e8, 1e-9])
    spread = rng.choice([1.0, 1e-3, 1e5, 1e-12])
    return [float(value) for value in level + spread * rng.normal(size=n)]


def _odd_floats(rng: np.random.Generator, n: int) -> Values:
    values = _floats(rng, n)
    for place in rng.integers(0, n, 3):
        values[place] = float(rng.choice([math.nan, 0.0, -0.0, 1e300, 5e-324, 1e30]))
    return values


def _infinite(rng: np.random.Generator, n: int) -> Values:
    values = _floats(rng, n)
    values[int(rng.integers(n))] = float(rng.choice([math.inf, -math.inf]))
    return values


def _ints(rng: np.random.Generator, n: int) -> Values:
    low, high = [(0, 2), (0, 5), (-3, 100), (0, 2**31), (-(2**62), 2**62), (2**53, 2**53 + 9)][int(rng.integers(6))]
    return [int(value) for value in rng.integers(low, high, n)]


def _bools(rng: np.random.Generator, n: int) -> Values:
    return [bool(value) for value in rng.integers(0, 2, n)]


def _words(rng: np.random.Generator, n: int) -> Values:
    pool = rng.choice(WORDS, int(rng.integers(1, 7)), replace=False)
    return [str(value) for value in rng.choice(pool, n)]


def _names(rng: np.random.Generator, n: int) -> Values:
    return [f"row {value}" for value in rng.permutation(n)]


def _sentences(rng: np.random.Generator, n: int) -> Values:
    words = [
        "the",
        "film",
        "was",
        "good",
        "bad",
        "slow",
        "and",
        "we",
        "left",
        "early",
        "because",
        "it",
        "rained",
        "long",
    ]
    pool = [" ".join(rng.choice(words, 9)) for _ in range(int(rng.integers(2, max(3, n))))]
    return [str(value) for value in rng.choice(pool, n)]


def _days(rng: np.random.Generator, n: int) -> Values:
    return [dt.date(2020, 1, 1) + dt.timedelta(days=int(value)) for value in rng.integers(-9000, 900, n)]


def _times(rng: np.random.Generator, n: int) -> Values:
    zone = ZONES[int(rng.integers(2))]
    start = dt.datetime(2021, 3, 1, tzinfo=zone)
    return [start + dt.timedelta(seconds=int(value)) for value in rng.integers(0, 10**8, n)]


def _lengths(rng: np.random.Generator, n: int) -> Values:
    return [dt.timedelta(seconds=int(value)) for value in rng.integers(-1000, 10**6, n)]


def _hours(rng: np.random.Generator, n: int) -> Values:
    return [dt.time(int(value) % 24, int(value) % 60) for value in rng.integers(0, 1440, n)]


def _decimals(rng: np.random.Generator, n: int) -> Values:
    return [decimal.Decimal(int(value)).scaleb(-int(rng.integers(0, 4))) for value in rng.integers(-999, 999, n)]


def _fractions(rng: np.random.Generator, n: int) -> Values:
    return [fractions.Fraction(int(value), 7) for value in rng.integers(-99, 99, n)]


def _numbers_of_several_kinds(rng: np.random.Generator, n: int) -> Values:
    kinds: list[Callable[[float], Any]] = [
        float,
        int,
        lambda x: bool(x > 0),
        lambda x: decimal.Decimal(str(round(x, 3))),
    ]
    return [kinds[int(rng.integers(len(kinds)))](float(value)) for value in 10 * rng.normal(size=n)]


def _mixed(rng: np.random.Generator, n: int) -> Values:
    parts = [_floats(rng, n), _words(rng, n), _bools(rng, n), _days(rng, n)]
    return [parts[int(kind)][row] for row, kind in enumerate(rng.integers(0, len(parts), n))]


def _constant(rng: np.random.Generator, n: int) -> Values:
    return [[0, 1.5, "x", True, dt.date(2020, 1, 1)][int(rng.integers(5))]] * n


def _lists(rng: np.random.Generator, n: int) -> Values:
    width = int(rng.integers(0, 4))
    return [[float(value) for value in row] for row in rng.normal(size=(n, width))]


def _ragged(rng: np.random.Generator, n: int) -> Values:
    return [[1.0] * int(width) for width in rng.integers(0, 4, n)]


def _bytes(rng: np.random.Generator, n: int) -> Values:
    return [bytes([int(value)]) for value in rng.integers(0, 255, n)]


def _objects(rng: np.random.Generator, n: int) -> Values:
    return [[{"a": 1}, {1, 2}, object, complex(1, 2), range(3)][int(rng.integers(5))]] * n


NUMBERS: dict[str, Callable[[np.random.Generator, int], Values]] = {
    "floats": _floats,
    "odd floats": _odd_floats,
    "ints": _ints,
    "bools": _bools,
}
"""Kinds that every way into the package can express."""

PLAIN: dict[str, Callable[[np.random.Generator, int], Values]] = {
    **NUMBERS,
    "words": _words,
    "days": _days,
    "times": _times,
    "names": _names,
    "sentences": _sentences,
}
"""Kinds that a file of text can express as well."""

EVERY: dict[str, Callable[[np.random.Generator, int], Values]] = {
    **PLAIN,
    "infinite": _infinite,
    "lengths": _lengths,
    "hours": _hours,
    "decimals": _decimals,
    "fractions": _fractions,
    "numbers of several kinds": _numbers_of_several_kinds,
    "mixed": _mixed,
    "constant": _constant,
    "lists": _lists,
    "ragged": _ragged,
    "bytes": _bytes,
    "objects": _objects,
    "empty": lambda rng, n: [None] * n,
}
"""Kinds of values of a column."""


TARGETS: tuple[Callable[[np.random.Generator, int], Values], ...] = (
    _floats,
    _words,
    _bools,
    lambda rng, n: [int(value) for value in rng.integers(0, 3, n)],
    lambda rng, n: [float(value) for value in rng.choice([0.1, 0.2, 0.3], n)],
)
"""What is mostly learnt."""


def draw_column(rng: np.random.Generator, rows: int, kinds: dict[str, Any]) -> Column:
    """One column, now and then with missing values."""
    kind = str(rng.choice(list(kinds)))
    values = kinds[kind](rng, rows)
    share = float(rng.choice([0.0, 0.0, 0.15, 0.9]))
    return Column(kind, _some(rng, values, share) if share else values)


def draw_table(seed: int, kinds: dict[str, Any]) -> tuple[dict[str, Column], str]:
    """A table of one to five features and a target, and the target's name.

    Parameters
    ----------
    seed : int
        Draws the same again.
    kinds : dict of str to callable
        What its columns may be.
    """
    rng = np.random.default_rng(seed)
    rows = int(rng.choice([1, 2, 3, 12, 40, 330], p=[0.03, 0.03, 0.04, 0.15, 0.6, 0.15]))
    names = [str(name) for name in rng.choice(NAMES, int(rng.integers(2, 7)), replace=False)]
    odd = rng.random() < 0.5
    table = {name: draw_column(rng, rows, kinds if odd and rng.random() < 0.4 else PLAIN) for name in names}
    if rng.random() < 0.8:
        table[names[-1]] = Column("target", TARGETS[int(rng.integers(len(TARGETS)))](rng, rows))
    return table, names[-1]
