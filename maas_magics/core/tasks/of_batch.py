"""The task of rows that come in batches, by the target of one of them."""

from __future__ import annotations

import torch
from torch import Tensor

from maas_magics.core.tasks.base import Family, TaskName
from maas_magics.core.tasks.fit import infer_task


def infer_batch_task(target: Tensor, asked: TaskName | Family | None = None) -> TaskName:
    """Task that a batch's target implies: whole numbers are labels."""
    if asked is None and target.dim() == 1 and not target.is_floating_point():
        return "binary" if target.dtype == torch.bool else "multiclass"
    if asked is None and target.dim() < 2:
        return "regression"
    return infer_task(target.numpy(), asked)
