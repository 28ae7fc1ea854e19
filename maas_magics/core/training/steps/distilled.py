"""The loss of a network that learns from a teacher, whose answers stand beside the target of each training row."""

from __future__ import annotations

from torch import Tensor

from maas_magics.core.tasks.losses import Loss


class Distilled:
    """Loss against the target, and against what a teacher answers, each with its share.

    Held-out rows have no such answers beside them, and the loss against the target alone.

    Parameters
    ----------
    loss : Loss
        Against the target.
    likeness : Loss
        Against the teacher's answers.
    like : Tensor
        Some encoded target, without answers beside it.
    width : int
        Numbers that a teacher answers to a row.
    alpha : float
        Share of ``likeness``.
    """

    def __init__(self, loss: Loss, likeness: Loss, like: Tensor, width: int, alpha: float) -> None:
        self._loss, self._likeness, self._alpha, self._width = loss, likeness, alpha, width
        self._dtype, self._axes, self._numbers = like.dtype, like.dim(), like[:1].numel()

    def __call__(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Loss of a batch."""
        if rows.dim() == self._axes and (self._axes == 1 or rows.shape[1] == self._numbers):
            return self._loss(outputs, rows)
        target, taught = rows[:, : -self._width], rows[:, -self._width :]
        plain = self._loss(outputs, (target[:, 0] if self._axes == 1 else target).to(self._dtype))
        return (1 - self._alpha) * plain + self._alpha * self._likeness(outputs, taught)
