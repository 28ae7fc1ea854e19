"""Losses by name, and the task each one speaks of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from maas_magics.api.errors import ModelError, OptionError, did_you_mean
from maas_magics.api.requests import Task
from maas_magics.core.data.answers import Answers, Family
from maas_magics.core.losses.known import known
from maas_magics.core.losses.own import Form, OwnLoss
from maas_magics.core.networks.blame import name_of

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

OUTPUTS = ("logits", "probabilities", "values")
"""What a network's outputs may be said to be."""

TINY = 1e-7
"""Least probability that a logarithm is taken of."""


def task_of(loss: Any, task: Task | None, outputs: str | None = None) -> Task | Family | None:
    """Task or family of tasks that a loss, or what is said of the outputs, implies; one that was asked for counts.

    Raises
    ------
    OptionError
        If there is no loss of that name, or they do not go together.
    """
    if outputs is not None and outputs not in OUTPUTS:
        raise OptionError(f"There are no outputs {outputs!r}.", did_you_mean(str(outputs), OUTPUTS))
    if isinstance(loss, str) and loss != "auto" and loss not in LOSSES:
        raise OptionError(f"There is no loss {loss!r}.", did_you_mean(loss, LOSSES))
    takes = known(loss) if callable(loss) else None
    if outputs == "values" and (task not in (None, "regression") or loss in (*CLASSES, *LABELS)):
        raise OptionError(
            f"Values are of quantities; {f'the task is {task}' if task else f'the loss {loss!r} is for labels'}.",
            "--outputs logits",
        )
    if task is not None:
        if takes is not None and (task == "regression") != (takes.family == "quantities") and takes.family == "classes":
            raise OptionError(f"The loss {name_of(loss)} is for labels; the task is regression.", "--loss mse")
        return task
    if outputs == "values":
        return "quantities"
    if takes is not None:
        return takes.family
    return "regression" if loss in REGRESSION else "choice" if loss in CLASSES else None


def make_loss(
    loss: Any,
    answers: Answers,
    weights: Tensor | None,
    smoothing: float,
    form: Form | None = None,
    reduction: str = "mean",
) -> Loss:
    """Loss ``(outputs, target) -> scalar`` for a task.

    Parameters
    ----------
    loss : str or callable
    answers : Answers
    weights : Tensor or None
        One for each class.
    smoothing : float
        Share of the target spread over all classes.
    form : Form, optional
        How a callable gets its arguments; it is handed outputs and encoded target as they are without one.
    reduction : {"mean", "none"}
        ``"none"`` gives a loss for each number of the target; not for a callable.
    """
    if callable(loss):
        return OwnLoss(loss, form)
    task = answers.task
    if loss in REGRESSION or (loss == "auto" and task == "regression"):
        if task != "regression":
            raise OptionError(f"The loss {loss!r} is for quantities; the task is {task}.", "--loss auto")
        plain: Callable[..., Tensor] = REGRESSION.get(loss, functional.mse_loss)
        return _like_target(plain if reduction == "mean" else partial(plain, reduction=reduction))
    if task == "regression":
        raise OptionError(f"The loss {loss!r} is for labels; the task is regression.", "--loss mse")
    if task == "multiclass":
        if loss == "bce":
            raise OptionError(
                "The loss 'bce' is for one or several yes/no labels; the task is multiclass.", "--loss cross_entropy"
            )
        return _as_logits(
            answers,
            lambda outputs, target: functional.cross_entropy(
                outputs if outputs.dim() > 1 else outputs.reshape(len(target), -1),
                target,
                weight=weights,
                label_smoothing=smoothing,
                reduction=reduction,
            ),
        )
    if loss == "cross_entropy" and task == "multilabel":
        raise OptionError("The loss 'cross_entropy' is for one label a row; the task is multilabel.", "--loss bce")
    positive = None if weights is None else weights[1:] / weights[:1] if task == "binary" else weights

    def bce(outputs: Tensor, target: Tensor) -> Tensor:
        smooth = target * (1 - smoothing) + 0.5 * smoothing if smoothing else target
        return functional.binary_cross_entropy_with_logits(outputs, smooth, pos_weight=positive, reduction=reduction)

    return _as_logits(answers, _like_target(bce))


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
                    f"The network answers {tuple(outputs.shape)} where the target is {tuple(target.shape)}."
                )
            outputs = outputs.reshape(target.shape)
        if outputs.dtype != target.dtype and outputs.dtype == torch.float64:
            target = target.double()
        return loss(outputs, target)

    return shaped


def _as_logits(answers: Answers, loss: Loss) -> Loss:
    """A loss of logits, for a network that answers probabilities."""
    if answers.decoding != "identity":
        return loss
    if answers.task == "multiclass":
        return lambda outputs, target: loss(outputs.clamp(TINY, 1).log(), target)
    return lambda outputs, target: loss(torch.logit(outputs, TINY), target)
