"""What a compressed file lost, in the task's own metric, with a paired bootstrap.

Not an exporter: it registers nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import Any

import numpy as np
import torch

from maas_magics.api.errors import ExportError, ToleranceExceeded
from maas_magics.api.frontier import Loss
from maas_magics.api.records import lower_is_better
from maas_magics.core.data.arrow import Array
from maas_magics.core.model import Model
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.metric_names import make_metrics

RESAMPLES = 1_000
"""Draws of the rows that an interval is made of."""

LEAST = 100
"""Draws below which no interval is said."""

SECONDS = 2.0
"""CPU seconds that the draws of one metric may take."""

SURE = (2.5, 97.5)
"""Percentiles of the draws that an interval goes between."""

OF_RARE = ("balanced_accuracy", "f1")
"""Figures that count rare labels as much as frequent ones, which accuracy hardly sees."""


def losses(model: Model, before: Array, after: Array, target: Array, seconds: float = SECONDS) -> dict[str, Loss]:
    """What was lost of the first of the usual metrics, of each head where there are several.

    A metric that is best when large, as accuracy, loses what it falls by; an error loses the share by which it grows.
    The same rows are drawn for both, so what both answer alike cancels out.

    Parameters
    ----------
    model : Model
        The version in torch.
    before, after : ndarray, shape (n, …)
        Decoded answers of the model and of the file.
    target : ndarray, shape (n,) or (n, k)
        Encoded target of the same rows.
    seconds : float
        CPU seconds that the draws of one metric may take.

    Raises
    ------
    ExportError
        If no metric of the rows is known.
    """
    task = model.manifest.answers
    names = _judged(task)
    tables = [task.table(torch.from_numpy(np.ascontiguousarray(answers))) for answers in (before, after)]
    truth = task.truth(torch.from_numpy(target.copy()))
    found = {}
    for name in names:
        metric = make_metrics((name,), task)[name]
        known = getattr(metric, "higher_is_better", None)
        falls = lower_is_better(name) if known is None else not known

        scores: list[float] = []

        def lost(
            index: Any, metric: Callable[..., float] = metric, falls: bool = falls, scores: list[float] = scores
        ) -> float:
            scores.clear()
            for table in tables:
                answers, wanted = (table, truth) if index is None else (table[index], truth[index])
                outputs, kept, _ = task.scored(answers, wanted)
                scores.append(float(metric(outputs, kept)))
            return (scores[1] - scores[0]) / max(scores[0], 1e-12) if falls else scores[0] - scores[1]

        point = lost(None)
        after_all = scores[1]
        if point != point:
            continue
        apart = len(truth) == len(tables[0]) and not task.of_pairs  # each row is an answer by itself
        low, high = _interval(lost, len(truth), seconds) if apart else (None, None)
        found[name] = Loss(lost=point, low=low, high=high, after=after_all)
        if not task.parts:
            break
    if not found:
        raise ExportError("No metric of the held-out rows is known, by which a compression is judged.", "")
    return found


def _interval(lost: Callable[[Any], float], rows: int, seconds: float) -> tuple[float | None, float | None]:
    """Percentiles of what is lost on rows drawn with replacement; None where time allows too few draws."""
    random, begun, drawn = np.random.default_rng(0), process_time(), []
    for _ in range(RESAMPLES):
        drawn.append(lost(torch.from_numpy(random.integers(0, rows, rows))))
        if process_time() - begun > seconds:
            break
    values = [value for value in drawn if np.isfinite(value)]  # of one label alone, some metrics are none
    if len(values) < LEAST:
        return None, None
    low, high = np.percentile(values, SURE)
    return float(low), float(high)


def _judged(task: Task) -> list[str]:
    """Names of the metrics that may be held to the budget: the first that is known, or one of each head."""
    if not task.parts:
        return list(task.default_metrics)
    heads = zip(task.names, task.parts, strict=True)
    return [f"{name}_{head.default_metrics[0]}" for name, head in heads if head.default_metrics]


def judge(found: dict[str, Loss], most: float, before: dict[str, float], after: dict[str, float], variant: str) -> str:
    """Raise where more was lost than the budget; a sentence where it may be, or rare labels lost more.

    Parameters
    ----------
    found : dict of str to Loss
        What `losses` found.
    most : float
        The budget.
    before, after : dict of str to float
        Metrics of the model and of the file.
    variant : str
        What an error calls the file.

    Raises
    ------
    ToleranceExceeded
        If one lost more.
    """
    for name, loss in found.items():
        if not loss.lost <= most:
            raise ToleranceExceeded(
                f"The {variant} file answers with {name} {after[name]:.4g} instead of {before[name]:.4g}, a loss of "
                f"{loss}; {most:.2%} was accepted. Nothing was published.",
                f"--max-drop {100 * loss.lost + 0.05:.1f}% accepts it."
                if loss.lost < 0.99
                else "Export it without --compress.",
            )
    doubtful = next((name for name, loss in found.items() if loss.high is not None and loss.high > most), "")
    fallen = [
        f"{name} falls from {before[name]:.4g} to {after[name]:.4g}"
        for name in before
        if name.endswith(OF_RARE) and before[name] - after.get(name, before[name]) > most
    ]
    if fallen:
        return f"{variant}: {', '.join(fallen)}, of which {most:.2%} was accepted of {', '.join(found)}."
    if not doubtful:
        return ""
    return f"{variant}: on other rows it may lose more than {most:.2%} of {doubtful}: {found[doubtful]}."
