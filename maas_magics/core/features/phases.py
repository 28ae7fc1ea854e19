"""Times as numbers, in torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Phases(nn.Module):
    """From microseconds to days from an origin, and the sine and cosine of the phase in each period.

    Whole numbers are subtracted and divided as such, so that times that are microseconds apart stay so. The start of a
    day is a multiple of 2¹³ microseconds, which float64 holds.

    Parameters
    ----------
    periods : sequence of int
        Microseconds of each.
    day : int
        Microseconds of a day.
    missing : int
        What stands for a missing time, which becomes NaN.
    origin : int
        Microseconds since 1970 that days count from.
    """

    def __init__(self, periods: Sequence[int], day: int, missing: int, origin: int) -> None:
        super().__init__()
        self.periods, self.day, self.missing, self.shifted = tuple(periods), day, missing, origin != 0
        # Tensors, for an exporter rounds a double that is a plain number.
        turns = torch.tensor([2 * math.pi / period for period in periods], dtype=torch.float64)
        self.register_buffer("turns", turns, persistent=False)
        self.turns: Tensor
        self.register_buffer("origin", torch.tensor(divmod(origin, day), dtype=torch.float64), persistent=False)
        self.origin: Tensor

    def forward(self, values: Tensor) -> Tensor:
        """int64 (n, 1) to float64 (n, 1 + 2 · periods)."""
        gone = values == self.missing
        after = values % self.day
        day, time = (values - after).to(torch.float64) / self.day, after.to(torch.float64)
        if self.shifted:
            day, time = day - self.origin[0], time - self.origin[1]
        parts = [torch.where(gone, torch.nan, day + time / self.day)]
        for period, turn in zip(self.periods, self.turns, strict=True):
            phase = torch.where(gone, torch.nan, (values % period).to(torch.float64)) * turn
            parts += [torch.sin(phase), torch.cos(phase)]
        return torch.cat(parts, dim=1)
