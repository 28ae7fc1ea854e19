"""What the letters of tokens have in common."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np

from maas_magics.core.data.arrow import Array
from maas_magics.core.features.tokens import PAD, UNKNOWN, tokenizer

IN_A_ROW = (3, 4, 5)
"""Letters that are taken together; the ends of a token count as one each."""

MOST = 32
"""Of each token: what is behind, of long ones, is left out."""


@lru_cache(maxsize=4)
def letters_of(source: str, size: int, room: int) -> Array:
    """Numbers of the letters in a row of each token, int32 (size, k), from 1 to ``room``; behind them zeros.

    Parameters
    ----------
    source : str
        The JSON of a tokenizer.
    size : int
        How many different tokens there are.
    room : int
        How many numbers there are, which letters share by a hash (CRC-32 of their UTF-8).
    """
    rows: list[list[int]] = [[] for _ in range(size)]
    for token, place in tokenizer(source, 0).get_vocab().items():
        if token not in (PAD, UNKNOWN) and place < size:
            ended = f"<{token}>"
            parts = (ended[at : at + many] for many in IN_A_ROW for at in range(len(ended) - many + 1))
            rows[place] = [zlib.crc32(part.encode()) % room + 1 for part in parts][:MOST]
    found = np.zeros((size, max(1, max(map(len, rows), default=0))), dtype=np.int32)
    for row, codes in zip(found, rows, strict=True):
        row[: len(codes)] = codes
    return found
