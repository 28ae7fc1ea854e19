"""Pairs of texts in two columns, as one column of twice the rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.core.data.arrow import Array


def interleaved(one: pa.ChunkedArray, other: pa.ChunkedArray) -> tuple[pa.ChunkedArray, Array, int]:
    """Values of pairs one after the other, their target, and how many pairs lack a value.

    Parameters
    ----------
    one, other : pyarrow.ChunkedArray
        Texts, n each.

    Returns
    -------
    values : pyarrow.ChunkedArray
        2n texts at most.
    numbers : ndarray, shape (2n, 2)
        Number of each value, and of its pair, int64.
    left : int
        Pairs that are left out.
    """
    kind = pa.large_string()
    one, other = one.cast(kind), other.cast(kind)
    bare = [pc.utf8_trim_whitespace(pc.fill_null(values, "")) for values in (one, other)]
    there = pc.and_(pc.not_equal(bare[0], ""), pc.not_equal(bare[1], ""))
    one, other, *bare = (values.filter(there) for values in (one, other, *bare))
    pairs = len(one)
    order = np.arange(2 * pairs).reshape(2, pairs).T.ravel()
    codes = pa.concat_arrays([*bare[0].chunks, *bare[1].chunks]).dictionary_encode().indices.to_numpy()
    values = pa.chunked_array([*one.chunks, *other.chunks], kind).take(pa.array(order))
    return values, np.stack([codes[order].astype(np.int64), order % max(1, pairs)], axis=1), len(there) - pairs
