"""What a constant answer is worth: the mean, or the most frequent label. A model should be better than that."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.tasks.metrics import Metric, evaluate, is_ours


def baseline(
    metrics: Mapping[str, Metric], task: Task, known: Tensor, weights: Tensor | None = None
) -> dict[str, float]:
    """The package's own metrics of a constant answer to some rows; a user's own metrics are left out."""
    said = task.constant_table(known)
    found = evaluate({name: metric for name, metric in metrics.items() if is_ours(metric)}, said, known, weights)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def constant_loss(
    loss: Loss,
    task: Task,
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
    said = task.constant_outputs(known, classes, smoothing)
    with torch.inference_mode():
        return float(loss(said.to(torch.float32).expand(len(target), -1), target))
