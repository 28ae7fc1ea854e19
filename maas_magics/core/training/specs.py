"""What a training goes by, as plain values without gaps."""

from __future__ import annotations

from typing import Literal

from maas_magics.api.specs import BudgetSpec, OptimizerSpec, Specs, TaskSpec


class TaskFigures(TaskSpec, frozen=True, kw_only=True):
    """A `TaskSpec` without gaps."""

    monitor: str
    label_smoothing: float


class OptimizerFigures(OptimizerSpec, frozen=True, kw_only=True):
    """An `OptimizerSpec` without gaps: what is None is left to the optimizer's class."""

    optimizer: str
    lr: float | None = None
    schedule: str
    precision: Literal["fp32", "bf16", "fp16"]


class BudgetFigures(BudgetSpec, frozen=True, kw_only=True):
    """A `BudgetSpec` without gaps."""

    epochs: int
    patience: int
    batch_size: int


class Resolved(Specs, frozen=True, kw_only=True):
    """What a training goes by: `Specs` without gaps.

    Attributes
    ----------
    task : TaskFigures
    optimizer : OptimizerFigures
        Its rate is that of the recipe where it is searched.
    budget : BudgetFigures
        Its batch size is that of the recipe where it is searched.
    find_lr, find_batch_size : bool
        Whether they are found by trying.
    usual : tuple of str
        Options that were left to the recipe.
    """

    task: TaskFigures
    optimizer: OptimizerFigures
    budget: BudgetFigures
    find_lr: bool
    find_batch_size: bool
    usual: tuple[str, ...]
