"""Losses by name, made for a task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from maas_magics.api.errors import ModelError, OptionError
from maas_magics.core.tasks.base import Task

Loss = Callable[[Tensor, Tensor], Tensor]

REGRESSION: dict[str, Loss] = {
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
    "huber": functional.huber_loss,
    "smooth_l1": functional.smooth_l1_loss,
}
CLASSES = ("cross_entropy",)
LABELS = ("bce",)
LOSSES = (*REGRESSION, *CLASSES, *LABELS)

TINY = 1e-7
"""Least probability that a logarithm is taken of."""


def check_of_labels(name: str, task: Task) -> None:
    """Raise `OptionError` for a loss of quantities."""
    if name in REGRESSION:
        raise OptionError(f"The loss {name!r} is for quantities; the task is {task.task}.", "--loss auto")


def quantities(name: str, reduction: str) -> Loss:
    """A loss of quantities, for a network that answers as many numbers as the target has."""
    plain: Callable[..., Tensor] = REGRESSION[name]
    return _like_target(plain if reduction == "mean" else partial(plain, reduction=reduction))


def cross_entropy(task: Task, weights: Tensor | None, smoothing: float, reduction: str) -> Loss:
    """Cross entropy of one label of several."""
    return _as_logits(
        task,
        lambda outputs, target: functional.cross_entropy(
            outputs if outputs.dim() > 1 else outputs.reshape(len(target), -1),
            target,
            weight=weights,
            label_smoothing=smoothing,
            reduction=reduction,
        ),
    )


def binary_cross_entropy(task: Task, positive: Tensor | None, smoothing: float, reduction: str) -> Loss:
    """Cross entropy of labels that hold or not; ``positive`` weighs those that do."""

    def bce(outputs: Tensor, target: Tensor) -> Tensor:
        smooth = target * (1 - smoothing) + 0.5 * smoothing if smoothing else target
        return functional.binary_cross_entropy_with_logits(outputs, smooth, pos_weight=positive, reduction=reduction)

    return _as_logits(task, _like_target(bce))


def logit_of_mean(outputs: Tensor) -> Tensor:
    """Logit of the mean probability of an ensemble, by the logits of its members, (members, n, k)."""
    return functional.logsigmoid(outputs).logsumexp(0) - functional.logsigmoid(-outputs).logsumexp(0)


def _like_target(loss: Loss) -> Loss:
    """Lets a network answer (n,) where the target is (n, 1)."""

    def shaped(outputs: Tensor, target: Tensor) -> Tensor:
        if outputs.shape != target.shape:
            if outputs.numel() != target.numel():
                raise ModelError(
                    f"The network returns {tuple(outputs.shape)} where the target is {tuple(target.shape)}."
                )
            outputs = outputs.reshape(target.shape)
        if outputs.dtype != target.dtype and outputs.dtype == torch.float64:
            target = target.double()
        return loss(outputs, target)

    return shaped


def _as_logits(task: Task, loss: Loss) -> Loss:
    """A loss of logits, for a network that answers probabilities."""
    if task.decoding != "identity":
        return loss
    if task.exclusive:
        return lambda outputs, target: loss(outputs.clamp(TINY, 1).log(), target)
    return lambda outputs, target: loss(torch.logit(outputs, TINY), target)
