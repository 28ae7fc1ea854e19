"""Random numbers of rows: a hash of the epoch's seed, the row and what they are for.

So a row is varied alike whatever the batch that it lies in, however many processes encode, and where a training that
was cut off continues.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Draw:
    """Random numbers for some rows.

    Parameters
    ----------
    seed : int
        Of the epoch.
    rows : sequence of int
        Their places among the training rows.
    column : str
        What is varied; each column has numbers of its own.
    """

    def __init__(self, seed: int, rows: Sequence[int], column: str = "") -> None:
        self._rows = np.asarray(rows, dtype=np.uint64)
        self._seed, self._column = seed, column

    def uniform(self, name: str, size: int = 1) -> Tensor:
        """Numbers from 0 to 1, float32 (n, size); the same each time for a name."""
        with np.errstate(over="ignore"):
            start = _mixed(np.uint64(self._seed % 2**64) + np.uint64(zlib.crc32(f"{self._column}/{name}".encode())))
            each = _mixed(start + self._rows * GOLDEN)
            bits = _mixed(each[:, None] + np.arange(1, size + 1, dtype=np.uint64) * GOLDEN)
        return torch.from_numpy((bits >> np.uint64(40)).astype(np.float32) / np.float32(2**24))

    def within(self, name: str, most: float) -> Tensor:
        """Numbers from −most to most, float32 (n,)."""
        return (2 * self.uniform(name)[:, 0] - 1) * most


def _mixed(values: Any) -> Any:
    """Each number with its bits mixed: the finaliser of splitmix64 (Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * MIX[0]
    values = (values ^ (values >> np.uint64(27))) * MIX[1]
    return values ^ (values >> np.uint64(31))
