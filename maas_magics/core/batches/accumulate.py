"""Several batches for one step of the optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch

from maas_magics.core.batches.batches import Batch, Batches


class GradientAccumulation:
    """Batches in groups, one for each step of the optimizer; the last one of an epoch may be shorter.

    An item is ``(batches, target)``: the batches of a group in place of the inputs, and the target of all their rows.

    Parameters
    ----------
    batches : Batches
    size : int
        Batches of a group.
    """

    def __init__(self, batches: Batches, size: int) -> None:
        self._batches, self._size = batches, size
        self.rows = batches.rows
        self.steps = -(-batches.steps // size)

    def epoch(self, generator: torch.Generator, start: int = 0) -> Iterator[Any]:
        """Every group once, those before ``start`` left out."""
        return self._groups(self._batches.epoch(generator, start * self._size))

    def _groups(self, batches: Iterator[Batch]) -> Iterator[Any]:
        while group := tuple(islice(batches, self._size)):
            yield group, torch.cat([target for _, target in group])

    def whole(self) -> Iterator[Batch]:
        """Every row once, in order and not in groups."""
        return self._batches.whole()
