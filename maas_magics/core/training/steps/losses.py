"""Losses by name, and the task each one speaks of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from maas_magics.api.errors import MaasError, ModelError, OptionError, did_you_mean
from maas_magics.api.requests import Task
from maas_magics.core.data.answers import Answers

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


def task_of(loss: Any, task: Task | None) -> Task | None:
    """Task that a loss by name implies, unless one was asked for.

    Raises
    ------
    OptionError
        If there is no loss of that name.
    """
    if not isinstance(loss, str) or loss == "auto":
        return task
    if loss not in LOSSES:
        raise OptionError(f"There is no loss {loss!r}.", did_you_mean(loss, LOSSES))
    return "regression" if loss in REGRESSION and task is None else task


def make_loss(loss: Any, answers: Answers, weights: Tensor | None, smoothing: float) -> Loss:
    """Loss ``(outputs, target) -> scalar`` for a task.

    Parameters
    ----------
    loss : str or callable
    answers : Answers
    weights : Tensor or None
        One for each class.
    smoothing : float
        Share of the target spread over all classes.
    """
    if callable(loss):
        return _checked(loss)
    task = answers.task
    if loss in REGRESSION or (loss == "auto" and task == "regression"):
        if task != "regression":
            raise OptionError(f"The loss {loss!r} is for quantities; the task is {task}.", "--loss auto")
        return _like_target(REGRESSION.get(loss, functional.mse_loss))
    if task == "regression":
        raise OptionError(f"The loss {loss!r} is for labels; the task is regression.", "--loss mse")
    if task == "multiclass":
        if loss == "bce":
            raise OptionError(
                "The loss 'bce' is for one or several yes/no labels; the task is multiclass.", "--loss cross_entropy"
            )
        return lambda outputs, target: functional.cross_entropy(
            outputs, target, weight=weights, label_smoothing=smoothing
        )
    if loss == "cross_entropy" and task == "multilabel":
        raise OptionError("The loss 'cross_entropy' is for one label a row; the task is multilabel.", "--loss bce")
    positive = None if weights is None else weights[1:] / weights[:1] if task == "binary" else weights

    def bce(outputs: Tensor, target: Tensor) -> Tensor:
        smooth = target * (1 - smoothing) + 0.5 * smoothing if smoothing else target
        return functional.binary_cross_entropy_with_logits(outputs, smooth, pos_weight=positive)

    return _like_target(bce)


def mass_of(loss: Any, answers: Answers, weights: Tensor | None) -> Callable[[Tensor], Tensor] | None:
    """What a batch counts in the mean over several: the weights of its labels, where the loss divides by them.

    None means its rows. A loss of the user's own is taken for a mean over rows.
    """
    if callable(loss) or weights is None or answers.task != "multiclass":
        return None
    return lambda target: weights[target].sum()


def _like_target(loss: Loss) -> Loss:
    """Lets a network answer (n,) where the target is (n, 1)."""

    def shaped(outputs: Tensor, target: Tensor) -> Tensor:
        if outputs.shape != target.shape:
            if outputs.numel() != target.numel():
                raise ModelError(
                    f"The network answers {tuple(outputs.shape)} where the target is {tuple(target.shape)}.",
                    f"Its last layer should have {target.shape[-1]} outputs.",
                )
            outputs = outputs.reshape(target.shape)
        return loss(outputs, target)

    return shaped


def _checked(loss: Callable[..., Any]) -> Loss:
    """A user's loss, whose answer is checked to be one number."""

    def checked(outputs: Tensor, target: Tensor) -> Tensor:
        value = loss(outputs, target)
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            found = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise MaasError(f"The loss answers {found}, not one number as a tensor.", "End it with .mean()")
        return value.reshape(())

    return checked
