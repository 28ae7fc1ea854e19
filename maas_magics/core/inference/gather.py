"""Answers of several chunks as those of all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from maas_magics.core.data.arrow import Array


def gather(
    chunks: Iterable[dict[str, Array]], rows: int | None, progress: Callable[[int, int], None] | None = None
) -> dict[str, Array]:
    """Columns of all chunks, each written to its place at once where the number of rows is known."""
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
            whole = whole or {
                name: np.empty((rows, *values.shape[1:]), dtype=values.dtype) for name, values in chunk.items()
            }
            for name, values in chunk.items():
                whole[name][done : done + size] = values
        done += size
        if progress is not None:
            progress(done, rows or 0)
    if parts:
        whole = {name: np.concatenate([part.pop(name) for part in parts]) for name in tuple(parts[0])}
    return whole
