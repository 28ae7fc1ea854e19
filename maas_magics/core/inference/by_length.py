"""Rows that differ in length, answered some of about one length at a time: little is padded, and memory stays small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from maas_magics.core.data.arrow import Array
from maas_magics.core.inference.gather import gather


def in_groups(
    run: Callable[[list[Array]], dict[str, Array]],
    raw: Sequence[Array],
    sizes: Array,
    most: int,
    waste: int | None = None,
) -> dict[str, Array]:
    """Answers of raw rows, by groups of about one length, in the order of the rows.

    Parameters
    ----------
    run : callable
        Answers to some rows, by output.
    raw : sequence of ndarray, shape (n, …)
        Arrays of all rows.
    sizes : ndarray of int64, shape (n,)
        About how long each row is.
    most : int
        Rows of a group, times the length of its longest, at most; a group has one row at least.
    waste : int, optional
        Padding of a group at most, in the unit of the lengths; any where it is left out.
    """
    order = np.argsort(sizes, kind="stable")
    groups = list(_groups(order, sizes, most, waste))
    if len(groups) == 1:
        return run(list(raw))
    found = gather((run([values[group] for values in raw]) for group in groups), None)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return {name: values[back] for name, values in found.items()}


def _groups(order: Array, sizes: Array, most: int, waste: int | None) -> Iterator[Array]:
    lengths = sizes[order].tolist()
    start = there = 0
    for stop, longest in enumerate(lengths):
        taken = (stop + 1 - start) * longest
        if start < stop and (taken > most or (waste is not None and taken - there - longest > waste)):
            yield order[start:stop]
            start, there = stop, 0
        there += longest
    yield order[start:]
