"""A network that was made smaller learns to answer as it did before. Not a compressor: it registers nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from maas_magics.core.architectures import Recipe

STEPS = 400
"""Steps of a fine-tuning."""

ROWS = 256
"""Rows that are asked at once."""


def taught_by(
    before: nn.Module,
    smaller: nn.Module,
    inputs: tuple[Tensor, ...],
    recipe: Recipe,
    check_stop: Callable[[], None],
) -> None:
    """Train a network, in place, on the outputs of another: their mean squared difference, by their variance.

    Neither needs the answers of the rows, so any rows of the kind will do.

    Parameters
    ----------
    before : nn.Module
        In eval mode.
    smaller : nn.Module
        Is left in eval mode.
    inputs : tuple of Tensor, shape (n, …)
        What both take.
    recipe : Recipe
        Has the learning rate and the rows of a batch.
    check_stop : callable
        Called between two steps; may raise to end.
    """
    rows = len(inputs[0])
    with torch.no_grad():
        parts = [before(*(x[start : start + ROWS] for x in inputs)) for start in range(0, rows, ROWS)]
    wanted = torch.cat(parts)
    spread = wanted.var().clamp(min=1e-12)
    size = max(2, min(recipe.batch_size, rows // 4))
    optimizer = torch.optim.AdamW(smaller.parameters(), lr=recipe.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    smaller.train()
    order = torch.randperm(rows)
    for step in range(STEPS):
        check_stop()
        start = step * size % max(1, rows - rows % size)
        if not start:
            order = torch.randperm(rows)
        index = order[start : start + size]
        outputs, target = smaller(*(x[index] for x in inputs)), wanted[index]
        if outputs.dim() > target.dim():  # each member of an ensemble
            target = target[:, None].expand_as(outputs)
        optimizer.zero_grad()
        torch.autograd.backward(functional.mse_loss(outputs, target) / spread)
        optimizer.step()
        schedule.step()
    smaller.eval()
