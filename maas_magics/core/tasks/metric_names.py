"""Metrics by name: ours, those of torchmetrics, functions; and what a name that is none of them may mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor

from maas_magics.api.errors import OptionError, did_you_mean, require
from maas_magics.core.networks.blame import arguments_of, code_of, name_of
from maas_magics.core.tasks import measured
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.metrics import LABELS, QUANTITIES, Metric

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
"""Names here, or of torchmetrics, of metrics that have other names elsewhere."""

OF_QUANTITIES = (
    "MeanSquaredError",
    "MeanAbsolutePercentageError",
    "SymmetricMeanAbsolutePercentageError",
    "ExplainedVariance",
    "PearsonCorrCoef",
    "SpearmanCorrCoef",
)


def make_metrics(asked: Sequence[Any], task: Task) -> dict[str, Metric]:
    """Metrics by name, ready to call.

    Parameters
    ----------
    asked : sequence of str or callable
        The task's usual ones when empty. A name with a capital is a class of torchmetrics.
    task : Task
        The fitted target.
    """
    known = task.metrics()
    found: dict[str, Metric] = {}
    for item in asked or task.default_metrics:
        if measured.is_of_torchmetrics(item):
            found |= (
                measured.copies(item, task)
                if not inspect.isclass(item)
                else {item.__name__: measured.from_class(item, task)}
            )
        elif callable(item):
            found[getattr(item, "__name__", type(item).__name__)] = _called(item)
        elif task.shape is not None:
            raise OptionError(
                f"The metric {item!r} compares a row's answer with its target; the network returns {task.shape}.",
                "Give a function of (answers, target).",
            )
        elif item in known:
            found[item] = known[item]
        elif item[:1].isupper():
            found[item] = _named(item, known, task)
        else:
            raise OptionError(f"There is no metric {item!r} for {task.task}.", _instead(item, known, task))
    return found


def _instead(name: str, known: Collection[str], task: Task) -> str:
    """What to type in place of a name that is not one of ours."""
    word = name.lower().removeprefix("neg_").removesuffix("_score")
    meant = ELSEWHERE.get(word, word)
    if meant in known and meant != name:
        return f"Did you mean {meant!r}?"
    if meant[:1].isupper() and (meant in OF_QUANTITIES) == task.numeric:
        each = task.exclusive and meant in ("Precision", "Recall", "Specificity")
        return f"torchmetrics has it: --metrics {'Multiclass' if each else ''}{meant}"
    near = did_you_mean(name, known)
    if not near.startswith("There is"):
        return near
    return f"{near} Or a class of torchmetrics by its name, such as {task.metric_example}; or a function."


def by_name(asked: Sequence[Any], monitor: str, task: Task) -> tuple[str, ...]:
    """Names of the metrics of a training that can be computed again by name; empty where they are the usual ones.

    Parameters
    ----------
    asked : sequence of str or callable
        The option ``--metrics``.
    monitor : str
        The metric that is watched.
    task : Task
        The fitted target.
    """
    usual = task.default_metrics
    names = [item for item in asked or usual if isinstance(item, str)]
    own = [getattr(item, "__name__", "") for item in asked]
    if monitor in (*LABELS, *QUANTITIES) and monitor not in (*names, *own):
        names.append(monitor)
    return () if tuple(names) == usual else tuple(names)


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
            raise OptionError(f"The metric {name} returns {found}, not one number{code_of(metric)}.", hint) from None

    return figure


def _named(name: str, known: Collection[str], task: Task) -> Metric:
    """A metric of torchmetrics by the name of its class."""
    require("torchmetrics", "torchmetrics", f"The metric {name}")
    kind = measured.find_class(name)
    if kind is None:
        meant = ELSEWHERE.get(name.lower(), name.lower())
        hint = f"Did you mean {meant!r}?" if meant in known else did_you_mean(name, measured.names())
        raise OptionError(f"torchmetrics has no metric {name!r}.", hint)
    return measured.from_class(kind, task)
