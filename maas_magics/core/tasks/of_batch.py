"""The task of rows that come in batches, by the target of one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from maas_magics.api.errors import ModelError
from maas_magics.core.data.labels import TEXT, kind_of_holding
from maas_magics.core.data.target import TARGET
from maas_magics.core.tasks.base import Family, Task, TaskName
from maas_magics.core.tasks.binary import Binary
from maas_magics.core.tasks.dense import IGNORED, Dense
from maas_magics.core.tasks.fit import infer_task
from maas_magics.core.tasks.multiclass import Multiclass
from maas_magics.core.tasks.multilabel import Multilabel
from maas_magics.core.tasks.regression import Regression


def infer_batch_task(target: Tensor, asked: TaskName | Family | None = None) -> TaskName:
    """Task that a batch's target speaks for: whole numbers are labels."""
    if asked is None and target.dim() == 1 and not target.is_floating_point():
        return "binary" if target.dtype == torch.bool else "multiclass"
    if asked is None and target.dim() < 2:
        return "regression"
    return infer_task(target.numpy(), asked)


def fit_batch(task: TaskName, target: Tensor, outputs: Callable[[], Tensor], classes: Sequence[object] | None) -> Task:
    """Fit a task to a batch.

    Parameters
    ----------
    task : TaskName
    target : Tensor, shape (n,) or (n, k)
    outputs : callable
        Asks the network the batch.
    classes : sequence, optional
        What the dataset calls its classes.
    """
    width = target.shape[1] if target.dim() == 2 else 1
    several = (TARGET,) if target.dim() == 1 else tuple(f"{TARGET}{i}" for i in range(width))
    match task:
        case "regression" if target.dim() > 2:
            return Regression((TARGET,), (), (0.0,), (1.0,), False, axes=tuple(target.shape[1:]))
        case "regression":
            return Regression(several, (), (0.0,) * width, (1.0,) * width, target.dim() == 1)
        case "multilabel":
            names = tuple(f"{TARGET}{i}" for i in range(width))
            return Multilabel(names, (False, True), flat=False, kind=kind_of_holding(target.numpy()))
        case "binary":
            return Binary((TARGET,), (False, True) if target.dtype == torch.bool else (0, 1), kind=_kind(target))
    answered = outputs()
    if task == "dense":
        axes = tuple(target.shape[1:])
        shape = tuple(answered.shape)
        width = shape[1] if shape[2:] == axes else shape[-1] if shape[1:-1] == axes else 0
        if not width:
            raise ModelError(
                f"The network answers {shape} where the target is {tuple(target.shape)}; an output for each class at "
                "each position was expected.",
                f"(n, classes, {', '.join(map(str, axes))})",
            )
        return Dense((TARGET,), tuple(range(width)), flat=False, kind=_kind(target), axes=axes, ignored=IGNORED)
    count = answered.shape[1] if answered.dim() == 2 else 0
    if classes is not None and len(classes) == count:
        return Multiclass((TARGET,), tuple(map(str, classes)), kind=TEXT)
    return Multiclass((TARGET,), tuple(range(count)), kind=_kind(target))


def _kind(target: Tensor) -> str:
    return str(target.dtype).removeprefix("torch.")
