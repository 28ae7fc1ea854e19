"""Answers of several chunks as those of all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from maas_magics.core.data.arrow import Array


def gather(
    chunks: Iterable[dict[str, Array]], rows: int | None, progress: Callable[[int, int], None] | None = None
) -> dict[str, Array]:
    """Columns of all chunks, each written to its place at once where the number of rows is known.

    Where rows of a chunk are shorter than those of another, as sentences of a tag for each word, they are padded with
    zeros, or empty texts.
    """
    whole: dict[str, Array] = {}
    parts: list[dict[str, Array]] = []
    done = 0
    for chunk in chunks:
        size = len(next(iter(chunk.values())))
        if rows == size:
            whole = chunk
        elif rows is None:
            parts.append(chunk)
        else:
            for name, values in chunk.items():
                if name not in whole:
                    whole[name] = np.empty((rows, *values.shape[1:]), dtype=values.dtype)
                elif values.shape[1:] != whole[name].shape[1:]:
                    shape = np.maximum(values.shape[1:], whole[name].shape[1:])
                    whole[name] = padded(whole[name], shape)
                    values = padded(values, shape)
                whole[name][done : done + size] = values
        done += size
        if progress is not None:
            progress(done, rows or 0)
    if parts:
        whole = {name: _together([part.pop(name) for part in parts]) for name in tuple(parts[0])}
    return whole


def _together(parts: list[Array]) -> Array:
    if len({part.shape[1:] for part in parts}) > 1:
        shape = np.max([part.shape[1:] for part in parts], axis=0)
        parts = [padded(part, shape) for part in parts]
    return np.concatenate(parts)


def padded(values: Array, shape: Sequence[int] | Array) -> Array:
    """Rows with zeros, or empty texts, behind what they have.

    Parameters
    ----------
    values : ndarray, shape (n, …)
        Answers.
    shape : sequence of int
        Of a row then; no axis is shorter.
    """
    if values.shape[1:] == tuple(shape):
        return values
    found = np.full((len(values), *shape), "" if values.dtype == object else 0, dtype=values.dtype)
    found[tuple(map(slice, values.shape))] = values
    return found
