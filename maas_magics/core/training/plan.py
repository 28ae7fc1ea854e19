"""What a training is to do, decided; and what happened in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from maas_magics.api.events import Samples
from maas_magics.api.records import lower_is_better
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.tasks.metrics import Metric
from maas_magics.core.training.compiling.compiled import Compiled
from maas_magics.core.training.steps.schedules import Schedule
from maas_magics.core.training.steps.step_config import StepConfig


@dataclass(frozen=True)
class Plan:
    """Everything the loop needs to know, decided."""

    loss: Loss
    answers: Task
    metrics: dict[str, Metric]
    monitor: str
    mode: Literal["min", "max"]
    epochs: int
    patience: int
    schedule: Schedule
    seed: int
    regime: StepConfig | None = None
    """What is requested beyond that; its learning rates are used in place of ``schedule``."""
    compiled: Compiled | None = None
    """The training batches, several at a time where their steps are compiled."""
    constant_loss: Loss | None = None
    """The loss on a CPU, by which constant answers are judged; None for one of the user's own."""
    class_weights: Tensor | None = None
    """How much each class counts in the loss."""
    smoothing: float = 0.0
    """Of labels, in the loss."""
    learn: Callable[..., None] | None = None
    """How a network learns that has a way of its own; see `maas_magics.core.architectures.Architecture`."""
    shown: Callable[[nn.Module, int, bool], Samples | None] | None = None
    """What the network draws or writes while it learns; see `maas_magics.core.training.shown`."""


@dataclass
class TrainingHistory:
    """What happened, epoch by epoch."""

    epochs: int = 0
    best_epoch: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    stopped: bool = False
    diverged: bool = False
    first: float = math.nan
    """Loss of the first step."""
    baseline: dict[str, float] = field(default_factory=dict)
    """Metrics of a constant answer to the held-out rows."""
    seconds: float = field(default=0.0, compare=False)
    """That the training took, in all processes that continued with it."""


def mode_of(monitor: str, higher_is_better: bool | None = None) -> Literal["min", "max"]:
    """Whether a smaller or a larger value is better: as the metric says, or by its name."""
    if higher_is_better is not None:
        return "max" if higher_is_better else "min"
    return "min" if lower_is_better(monitor) else "max"
