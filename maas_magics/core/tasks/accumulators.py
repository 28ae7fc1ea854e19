"""Metrics that are taken some rows at a time: what they keep does not grow with the rows, but where a metric needs all.

Of all rows at once each is what the function of its name in `maas_magics.core.tasks.metrics` answers, to the bit; of
several parts it differs from that by rounding in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from maas_magics.core.tasks import metrics as whole
from maas_magics.core.tasks.metrics import Metric, Weights


class Accumulator(Protocol):
    """A metric of rows that come a few at a time."""

    def update(self, decoded: Tensor, target: Tensor, weights: Weights = None) -> None:
        """Take in some rows; arguments as a `Metric` has them."""

    def result(self) -> float:
        """The metric of all rows so far, of which there is at least one."""


class Mean:
    """Mean of a number of each row.

    Parameters
    ----------
    values : callable
        ``values(decoded, target)`` answers float64 (n,) or (n, k).
    """

    def __init__(self, values: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._values, self._total, self._count = values, 0.0, 0.0

    def update(self, decoded: Tensor, target: Tensor, weights: Weights = None) -> None:
        """Add the rows' sum."""
        total, count = whole.sums(self._values(decoded, target), weights)
        self._total, self._count = self._total + float(total), self._count + count

    def result(self) -> float:
        """Sum over count."""
        return self._total / self._count if self._count else float("nan")


class RootMeanSquare:
    """Root of the mean squared error; squares are of shares of the largest difference, so that they stay in range."""

    def __init__(self) -> None:
        self._size, self._total, self._count = 0.0, 0.0, 0.0

    def update(self, decoded: Tensor, target: Tensor, weights: Weights = None) -> None:
        """Add the squares, as shares of the largest difference so far."""
        apart = decoded.double() - target.double()
        worst = float(apart.abs().max()) if len(apart) else 0.0
        size = worst if worst != worst else max(self._size, worst)
        if not 0 < size < float("inf"):  # none is apart until now, or one is past any square
            self._size = size
            self._count += whole.sums(apart, weights)[1]
            return
        total, count = whole.sums((apart / size).square(), weights)
        self._total = self._total * (self._size / size) ** 2 + float(total)
        self._size, self._count = size, self._count + count

    def result(self) -> float:
        """The root."""
        if not 0 < self._size < float("inf"):
            return self._size
        return float(self._size * torch.tensor(self._total / self._count, dtype=torch.float64).sqrt())


class Explained:
    """Share of the variance explained, by the sums of two parts of rows (Chan, Golub, LeVeque 1979)."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def update(self, decoded: Tensor, target: Tensor, weights: Weights = None) -> None:
        """Add the sums of squares around the mean, and of what is left."""
        if len(target):
            found = whole.explained(decoded, target, weights)
            self._kept = _merged(self._kept, found) if self._kept else found

    def result(self) -> float:
        """Mean over outputs."""
        return whole.explained_share(self._kept["residual"], self._kept["total"])


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    size = torch.maximum(one["size"], other["size"])
    mine, theirs = ((part["size"] / size).square() * part["unit"] for part in (one, other))
    count = one["count"] + other["count"]
    mean = other["mean"] + (other["first"] - one["first"])  # from the first row of one
    apart = (mean - one["mean"]) / size
    between = apart.square() * (one["count"] * other["count"] / count if count else 0.0)
    return {
        "first": one["first"],
        "count": count,
        "mean": one["mean"] + (mean - one["mean"]) * (other["count"] / count if count else 0.0),
        "size": size,
        "unit": 1.0,
        "residual": one["residual"] * mine + other["residual"] * theirs,
        "total": one["total"] * mine + other["total"] * theirs + between,
    }


class ConfusionCounts:
    """A metric of the confusion matrix: how often each label was predicted for each.

    Parameters
    ----------
    count : callable
        From rows to their counts.
    figure : callable
        From all counts to the metric.
    """

    def __init__(self, count: Callable[..., Tensor], figure: Callable[[Tensor], float]) -> None:
        self._count, self._figure = count, figure
        self._counts: Tensor | None = None

    def update(self, decoded: Tensor, target: Tensor, weights: Weights = None) -> None:
        """Add the rows' counts."""
        found = self._count(decoded, target, weights)
        self._counts = found if self._counts is None else self._counts + found

    def result(self) -> float:
        """The metric of all counts."""
        assert self._counts is not None
        return self._figure(self._counts)


class KeptRows:
    """A metric that needs all rows: what it is handed is kept.

    Parameters
    ----------
    metric : Metric
        Called once with all rows.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._rows: list[tuple[Tensor, Tensor, Weights]] = []

    def update(self, decoded: Tensor, target: Tensor, weights: Weights = None) -> None:
        """Keep the rows."""
        self._rows.append((decoded, target, weights))

    def result(self) -> float:
        """The metric of all of them."""
        decoded, target, weights = zip(*self._rows, strict=True)
        counted = None if weights[0] is None else torch.cat(weights)
        return whole.evaluate({"": self._metric}, torch.cat(decoded), torch.cat(target), counted)[""]


class F1:
    """F1, which counts single labels in one way, and several of a row in another."""

    def __init__(self) -> None:
        self._counts: ConfusionCounts | None = None

    def update(self, decoded: Tensor, target: Tensor, weights: Weights = None) -> None:
        """Add the rows' counts."""
        if self._counts is None:
            several = target.ndim == 2
            self._counts = ConfusionCounts(
                whole.label_counts if several else whole.confusion_counts,
                whole.f1_of_labels if several else whole.f1_of_classes,
            )
        self._counts.update(decoded, target, weights)

    def result(self) -> float:
        """The metric of all counts."""
        assert self._counts is not None
        return self._counts.result()


MADE: dict[Any, Callable[[], Accumulator]] = {
    whole.accuracy: lambda: Mean(whole.right),
    whole.log_loss: lambda: Mean(whole.surprise),
    whole.mae: lambda: Mean(whole.distance),
    whole.rmse: RootMeanSquare,
    whole.r2: Explained,
    whole.balanced_accuracy: lambda: ConfusionCounts(whole.confusion_counts, whole.balanced_of_counts),
    whole.mean_iou: lambda: ConfusionCounts(whole.confusion_counts, whole.iou_of_counts),
    whole.f1: F1,
}
"""What accumulates each metric of the package; `whole.auc` needs all scores."""


def accumulator_of(metric: Any) -> Accumulator:
    """What takes a metric some rows at a time: its own way where it has one."""
    own = getattr(metric, "accumulator", None)
    if callable(own):
        found: Accumulator = own(accumulator_of)
        return found
    made = MADE.get(metric) if metric in whole.OURS else None
    return made() if made is not None else KeptRows(metric)
