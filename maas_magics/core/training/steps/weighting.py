"""Rows that count differently in the loss: their weights stand beside their target, so they go wherever it goes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from maas_magics.api.errors import OptionError
from maas_magics.core.losses.heads import ClassWeighted, Forms, SumOfLosses, each
from maas_magics.core.losses.make import make_loss
from maas_magics.core.losses.own import Form, OwnLoss
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.class_weights import weights_of

Rowwise = Callable[[Tensor, Tensor], Tensor]
"""``(outputs, target) -> losses``, one for each number of the target, or for each row."""


class Weighted:
    """Loss of rows that count differently: their mean, each times its weight over the mean weight of all that train.

    So every batch counts as many rows as it has, whatever their weights, as it does without any; equal weights change
    nothing; a row of weight 0 does not contribute to the gradient.

    Parameters
    ----------
    rowwise : Rowwise
    like : Tensor
        Some encoded target, without weights.
    mean : float
        Mean weight of the training rows.
    """

    def __init__(self, rowwise: Rowwise, like: Tensor, mean: float) -> None:
        self._rowwise, self._flat, self._dtype, self._mean = rowwise, like.dim() == 1, like.dtype, mean

    def parted(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Target as it was, and the weights (n,)."""
        target = rows[:, 0] if self._flat else rows[:, :-1]
        return target.to(self._dtype), rows[:, -1]

    def __call__(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Loss of a batch."""
        losses, weights = self._losses(outputs, rows)
        return (losses * weights).mean() / self._mean

    def measured(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Loss of all of some rows: their weighted mean; NaN where all weights are 0."""
        losses, weights = self._losses(outputs, rows)
        return (losses.double() * weights).sum() / weights.double().sum()

    def _losses(self, outputs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        target, weights = self.parted(rows)
        losses = self._rowwise(outputs, target)
        losses = losses.reshape(len(weights), -1).mean(dim=1) if losses.dim() != 1 else losses
        return losses, weights.to(losses.dtype)


def rowwise(
    loss: Any, answers: Task, smoothing: float, form: Form | Forms | None, classes: Tensor | None = None
) -> Rowwise:
    """Losses of single rows for a loss by name, one of ``torch.nn``, or a function that takes a ``reduction``.

    Parameters
    ----------
    loss, answers, smoothing, form
        As `make_loss` takes them.
    classes : Tensor, optional
        Class weights of several heads; those of one target are part of the weights of its rows.

    Raises
    ------
    OptionError
        For any other loss, which gives one value for a batch.
    """
    if answers.parts:
        forms = form.forms if isinstance(form, Forms) else (None,) * len(answers.parts)
        asked = each(loss, answers.names, "loss", "auto")
        losses = []
        for one, head, of, weights in zip(asked, answers.parts, forms, weights_of(answers, classes), strict=True):
            plain = rowwise(one, head, smoothing, of)
            losses.append(plain if weights is None else ClassWeighted(plain, weights, mean=False))
        return SumOfLosses(losses, answers, rowwise=True)
    assert not isinstance(form, Forms)
    if not callable(loss):
        return make_loss(loss, answers, None, smoothing, reduction="none")
    if isinstance(getattr(loss, "reduction", None), str):
        loss = copy.copy(loss)
        loss.reduction = "none"
        return OwnLoss(loss, form).value
    try:
        takes = "reduction" in inspect.signature(loss).parameters
    except (TypeError, ValueError):
        takes = False
    if not takes:
        raise OptionError(
            "A loss of your own gives one value for a batch, so its rows cannot be weighted.",
            "Give it the parameter reduction='none', or put the weights into the target.",
        )
    return OwnLoss(partial(loss, reduction="none"), form).value
