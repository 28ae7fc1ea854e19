"""Metrics as plain tensor sums; any other of torchmetrics by its class name, imported only then."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from maas_magics.api.errors import OptionError, did_you_mean, require
from maas_magics.core.data.answers import Answers
from maas_magics.core.networks.blame import arguments_of, code_of, name_of

Metric = Callable[[Tensor, Tensor], float]
"""``metric(decoded, target)``.

Labels: ``decoded`` is probabilities (n, classes), ``target`` int64 (n,); several labels a row: both (n, labels);
quantities: both float64 (n, k) in the target's own units.
"""


Weights = Tensor | None
"""How much each row counts, (n,); all alike when None."""


def _counts(decoded: Tensor, target: Tensor, weights: Weights = None) -> Tensor:
    """Confusion matrix (true, answered), int64 (classes, classes); float64 with weights."""
    k = decoded.shape[1]
    weights = None if weights is None else weights.double()
    return torch.bincount(target * k + decoded.argmax(dim=1), weights, minlength=k * k).reshape(k, k)


def _mean(values: Tensor, weights: Weights) -> Tensor:
    """Mean of (n,) or (n, k) values."""
    if weights is None:
        return values.mean()
    each = values.double().reshape(len(values), -1).mean(dim=1)
    return (each * weights).sum() / weights.double().sum()


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of each column of (n, k) values, or of (n,) ones."""
    return (values.T * weights.double()).T.sum(0) / weights.double().sum()


def accuracy(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Share of right labels."""
    right = (decoded >= 0.5) == target.bool() if target.ndim == 2 else decoded.argmax(dim=1) == target
    return float(_mean(right.double(), weights))


def balanced_accuracy(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Mean recall of the classes that occur."""
    counts = _counts(decoded, target, weights).double()
    present = counts.sum(dim=1) > 0
    return float((counts.diagonal()[present] / counts.sum(dim=1)[present]).mean())


def f1(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """F1 of the second of two classes, else the mean over classes or labels, as scikit-learn's."""
    if target.ndim == 2:
        answered, true = decoded >= 0.5, target.bool()
        each_row = torch.ones(len(true), dtype=torch.float64) if weights is None else weights.double()
        hit, wrong = (((answered & true).T * each_row).sum(1), ((answered ^ true).T * each_row).sum(1))
    else:
        counts = _counts(decoded, target, weights).double()
        hit = counts.diagonal()
        wrong = counts.sum(0) + counts.sum(1) - 2 * hit
    each = torch.where(hit + wrong > 0, 2 * hit / (2 * hit + wrong).clamp(min=1e-300), 0.0)
    if target.ndim == 1:
        if decoded.shape[1] == 2:
            return float(each[1])
        each = each[hit + wrong > 0]
    return float(each.mean())


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


def log_loss(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Mean negative logarithm of the probability of what is true."""
    p = decoded.double().clamp(1e-12, 1 - 1e-12)
    if target.ndim == 2:
        return float(-_mean(target * p.log() + (1 - target) * (1 - p).log(), weights))
    return float(-_mean(p[torch.arange(len(p)), target].log(), weights))


def rmse(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Root of the mean squared error."""
    apart = decoded.double() - target.double()
    size = apart.abs().max()
    # Squares of very large or very small differences would leave the range of float64.
    return float(size * _mean((apart / size).square(), weights).sqrt()) if 0 < size < torch.inf else float(size)


def mae(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Mean absolute error."""
    return float(_mean((decoded.double() - target.double()).abs(), weights))


def r2(decoded: Tensor, target: Tensor, weights: Weights = None) -> float:
    """Share of the variance explained, mean over outputs."""
    true = target.double()
    around = true - true[:1]
    around = around - (around.mean(0) if weights is None else _weighted(around, weights))
    size = around.abs().amax(0)
    size = torch.where(size > 0, size, 1.0)
    residual, total = ((decoded.double() - true) / size).square(), (around / size).square()
    if weights is None:
        residual, total = residual.sum(0), total.sum(0)
    else:
        residual, total = _weighted(residual, weights), _weighted(total, weights)
    return float(torch.where(total > 0, 1 - residual / total, float("nan")).nanmean())


LABELS: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "auc": auc,
    "log_loss": log_loss,
}
QUANTITIES: dict[str, Metric] = {"rmse": rmse, "mae": mae, "r2": r2}
USUAL = {
    "binary": ("accuracy", "balanced_accuracy", "f1", "auc"),
    "multiclass": ("accuracy", "balanced_accuracy", "f1"),
    "multilabel": ("accuracy", "f1"),
    "regression": ("rmse", "mae", "r2"),
}


ELSEWHERE = {
    "roc_auc": "auc",
    "auroc": "auc",
    "balanced_acc": "balanced_accuracy",
    "acc": "accuracy",
    "cross_entropy": "log_loss",
    "bce": "log_loss",
    "nll": "log_loss",
    "logloss": "log_loss",
    "f1_macro": "f1",
    "root_mean_squared_error": "rmse",
    "mean_absolute_error": "mae",
    "l1": "mae",
    "r_squared": "r2",
    "precision": "Precision",
    "recall": "Recall",
    "sensitivity": "Recall",
    "specificity": "Specificity",
    "average_precision": "AveragePrecision",
    "pr_auc": "AveragePrecision",
    "auprc": "AveragePrecision",
    "mcc": "MatthewsCorrCoef",
    "matthews_corrcoef": "MatthewsCorrCoef",
    "cohen_kappa": "CohenKappa",
    "kappa": "CohenKappa",
    "jaccard": "JaccardIndex",
    "iou": "JaccardIndex",
    "hamming_loss": "HammingDistance",
    "hinge_loss": "HingeLoss",
    "ece": "CalibrationError",
    "mse": "MeanSquaredError",
    "mean_squared_error": "MeanSquaredError",
    "mape": "MeanAbsolutePercentageError",
    "mean_absolute_percentage_error": "MeanAbsolutePercentageError",
    "smape": "SymmetricMeanAbsolutePercentageError",
    "explained_variance": "ExplainedVariance",
    "pearson": "PearsonCorrCoef",
    "pearsonr": "PearsonCorrCoef",
    "spearman": "SpearmanCorrCoef",
    "spearmanr": "SpearmanCorrCoef",
}
"""What figures that have other names elsewhere are called here, or by torchmetrics."""

OF_QUANTITIES = (
    "MeanSquaredError",
    "MeanAbsolutePercentageError",
    "SymmetricMeanAbsolutePercentageError",
    "ExplainedVariance",
    "PearsonCorrCoef",
    "SpearmanCorrCoef",
)
TELLING = {
    "binary": "Precision or AveragePrecision",
    "multiclass": "MulticlassPrecision or CohenKappa",
    "multilabel": "Precision or HammingDistance",
    "regression": "MeanAbsolutePercentageError",
}
"""Classes of torchmetrics that a person may look for."""


def make_metrics(asked: Sequence[Any], answers: Answers) -> dict[str, Metric]:
    """Metrics by name, ready to call.

    Parameters
    ----------
    asked : sequence of str or callable
        The task's usual ones when empty. A name with a capital is a class of torchmetrics.
    answers : Answers
    """
    known = QUANTITIES if answers.task == "regression" else LABELS
    if answers.task == "multilabel":
        known = {name: metric for name, metric in known.items() if name != "balanced_accuracy"}
    found: dict[str, Metric] = {}
    usual = USUAL[answers.task] if answers.shape is None else ()
    for item in asked or usual:
        if _of_torchmetrics(item):
            found |= _instances(item, answers) if not inspect.isclass(item) else {item.__name__: _made(item, answers)}
        elif callable(item):
            found[getattr(item, "__name__", type(item).__name__)] = _called(item)
        elif answers.shape is not None:
            raise OptionError(
                f"The metric {item!r} compares a row's answer with its target; the network answers {answers.shape}.",
                "Give a function of (answers, target).",
            )
        elif item in known:
            found[item] = known[item]
        elif item[:1].isupper():
            found[item] = _named(item, answers)
        else:
            raise OptionError(f"There is no metric {item!r} for {answers.task}.", _instead(item, known, answers))
    return found


def _instead(name: str, known: Collection[str], answers: Answers) -> str:
    """What to type in place of a name that is none of ours."""
    word = name.lower().removeprefix("neg_").removesuffix("_score")
    meant = ELSEWHERE.get(word, word)
    if meant in known and meant != name:
        return f"Did you mean {meant!r}?"
    if meant[:1].isupper() and (meant in OF_QUANTITIES) == (answers.task == "regression"):
        each = answers.task == "multiclass" and meant in ("Precision", "Recall", "Specificity")
        return f"torchmetrics has it: --metrics {'Multiclass' if each else ''}{meant}"
    near = did_you_mean(name, known)
    if not near.startswith("There is"):
        return near
    return f"{near} Or a class of torchmetrics by its name, such as {TELLING[answers.task]}; or a function."


def by_name(asked: Sequence[Any], monitor: str, answers: Answers) -> tuple[str, ...]:
    """Names of the figures of a training that can be had again by name; empty where they are the usual ones.

    Parameters
    ----------
    asked : sequence of str or callable
    monitor : str
        The figure that is watched.
    answers : Answers
    """
    usual = USUAL[answers.task] if answers.shape is None else ()
    names = [item for item in asked or usual if isinstance(item, str)]
    own = [getattr(item, "__name__", "") for item in asked]
    if monitor in (*LABELS, *QUANTITIES) and monitor not in (*names, *own):
        names.append(monitor)
    return () if tuple(names) == usual else tuple(names)


def evaluate(metrics: dict[str, Metric], decoded: Tensor, target: Tensor, weights: Weights = None) -> dict[str, float]:
    """Every metric of some rows; ours count each by its weight, others all alike."""
    ours = {*LABELS.values(), *QUANTITIES.values()} if weights is not None else ()
    return {
        name: float(metric(decoded, target, weights) if metric in ours else metric(decoded, target))  # type: ignore[call-arg]
        for name, metric in metrics.items()
    }


def _called(metric: Callable[..., Any]) -> Metric:
    """A function of the user's, whose answer is one number."""
    name = name_of(metric)
    taken = arguments_of(metric, 2)
    if taken is not None:
        raise OptionError(
            f"The metric {name} takes {taken}; it is handed two, answers and target{code_of(metric)}.",
            "lambda answers, target: …",
        )

    def figure(decoded: Tensor, target: Tensor) -> float:
        answer = metric(decoded, target)
        try:
            return float(answer)
        except (TypeError, ValueError, RuntimeError):
            shape = getattr(answer, "shape", None)
            found = type(answer).__name__ if shape is None else tuple(shape)
            hint = "End it with .mean()" if shape is not None else "Return a float."
            raise OptionError(f"The metric {name} answers {found}, not one number{code_of(metric)}.", hint) from None

    return figure


def _of_torchmetrics(item: Any) -> bool:
    """Whether it is a metric of torchmetrics, or its class; torchmetrics is not imported to tell."""
    kind = item if inspect.isclass(item) else type(item)
    return any(
        base.__module__.startswith("torchmetrics.") and base.__name__ in ("Metric", "MetricCollection")
        for base in kind.__mro__
    )


def _named(name: str, answers: Answers) -> Metric:
    require("torchmetrics", "torchmetrics", f"The metric {name}")
    import torchmetrics
    import torchmetrics.classification

    kind: Any = getattr(torchmetrics, name, None) or getattr(torchmetrics.classification, name, None)
    if not inspect.isclass(kind):
        ours = QUANTITIES if answers.task == "regression" else LABELS
        meant = ELSEWHERE.get(name.lower(), name.lower())
        hint = f"Did you mean {meant!r}?" if meant in ours else did_you_mean(name, dir(torchmetrics))
        raise OptionError(f"torchmetrics has no metric {name!r}.", hint)
    return _made(kind, answers)


def _made(kind: Any, answers: Answers) -> Metric:
    """A class of torchmetrics, made for the task."""
    by_task: dict[str, dict[str, Any]] = {
        "multiclass": {"task": "multiclass", "num_classes": len(answers.classes)},
        "binary": {"task": "binary"},
        "multilabel": {"task": "multilabel", "num_labels": len(answers.names)},
        "regression": {},
    }
    given = by_task[answers.task]
    if kind.__name__.startswith(("Binary", "Multiclass", "Multilabel")):  # knows its task already
        given = {name: value for name, value in given.items() if name != "task"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics tells that a name has moved
            return Measured(kind(**given), answers)
    except (TypeError, ValueError) as error:
        raise OptionError(f"The metric {kind.__name__!r} does not fit {answers.task}: {error}") from None


def _instances(item: Any, answers: Answers) -> dict[str, Metric]:
    """A metric that the user made, or each of a collection of them; copies, so that theirs stay as they are."""
    items = getattr(item, "items", None)
    pairs = items(copy_state=False) if callable(items) else [(type(item).__name__, item)]
    return {name: Measured(metric.clone(), answers) for name, metric in pairs}


class Measured:
    """A metric of torchmetrics that is handed what it takes: `Metric` for the rest of the package.

    Parameters
    ----------
    metric : torchmetrics.Metric
    answers : Answers

    Attributes
    ----------
    higher_is_better : bool or None
        As torchmetrics tells; None where it does not.
    """

    def __init__(self, metric: Any, answers: Answers) -> None:
        self._metric, self._answers = metric, answers
        self.higher_is_better: bool | None = getattr(metric, "higher_is_better", None)

    def __call__(self, decoded: Tensor, target: Tensor) -> float:
        """The figure of some rows."""
        metric, task, name = self._metric.to(decoded.device), self._answers.task, type(self._metric).__name__
        # A binary metric takes the probability of the second class; one for several classes takes every class's.
        shown = decoded[:, 1] if task == "binary" and not name.startswith("Multiclass") else decoded
        if task == "regression" and self._answers.flat:
            shown, target = decoded.reshape(-1), target.reshape(-1)
        metric.reset()
        try:
            metric.update(shown, target.long() if task != "regression" else target)
            return float(metric.compute())
        except (TypeError, ValueError, RuntimeError) as error:
            raise OptionError(
                f"The metric {name} does not fit {task}: {str(error).strip().splitlines()[0][:200]}",
                "Make it for the task, or give its name and leave that to %train.",
            ) from None


def confusion(answers: Answers, decoded: Tensor, target: Tensor) -> list[list[int]]:
    """Confusion matrix as rows of true labels; empty unless a row has one label."""
    return _counts(decoded, target).tolist() if answers.task in ("binary", "multiclass") else []
