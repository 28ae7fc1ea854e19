"""Metrics as plain tensor sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor], float]
"""``metric(decoded, target)``.

Labels: ``decoded`` is probabilities (n, classes), ``target`` int64 (n,); several labels a row: both (n, labels);
quantities: both float64 (n, k) in the target's own units.
"""


Weights = Tensor | None
"""How much each row counts, (n,); all alike when None."""


def confusion_counts(decoded: Tensor, target: Tensor, weights: Weights = None) -> Tensor:
    """Confusion matrix (true, answered), int64 (classes, classes); float64 with weights."""
    k = decoded.shape[1]
    weights = None if weights is None else weights.double()
    return torch.bincount(target * k + decoded.argmax(dim=1), weights, minlength=k * k).reshape(k, k)


def sums(values: Tensor, weights: Weights) -> tuple[Tensor, float]:
    """Sum of (n,) or (n, k) values and how many they are; of weighted rows, of their means and of the weights."""
    if weights is None:
        return values.sum(), float(values.numel())
    each = values.double().reshape(len(values), -1).mean(dim=1)
    return (each * weights).sum(), float(weights.double().sum())


def _mean(values: Tensor, weights: Weights) -> Tensor:
    """Mean of (n,) or (n, k) values."""
    if weights is None:
        return values.mean()
    total, count = sums(values, weights)
    return total / count


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of each column of (n, k) values, or of (n,) ones."""
    return (values.T * weights.double()).T.sum(0) / weights.double().sum()


def right(decoded: Tensor, target: Tensor) -> Tensor:
    """1 for each right label, else 0, float64."""
    found = (decoded >= 0.5) == target.bool() if target.ndim == 2 else decoded.argmax(dim=1) == target
    return found.double()


def accuracy(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Share of right labels."""
    return float(_mean(right(decoded, target), weights))


def balanced_of_counts(counts: Tensor) -> float:
    """Mean recall of the classes that occur, by a confusion matrix."""
    counts = counts.double()
    present = counts.sum(dim=1) > 0
    return float((counts.diagonal()[present] / counts.sum(dim=1)[present]).mean())


def balanced_accuracy(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Mean recall of the classes that occur."""
    return balanced_of_counts(confusion_counts(decoded, target, weights))


def label_counts(decoded: Tensor, target: Tensor, weights: Weights = None) -> Tensor:
    """Of several labels a row, how often each was rightly predicted, and how often wrongly, (2, k)."""
    answered, true = decoded >= 0.5, target.bool()
    each_row = torch.ones(len(true), dtype=torch.float64) if weights is None else weights.double()
    each_row = each_row.to(answered.device)
    return torch.stack([((answered & true).T * each_row).sum(1), ((answered ^ true).T * each_row).sum(1)])


def _f1(hit: Tensor, wrong: Tensor) -> Tensor:
    return torch.where(hit + wrong > 0, 2 * hit / (2 * hit + wrong).clamp(min=1e-300), 0.0)


def f1_of_labels(counts: Tensor) -> float:
    """Mean F1 of labels that may hold together, by `label_counts`."""
    return float(_f1(*counts).mean())


def f1_of_classes(counts: Tensor) -> float:
    """F1 of the second of two classes, else the mean of those that occur, by a confusion matrix."""
    counts = counts.double()
    hit = counts.diagonal()
    wrong = counts.sum(0) + counts.sum(1) - 2 * hit
    each = _f1(hit, wrong)
    return float(each[1]) if len(counts) == 2 else float(each[hit + wrong > 0].mean())


def f1(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """F1 of the second of two classes, else the mean over classes or labels, as scikit-learn's."""
    if target.ndim == 2:
        return f1_of_labels(label_counts(decoded, target, weights))
    return f1_of_classes(confusion_counts(decoded, target, weights))


def _auc(score: Tensor, positive: Tensor, weights: Weights = None) -> float:
    """Area under the ROC curve from ranks (Mann and Whitney), ties by their mean rank."""
    if weights is not None:
        _, place = torch.unique(score, return_inverse=True)
        negative = torch.bincount(place, torch.where(positive, 0.0, weights.double()))
        below = negative.cumsum(0) - negative / 2
        mass = torch.where(positive, weights.double(), 0.0)
        whole = float(mass.sum() * negative.sum())
        return float((mass * below[place]).sum()) / whole if whole else float("nan")
    p = int(positive.sum())
    n = len(positive) - p
    if not p or not n:
        return float("nan")
    _, inverse, counts = torch.unique(score, return_inverse=True, return_counts=True)
    ranks = counts.cumsum(0).double() - (counts.double() - 1) / 2
    return (float(ranks[inverse][positive].sum()) - p * (p + 1) / 2) / (p * n)


def auc(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Area under the ROC curve; the mean of one-against-rest for several classes or labels."""
    if target.ndim == 1 and decoded.shape[1] == 2:
        return _auc(decoded[:, 1], target == 1, weights)
    hot = target.bool() if target.ndim == 2 else torch.nn.functional.one_hot(target, decoded.shape[1]).bool()
    each = torch.tensor([_auc(decoded[:, i], hot[:, i], weights) for i in range(decoded.shape[1])])
    return float(each[~each.isnan()].mean())


def surprise(decoded: Tensor, target: Tensor) -> Tensor:
    """Negative logarithm of the probability of what is true, float64 (n,) or (n, k)."""
    p = decoded.double().clamp(1e-12, 1 - 1e-12)
    if target.ndim == 2:
        return -(target * p.log() + (1 - target) * (1 - p).log())
    return -p[torch.arange(len(p)), target].log()


def log_loss(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Mean negative logarithm of the probability of what is true."""
    return float(_mean(surprise(decoded, target), weights))


def rmse(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Root of the mean squared error."""
    apart = decoded.double() - target.double()
    size = apart.abs().max()
    # Squares of very large or very small differences would leave the range of float64.
    return float(size * _mean((apart / size).square(), weights).sqrt()) if 0 < size < torch.inf else float(size)


def distance(decoded: Tensor, target: Tensor) -> Tensor:
    """Absolute errors, float64 (n, k)."""
    return (decoded.double() - target.double()).abs()


def mae(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Mean absolute error."""
    return float(_mean(distance(decoded, target), weights))


def explained(decoded: Tensor, target: Tensor, weights: Weights = None) -> dict[str, Any]:
    """Sums of squares of some rows, around their mean and of what is left, by column.

    Returns
    -------
    dict
        ``first``, the first row; ``mean``, from it; ``count``, rows or what they weigh; ``size``, the largest distance
        from the mean, whose shares are squared; ``residual`` and ``total``, the sums over ``unit``.
    """
    true = target.double()
    around = true - true[:1]
    mean = around.mean(0) if weights is None else _weighted(around, weights)
    around = around - mean
    size = around.abs().amax(0)
    size = torch.where(size > 0, size, 1.0)
    residual, total = ((decoded.double() - true) / size).square(), (around / size).square()
    if weights is None:
        residual, total, count, unit = residual.sum(0), total.sum(0), float(len(true)), 1.0
    else:
        unit = count = float(weights.double().sum())
        residual, total = _weighted(residual, weights), _weighted(total, weights)
    sums = {"size": size, "residual": residual, "total": total, "unit": unit}
    return {"first": true[0], "mean": mean, "count": count, **sums}


def explained_share(residual: Tensor, total: Tensor) -> float:
    """Share of the variance explained, mean over outputs; NaN where there is none to explain."""
    return float(torch.where(total > 0, 1 - residual / total, float("nan")).nanmean())


def r2(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Share of the variance explained, mean over outputs."""
    found = explained(decoded, target, weights)
    return explained_share(found["residual"], found["total"])


def iou_of_counts(counts: Tensor) -> float:
    """Mean intersection over union of the classes that occur or are answered, by a confusion matrix."""
    counts = counts.double()
    both = counts.diagonal()
    either = counts.sum(0) + counts.sum(1) - both
    return float((both[either > 0] / either[either > 0]).mean())


def mean_iou(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Of each class, pixels that have it and are answered so, over those of which either is so; the mean of classes."""
    return iou_of_counts(confusion_counts(decoded, target, weights))


LABELS: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "auc": auc,
    "log_loss": log_loss,
}
QUANTITIES: dict[str, Metric] = {"rmse": rmse, "mae": mae, "r2": r2}
OURS = frozenset((*LABELS.values(), mean_iou, *QUANTITIES.values()))


def evaluate(
    metrics: Mapping[str, Metric], decoded: Tensor, target: Tensor, weights: Weights = None
) -> dict[str, float]:
    """Every metric of some rows; ours count each by its weight, others all alike."""
    weighs = weights is not None
    return {
        name: float(metric(decoded, target, weights) if weighs and is_ours(metric) else metric(decoded, target))  # type: ignore[call-arg]
        for name, metric in metrics.items()
    }


def is_ours(metric: Any) -> bool:
    """Whether a metric is one of this package, which counts rows by their weights: of a head, that of the head."""
    return getattr(metric, "metric", metric) in OURS


def confusion(decoded: Tensor, target: Tensor) -> list[list[int]]:
    """Confusion matrix of one label a row, as rows of true labels."""
    return confusion_counts(decoded, target).tolist()
