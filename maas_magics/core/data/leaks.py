"""Columns that tell the target by themselves: a copy of it, under another name, spelling or unit, is no feature."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.core.data.arrow import Array, as_text, is_number, is_text, numbers, read_numbers

LEAST = 20
"""Rows from which columns are compared: of fewer, many are alike by chance."""

PROOF = 5
"""Rows, besides the first of each value and those with the commonest answer, whose answer a column must tell."""

REPEATS = 10
"""Rows of each value of a column of names, on average, from which on it is taken to hold categories, not keys."""

FIRST = 10_000
"""Rows that all columns are compared on; those that pass, on all."""

NEARLY = 1e-3
"""Most that a quantity may be off, as a share of the target's standard deviation: a copy may be rounded."""


def leaks(table: pa.Table, target: Array) -> list[str]:
    """Columns each of which alone tells the target of every row.

    A column does so whose values are as many as the target's and stand for one each, whose categories each have one
    answer, or which is the target in another unit (times a number, plus a number). Where there is but one column, only
    the first and a copy count, for a relation that simple may be what is to be learnt. Columns that are mostly
    missing, of keys, of times and of arrays are never among them, nor is any of a constant target.

    Parameters
    ----------
    table : pyarrow.Table
        The features, n rows: those that train and those held out.
    target : ndarray, shape (n,)
        As it came: labels or numbers.

    Returns
    -------
    list of str
        Their names.
    """
    if target.ndim != 1 or len(target) < LEAST or target.dtype.names:
        return []
    answers = _answers(target)
    if answers is None or answers.max() < 1:
        return []
    names: list[str] = table.column_names
    alone = len(names) == 1
    for rows in (slice(0, FIRST), slice(0, len(target))):  # a few first, for hardly any column passes those
        part = table.slice(0, rows.stop)
        names = [name for name in names if _tells(part.column(name), target[rows], answers[rows], alone=alone)]
        if rows.stop >= len(target):
            break
    return names


def leak(names: list[str], target: str) -> str:
    """A sentence about the columns ``names``; empty where there are none."""
    if not names:
        return ""
    which = f"Column {names[0]!r}" if len(names) == 1 else f"Each of the columns {', '.join(map(repr, names))}"
    return (
        f"{which} alone tells {target!r} of every row: is it the target itself, or made from it? If it is not known of "
        f"new rows, leave it out: --drop {','.join(names)}"
    )


def _answers(target: Array) -> Array | None:
    """The target as numbers of its different values, from 0; None where they are not labels or numbers."""
    try:
        values = pa.array(target.tolist() if target.dtype == object else target)
        return np.asarray(pc.dictionary_encode(values).indices.to_numpy(zero_copy_only=False))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return None


def _tells(values: pa.ChunkedArray, target: Array, answers: Array, *, alone: bool) -> bool:
    if is_text(values.type):
        text = as_text(values)
        there, quantity = np.asarray(text.is_valid()), None
        codes = np.asarray(pc.dictionary_encode(text.drop_null().combine_chunks()).indices)
    elif is_number(values.type):
        quantity = numbers(values)
        there = np.isfinite(quantity)
        codes = np.unique(quantity[there], return_inverse=True)[1]
    else:
        return False
    if there.sum() < max(LEAST, len(target) / 2):
        return False
    target, answers = target[there], answers[there]
    if _by_value(codes, answers, one_each=alone or quantity is not None):
        return True
    if target.dtype.kind not in "iuf":
        return False
    quantity = numbers(read_numbers(values)) if quantity is None else quantity
    return _in_a_line(quantity[there], target.astype(np.float64), same=alone)


def _by_value(codes: Array, answers: Array, *, one_each: bool) -> bool:
    """Whether each value has one answer; where ``one_each``, each answer one value as well."""
    rows = np.bincount(answers)
    size, kinds = int(codes.max()) + 1, int((rows > 0).sum())
    if size < 2 or kinds < 2 or (one_each and size != kinds) or (size > kinds and size * REPEATS > len(codes)):
        return False
    answer = np.zeros(size, np.int64)
    answer[codes] = answers
    if (answer[codes] != answers).any():
        return False
    again = np.ones(len(codes), bool)
    again[np.unique(codes, return_index=True)[1]] = False
    return int((again & (answers != rows.argmax())).sum()) >= PROOF


@np.errstate(all="ignore")  # numbers may be so large that their squares are none
def _in_a_line(values: Array, target: Array, *, same: bool) -> bool:
    """Whether a quantity is the target times a number, plus a number; where ``same``, the target itself."""
    if not np.isfinite(values).all() or not np.isfinite(target).all() or len(np.unique(target)) < LEAST:
        return False
    spread = float(target.std())
    if not np.isfinite(spread):
        return False
    if same:
        return bool(np.abs(values - target).max() <= NEARLY * spread)
    inner, outer = values - values.mean(), target - target.mean()
    if not (power := float(inner @ inner)):
        return False
    return bool(np.abs(outer - inner * (float(inner @ outer) / power)).max() <= NEARLY * spread)
