"""Whether a training was better than a constant answer."""

from __future__ import annotations

import math

from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.fit import MOST_CLASSES
from maas_magics.core.training.plan import TrainingHistory

PRIMARY = ("accuracy", "rmse")
"""The metrics that show whether answers are of use."""

SINGLE = 0.5
"""Labels, as a share of the rows, beyond which hardly one is there twice."""

DIVERGED = 10.0
"""A loss that is this many times that of a constant answer, and of the first step, has diverged."""


def better(history: TrainingHistory) -> bool:
    """Whether the metric that counts is known, and better than a constant's."""
    figures, constants = history.best_metrics, history.baseline
    return any(
        figures[name] > constants[name] if name == "accuracy" else figures[name] < constants[name]
        for name in PRIMARY
        if name in figures and name in constants
    )


def labels_of_one_row(task: Task, rows: int) -> str:
    """A sentence if hardly any label is there twice; else empty."""
    labels = len(task.classes)
    if not task.exclusive or labels <= MOST_CLASSES or labels <= SINGLE * rows:
        return ""
    return (
        f"The target {task.names[0]!r} has {labels:,} different labels in {rows:,} rows: hardly one is there twice, "
        "so nothing can be learnt that holds for other rows. Name a column of fewer labels, or of quantities."
    )


def no_better(history: TrainingHistory) -> str:
    """A sentence if neither the loss nor the metric that counts is better than a constant's; else empty."""
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
