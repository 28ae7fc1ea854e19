"""Rules of a training's steps as plain values, and what is made of them: in one process, or in each of its workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from torch import Tensor, nn

from maas_magics.api.errors import OptionError
from maas_magics.core.training.steps.ema import EMA
from maas_magics.core.training.steps.freeze import Freezing
from maas_magics.core.training.steps.full_step import FullStep
from maas_magics.core.training.steps.lr_schedule import make_lr_schedule
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.out_of_memory import MicroBatching
from maas_magics.core.training.steps.patterns import rates_of
from maas_magics.core.training.steps.precision import Precision
from maas_magics.core.training.steps.step_config import StepConfig


class ChosenOptimizer(msgspec.Struct, frozen=True):
    """Arguments of `Optimizer`."""

    name: str
    lr: float | None
    weight_decay: float | None
    params: dict[str, Any]


class StepSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a training says of its steps.

    Attributes
    ----------
    optimizer : ChosenOptimizer
    first_lr : float or None
        Learning rate that was found by trying, in place of the optimizer's.
    schedule, schedule_params, warmup
        See `make_lr_schedule`.
    precision : str
    accumulate : int
        Batches of a step.
    clip, ema : float or None
    freeze, unfreeze
        See `Freezing`.
    lr_of : dict of str to float
        See `rates_of`.
    onednn : bool
        Whether matrix products go to oneDNN; see `maas_magics.core.training.steps.matmul_backend`.
    """

    optimizer: ChosenOptimizer
    first_lr: float | None = None
    schedule: str
    schedule_params: dict[str, Any]
    warmup: float
    precision: str
    accumulate: int
    clip: float | None
    ema: float | None
    freeze: tuple[str, ...]
    unfreeze: dict[str, int]
    lr_of: dict[str, float]
    onednn: bool = False


def make_learner(rules: StepSpec, net: nn.Module, *, flat: bool = True) -> tuple[Optimizer, Freezing | None]:
    """The optimizer of a network on its device, and what of it is frozen.

    Raises
    ------
    OptionError
        For anything that does not fit the network.
    """
    freezing = Freezing(net, rules.freeze, rules.unfreeze) if rules.freeze or rules.unfreeze else None
    chosen = rules.optimizer
    optimizer = Optimizer(
        net,
        chosen.name,
        chosen.lr,
        chosen.weight_decay,
        chosen.params,
        lr_of=rates_of(net, rules.lr_of),
        later=freezing.later if freezing is not None else None,
        flat=flat,
    )
    if rules.precision == "fp16" and optimizer.needs_closure:
        raise OptionError(
            f"{chosen.name} evaluates the loss several times a step, which fp16 cannot.", "--precision bf16"
        )
    if rules.first_lr is not None:
        optimizer.begin_at(rules.first_lr)
    return optimizer, freezing


def make_step_config(
    rules: StepSpec,
    net: nn.Module,
    optimizer: Optimizer,
    freezing: Freezing | None,
    precision: Precision | None,
    *,
    epochs: int,
    steps: int,
    mode: str,
    mass: Callable[[Tensor], Tensor] | None,
    division: MicroBatching | None,
    deferred: bool,
    grouped: bool | None = None,
    full: Callable[..., FullStep] = FullStep,
) -> StepConfig:
    """What a training steps by.

    Parameters
    ----------
    rules, net, optimizer, freezing, precision
    epochs, steps, mode
        See `make_lr_schedule`.
    mass, division, deferred
        See `StepConfig`.
    grouped : bool, optional
        Whether each step gets a group of batches, if it may be one of a single batch.
    full
        See `StepConfig`.

    Raises
    ------
    OptionError
        For a schedule or a warm-up that is not possible.
    """
    rates = make_lr_schedule(
        optimizer,
        rules.schedule,
        rules.schedule_params,
        epochs=epochs,
        steps=steps,
        warmup=rules.warmup,
        mode=mode,
    )
    return StepConfig(
        net,
        optimizer,
        rates,
        precision=precision,
        grouped=rules.accumulate > 1 if grouped is None else grouped,
        mass=mass,
        clip=rules.clip,
        average=EMA(optimizer, rules.ema) if rules.ema else None,
        freezing=freezing,
        division=division,
        deferred=deferred,
        full=full,
    )
