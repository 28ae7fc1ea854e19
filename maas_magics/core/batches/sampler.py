"""Rows drawn so that each label is equally likely."""

from __future__ import annotations

import torch
from torch import Tensor

from maas_magics.api.errors import OptionError
from maas_magics.core.tasks.base import Task


class BalancedOrder:
    """Draws rows with replacement: a label first, each equally likely, then one of its rows.

    The same rows are equally likely as with ``torch.utils.data.WeightedRandomSampler`` and weights of 1 / n_label, for
    any number of rows.

    Parameters
    ----------
    target : Tensor
        Encoded labels, (n,) or (n, 1).
    """

    def __init__(self, target: Tensor) -> None:
        labels = target.reshape(-1).to("cpu", torch.int64)
        self._rows = torch.argsort(labels, stable=True)
        counts = torch.bincount(labels)
        starts = counts.cumsum(0) - counts
        self._counts, self._starts = counts[counts > 0], starts[counts > 0]

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Indices of as many rows as there are, int64 (n,)."""
        rows = len(self._rows)
        label = torch.randint(len(self._counts), (rows,), generator=generator)
        counts = self._counts[label]
        # A share of a label's rows, as a whole number: float64 is exact far beyond any number of rows.
        place = (torch.rand(rows, generator=generator, dtype=torch.float64) * counts).to(torch.int64)
        return self._rows[self._starts[label] + place.minimum(counts - 1)]


def balanced_order(answers: Task, target: Tensor) -> BalancedOrder:
    """Sampler of a task's rows.

    Raises
    ------
    OptionError
        For a task that has not one label a row.
    """
    if not answers.one_label:
        raise OptionError(f"Rows are balanced by their label; the task is {answers.task}.", "Drop --balance.")
    return BalancedOrder(target)
