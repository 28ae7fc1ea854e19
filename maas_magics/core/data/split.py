"""Holding rows out."""

from __future__ import annotations

import numpy as np

from maas_magics.core.data.arrow import Array


def split(rows: int, share: float, seed: int, labels: Array | None) -> tuple[Array, Array]:
    """Indices of training and validation rows.

    Parameters
    ----------
    rows : int
        Number of rows.
    share : float
        Share of the rows held out, 0 ≤ share < 1.
    seed : int
        Seed of the draw.
    labels : ndarray, shape (rows,), or None
        Classes whose shares are kept alike in both parts; a class of one row is only trained on.

    Returns
    -------
    train : ndarray of int64
        Training rows, in random order.
    validation : ndarray of int64
        Rows that are held out, in random order.
    """
    draw = np.random.default_rng(seed)
    if share <= 0 or rows < 2:
        return draw.permutation(rows), np.empty(0, dtype=np.int64)
    if labels is None:
        order = draw.permutation(rows)
        held = min(max(1, round(share * rows)), rows - 1)
        return order[held:], order[:held]
    _, index = np.unique(labels.astype(str) if labels.dtype == object else labels, return_inverse=True)
    order = draw.permutation(rows)
    grouped = order[np.argsort(index[order], kind="stable")]
    sizes = np.bincount(index)
    starts = np.cumsum(sizes) - sizes
    wanted = np.minimum(np.floor(sizes * share + draw.random(len(sizes))).astype(int), sizes - 1)
    if not wanted.sum():
        wanted[np.argmax(sizes)] = min(1, sizes.max() - 1)
    validation = np.concatenate([grouped[start : start + n] for start, n in zip(starts, wanted, strict=True)])
    train = np.concatenate(
        [grouped[start + n : start + size] for start, n, size in zip(starts, wanted, sizes, strict=True)]
    )
    return draw.permutation(train), draw.permutation(validation)
