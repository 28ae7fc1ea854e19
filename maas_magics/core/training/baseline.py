"""Whether a training was better than a constant answer."""

from __future__ import annotations

import math

from maas_magics.api.records import lower_is_better
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.fit import MOST_CLASSES
from maas_magics.core.training.plan import TrainingHistory

PRIMARY = ("accuracy", "rmse")
"""The metrics that show whether answers are of use."""

SINGLE = 0.5
"""Labels, as a share of the rows, beyond which hardly one is there twice."""

DIVERGED = 10.0
"""A loss that is this many times that of a constant answer, and of the first step, has diverged."""


def better(history: TrainingHistory, task: Task) -> bool:
    """Whether the metric that counts, of any head where there are several, is known, and better than a constant's."""
    names = [f"{head}_{name}" for head in task.names for name in PRIMARY] if task.parts else PRIMARY
    return any(_is_better(history, name) for name in names)


def _is_better(history: TrainingHistory, name: str) -> bool:
    figures, constants = history.best_metrics, history.baseline
    if name not in figures or name not in constants:
        return False
    return figures[name] < constants[name] if lower_is_better(name) else figures[name] > constants[name]


def labels_of_one_row(task: Task, rows: int) -> str:
    """A sentence if hardly any label is there twice; else empty."""
    labels = len(task.classes)
    if not task.exclusive or labels <= MOST_CLASSES or labels <= SINGLE * rows:
        return ""
    return (
        f"The target {task.names[0]!r} has {labels:,} different labels in {rows:,} rows: hardly one is there twice, "
        "so nothing can be learnt that holds for other rows. Name a column of fewer labels, or of quantities."
    )


def no_better(history: TrainingHistory, task: Task) -> list[str]:
    """A sentence if neither the loss nor the metric that counts is better than a constant's.

    Of several heads, whose losses are one sum, a sentence for each of which no metric is better.
    """
    figures, baseline = history.best_metrics, history.baseline
    if task.parts:
        pairs = zip(task.names, task.parts, strict=True)
        measured = {name: [f"{name}_{metric}" for metric in head.default_metrics] for name, head in pairs}
        heads = [name for name in measured if not any(_is_better(history, metric) for metric in measured[name])]
        counts = [next((metric for metric in measured[name] if metric.endswith(PRIMARY)), "") for name in heads]
        return [_no_better(history, name) for name in counts if name in figures and name in baseline]
    name = next((name for name in PRIMARY if name in figures and name in baseline), "")
    worse_loss = not figures["loss"] < baseline.get("loss", -math.inf)  # of a loss of the user's no baseline is known
    return [_no_better(history, name)] if name and worse_loss and not _is_better(history, name) else []


def _no_better(history: TrainingHistory, name: str) -> str:
    always = "the mean of the training rows" if name.endswith("rmse") else "the most frequent label"
    return (
        f"On the held-out rows {name} is {history.best_metrics[name]:.4g}, no better than always answering {always} "
        f"({history.baseline[name]:.4g}): nothing was learnt that holds for other rows."
    )
