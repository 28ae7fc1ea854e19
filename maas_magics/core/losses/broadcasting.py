"""Losses that set every row's output against every row's target."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MOVES = (1.0, 0.1, 10.0)
"""Sizes of the changes of outputs that show whether a loss broadcasts, relative to the size of the target."""


@torch.no_grad()
def broadcasts(loss: Callable[[Tensor, Tensor], Any], outputs: Tensor, target: Tensor) -> bool:
    """Whether the rows of the outputs meet the targets of other rows.

    That is so where a row has one number of each, and the loss depends on the targets, but not on which row has which,
    whatever the outputs are. What one move of them hides, as an exp that swamps all else, another shows.
    """
    if outputs[:1].numel() != 1 or target[:1].numel() != 1 or torch.equal(target, target.roll(1, 0)):
        return False
    drawn = torch.rand(outputs.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spread = (0.01 + drawn).to(outputs.device)
    size = float(target.abs().max())
    exact = outputs.double()
    moved = [exact + move * spread for move in dict.fromkeys((size, *MOVES)) if move > 0]
    moved.append(torch.where(exact == 0, spread / 10, exact * (1 - spread / 10)))
    found = [_deals_alike(loss, tried, outputs.dtype, target) for tried in moved]
    return True in found and False not in found


def _deals_alike(
    loss: Callable[[Tensor, Tensor], Any], outputs: Tensor, dtype: torch.dtype, target: Tensor
) -> bool | None:
    """Whether the loss ignores which row has which target, though not the targets themselves; None if undecided."""
    dealt = (target, target.roll(1, 0), target[:1].expand_as(target))
    for kind, part in ((torch.float64, 1e-9), (dtype, 1e-5)):
        try:
            plain, other, same = (float(loss(outputs.to(kind), t)) for t in dealt)
        except Exception:  # its own tensors are of another kind, or it refuses what no network answered
            continue
        if not all(map(math.isfinite, (plain, other, same))):
            return None
        near = part * abs(plain) + 1e-9
        return None if abs(plain - same) <= near else abs(plain - other) <= near
    return None
