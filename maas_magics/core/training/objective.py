"""What a training minimises, and which metric it watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.losses.heads import is_own
from maas_magics.core.losses.make import make_loss
from maas_magics.core.tasks.class_weights import class_weights
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.tasks.metric_names import make_metrics
from maas_magics.core.tasks.metrics import Metric
from maas_magics.core.training.plan import mode_of
from maas_magics.core.training.specs import TaskFigures
from maas_magics.core.training.steps.distilled import Distilled
from maas_magics.core.training.steps.weighting import Weighted, rowwise


@dataclass(frozen=True)
class Objective:
    """Loss and metrics of a training.

    Attributes
    ----------
    loss : Loss
    metrics : dict of str to Metric
    monitor : str
        The metric that chooses the best epoch.
    mode : {"min", "max"}
        Whether a smaller one is better.
    weights : Tensor or None
        Of classes, on the device.
    smoothing : float
        Of labels.
    constant_loss : Loss or None
        The same loss on a CPU, by which constant answers are judged; None for one of the user's own.
    """

    loss: Loss
    metrics: dict[str, Metric]
    monitor: str
    mode: Literal["min", "max"]
    weights: Tensor | None
    smoothing: float
    constant_loss: Loss | None


def make_objective(task: TaskFigures, prepared: Prepared, device: torch.device) -> Objective:
    """The loss that is minimised, and the metric that is watched.

    Raises
    ------
    OptionError
        If it does not go together, or with the target.
    """
    answers, monitor, smoothing = prepared.answers, task.monitor, task.label_smoothing
    metrics = make_metrics(task.metrics, answers)
    if monitor != "loss" and monitor not in metrics:
        metrics |= make_metrics((monitor,), answers)
    mode = mode_of(monitor, getattr(metrics.get(monitor), "higher_is_better", None))
    mean = prepared.mean_weight
    if mean is not None:
        classes = (
            class_weights(task.class_weights, answers, prepared.train[1], prepared.counts) if answers.parts else None
        )
        each = rowwise(task.loss, answers, smoothing, prepared.form, None if classes is None else classes.to(device))
        weighted = Weighted(each, prepared.train[1][:1], mean)
        return Objective(weighted, metrics, monitor, mode, None, smoothing, None)
    weights = class_weights(task.class_weights, answers, prepared.train[1], prepared.counts)
    by_name = None if is_own(task.loss) else make_loss(task.loss, answers, weights, smoothing)
    weights = weights.to(device) if weights is not None else None
    loss = make_loss(task.loss, answers, weights, smoothing, prepared.form)
    if prepared.taught is not None:
        like, width = prepared.train[1][:1], prepared.taught.shape[1]
        loss = Distilled(loss, answers.likeness(task.temperature, loss), like, width, task.distill_alpha)
    return Objective(loss, metrics, monitor, mode, weights, smoothing, by_name)
