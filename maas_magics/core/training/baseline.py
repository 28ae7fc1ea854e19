"""What a constant answer is worth: the mean, or the most frequent label. A model is to be better than that."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from maas_magics.core.data.answers import MOST_CLASSES, Answers
from maas_magics.core.training.metrics import LABELS, QUANTITIES, Metric, evaluate
from maas_magics.core.training.plan import History
from maas_magics.core.training.steps.losses import Loss

PRIMARY = ("accuracy", "rmse")
"""The figures that tell whether answers are of use."""

SINGLE = 0.5
"""Labels, as a share of the rows, beyond which hardly one is there twice."""

DIVERGED = 10.0
"""A loss that is this many times that of a constant answer, and of the first step, has diverged."""


def constant(answers: Answers, known: Tensor) -> Tensor:
    """What a constant answers: mean of each quantity, or share of each label, float64 (k,).

    Parameters
    ----------
    answers : Answers
        With the training rows' own; where they were not counted, those of ``known`` stand for them.
    known : Tensor
        Target of some rows as metrics take it; see `maas_magics.core.data.decode.truth`.
    """
    if answers.usual:
        return torch.tensor(answers.usual, dtype=torch.float64, device=known.device)
    if answers.task in ("binary", "multiclass"):
        return torch.bincount(known, minlength=len(answers.classes)).double() / max(1, len(known))
    return known.double().mean(0)


def baseline(
    metrics: Mapping[str, Metric], answers: Answers, known: Tensor, weights: Tensor | None = None
) -> dict[str, float]:
    """The package's own figures of a constant answer to some rows; those of a user's metric are not told."""
    ours = {*LABELS.values(), *QUANTITIES.values()}
    said = constant(answers, known).expand(len(known), -1)
    found = evaluate({name: metric for name, metric in metrics.items() if metric in ours}, said, known, weights)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def constant_loss(
    loss: Loss,
    answers: Answers,
    known: Tensor,
    target: Tensor,
    classes: Tensor | None = None,
    smoothing: float = 0.0,
) -> float:
    """Loss, one by name, of the constant answer to some rows that costs least as the loss counts.

    Parameters
    ----------
    known : Tensor
        Their target as metrics take it.
    target : Tensor
        The same as the loss takes it.
    classes : Tensor, optional
        Weight of each class in the loss.
    smoothing : float
        Of labels, in the loss.
    """
    said = constant(answers, known)
    if answers.task != "regression":
        said = said * (1 - smoothing) + smoothing / (2 if answers.task == "multilabel" else len(said))
    if classes is not None:
        heavy = said * classes.to(said)
        said = heavy / heavy.sum() if heavy.sum() > 0 else said
    if answers.task == "regression":
        outputs = (said - said.new_tensor(answers.center)) / said.new_tensor(answers.scale)
    elif answers.decoding == "identity":
        outputs = said[1:] if answers.task == "binary" else said
    elif answers.task == "multiclass":
        outputs = said.clamp(min=1e-12).log()
    else:
        outputs = torch.logit(said[1:] if answers.task == "binary" else said, eps=1e-12)
    with torch.inference_mode():
        return float(loss(outputs.to(torch.float32).expand(len(target), -1), target))


def better(history: History) -> bool:
    """Whether the figure that counts is known, and better than a constant's."""
    figures, constants = history.best_metrics, history.baseline
    return any(
        figures[name] > constants[name] if name == "accuracy" else figures[name] < constants[name]
        for name in PRIMARY
        if name in figures and name in constants
    )


def labels_of_one_row(answers: Answers, rows: int) -> str:
    """A sentence if hardly a label is there twice; else nothing."""
    labels = len(answers.classes)
    if answers.task != "multiclass" or labels <= MOST_CLASSES or labels <= SINGLE * rows:
        return ""
    return (
        f"The target {answers.names[0]!r} has {labels:,} different labels in {rows:,} rows: hardly one is there twice, "
        "so nothing can be learnt that holds for other rows. Name a column of fewer labels, or of quantities."
    )


def no_better(history: History) -> str:
    """A sentence if neither the loss nor the figure that counts is better than a constant's; else nothing."""
    figures, baseline = history.best_metrics, history.baseline
    name = next((name for name in PRIMARY if name in figures and name in baseline), "")
    worse_loss = not figures["loss"] < baseline.get("loss", -math.inf)  # of a loss of the user's no baseline is known
    if not name or better(history) or not worse_loss:
        return ""
    always = "the mean of the training rows" if name == "rmse" else "the most frequent label"
    return (
        f"On the held-out rows {name} is {figures[name]:.4g}, no better than always answering {always} "
        f"({baseline[name]:.4g}): nothing was learnt that holds for other rows."
    )
