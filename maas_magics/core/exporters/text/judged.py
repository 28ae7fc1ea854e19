"""How surprised something that gives logits is by texts. Not an exporter: it registers nothing, and needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from maas_magics.core.data.arrow import Array

AT_ONCE = 128
"""Tokens whose logits are looked at together."""


def judged(blocks: Array, logits: Callable[[Array], Array]) -> Array:
    """Surprise at each token but the first, in nats, and the token that was thought likeliest, float64 (n, tokens, 2).

    Parameters
    ----------
    blocks : ndarray, int32, shape (n, 2, tokens)
        Ids of tokens, and the place of each in its text; where that is 0, another text begins.
    logits : callable
        From ids of one text, (tokens,), to the logits behind each, float32 (tokens, vocabulary).
    """
    found = np.zeros((len(blocks), blocks.shape[2] - 1, 2))
    for made, (ids, places) in zip(found, blocks, strict=True):
        last = int(np.flatnonzero(ids.astype(bool) | places.astype(bool)).max(initial=0))  # what is behind is padding
        begins = [*np.flatnonzero(places[:last] == 0), last]
        for start, end in pairwise(begins):
            given = logits(ids[start:end])
            for at in range(start, end, AT_ONCE):  # in float64 there may be gigabytes of all of them
                to = min(at + AT_ONCE, end)
                rows = given[at - start : to - start].astype(np.float64)
                wanted = rows[np.arange(to - at), ids[at + 1 : to + 1]]
                most = rows.max(axis=1)
                total = np.log(np.exp(rows - most[:, None]).sum(axis=1)) + most
                made[at:to, 0], made[at:to, 1] = total - wanted, rows.argmax(axis=1)
    return found
