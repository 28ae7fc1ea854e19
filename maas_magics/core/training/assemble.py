"""From a request to the rules of its training, checked against the network and the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import TrainRequest
from maas_magics.core.architectures import Recipe
from maas_magics.core.data.columns import Tensor as TensorColumn
from maas_magics.core.training.accumulate import Grouped
from maas_magics.core.training.batches import Batches, InMemory
from maas_magics.core.training.ema import Average
from maas_magics.core.training.freeze import Freezing
from maas_magics.core.training.losses import Loss, mass_of
from maas_magics.core.training.lr_range import Range, lr_range
from maas_magics.core.training.memory_format import arrange
from maas_magics.core.training.optimizers import Optimizer
from maas_magics.core.training.patterns import rates_of
from maas_magics.core.training.pooling import pool_first
from maas_magics.core.training.precision import Precision, make_precision
from maas_magics.core.training.prepare import Prepared
from maas_magics.core.training.rates import ByShare, make_rates
from maas_magics.core.training.regime import Regime
from maas_magics.core.training.schedules import constant


@dataclass(frozen=True)
class Assembled:
    """What a training steps with.

    Attributes
    ----------
    optimizer : Optimizer
    batches : Batches
        Grouped where several make a step.
    regime : Regime
    restore : callable
        Puts layers and weights of the network back into the order that they had; may be called twice.
    facts : dict of str to str
        What was chosen, for a person.
    search : Range or None
        How the learning rate was found, where nobody gave one.
    """

    optimizer: Optimizer
    batches: Batches
    regime: Regime
    restore: Callable[[], None]
    facts: dict[str, str]
    search: Range | None = None


class ChosenOptimizer(msgspec.Struct, frozen=True):
    """Arguments of `Optimizer`."""

    name: str
    lr: float | None
    weight_decay: float | None
    params: dict[str, Any]


def chosen_optimizer(request: TrainRequest, recipe: Recipe) -> ChosenOptimizer:
    """What a request says of the optimizer, and what its recipe says where it says nothing."""
    own = request.optimizer is None
    return ChosenOptimizer(
        request.optimizer or recipe.optimizer,
        request.lr if isinstance(request.lr, (int, float)) else recipe.lr if own else None,
        request.weight_decay if request.weight_decay is not None else recipe.weight_decay if own else None,
        {**(recipe.optimizer_params if own else {}), **request.optimizer_params},
    )


def assemble(
    request: TrainRequest,
    recipe: Recipe,
    net: nn.Module,
    prepared: Prepared,
    batches: Batches,
    device: torch.device,
    *,
    epochs: int,
    mode: str,
    weights: Tensor | None,
    loss: Loss,
) -> Assembled:
    """Optimizer and rules of a training.

    Parameters
    ----------
    request, recipe
    net : nn.Module
        On its device; its convolutions may be put into another memory format.
    prepared, batches, device
    epochs : int
        Most epochs.
    mode : {"min", "max"}
        Whether a smaller watched figure is better.
    weights : Tensor or None
        Of classes.
    loss : Loss

    Raises
    ------
    OptionError
        For anything that does not fit the network, the data or the device.
    """
    late = next(((pattern, at) for pattern, at in request.unfreeze.items() if at > epochs), None)
    if late is not None:
        raise OptionError(
            f"--unfreeze {late[0]}@{late[1]} never comes: the training has {epochs} epochs.",
            f"--epochs {late[1]}, or an earlier epoch.",
        )
    freezing = Freezing(net, request.freeze, request.unfreeze) if request.freeze or request.unfreeze else None
    example = _example(prepared, device)
    precision = make_precision(request.precision, net, example, device)
    poolings = pool_first(net, example)
    arranged = arrange(net, example, device, request.precision)

    def restore() -> None:
        if arranged is not None:
            arranged.undo()
        poolings.undo()

    chosen = chosen_optimizer(request, recipe)
    name = chosen.name
    optimizer = Optimizer(
        net,
        name,
        chosen.lr,
        chosen.weight_decay,
        chosen.params,
        lr_of=rates_of(net, request.lr_of),
        later=freezing.later if freezing is not None else None,
    )
    if precision is not None and precision.scaler is not None and optimizer.needs_closure:
        raise OptionError(f"{name} asks for the loss several times a step, which fp16 cannot.", "--precision bf16")
    search = None
    if request.lr == "auto":
        search = _searched(request, net, optimizer, batches, loss, precision)
    steps = batches if request.accumulate == 1 else Grouped(batches, request.accumulate)
    schedule = request.schedule or recipe.schedule
    rates = make_rates(
        optimizer,
        schedule,
        request.schedule_params,
        epochs=epochs,
        steps=steps.steps,
        warmup=request.warmup,
        mode=mode,
    )
    regime = Regime(
        net,
        optimizer,
        rates,
        precision=precision,
        grouped=request.accumulate > 1,
        mass=mass_of(request.loss, prepared.answers, weights),
        clip=request.clip,
        average=Average(optimizer, request.ema) if request.ema is not None else None,
        freezing=freezing,
        poolings=poolings,
    )
    if request.lr == "auto":
        schedule += ", rate found" if search is not None else ", no better rate found"
    facts = _facts(request, name, optimizer.first_lr, schedule, batches)
    return Assembled(optimizer, steps, regime, restore, facts, search)


def _searched(
    request: TrainRequest, net: nn.Module, optimizer: Optimizer, batches: Any, loss: Loss, precision: Precision | None
) -> Range | None:
    """Set the learning rate at which the loss falls fastest; None where it never falls."""
    if not isinstance(batches, InMemory):
        raise OptionError("A learning rate is found on rows in memory, not on those of a loader.", "--lr 1e-3")
    if not optimizer.first_lr or optimizer.needs_closure or (precision is not None and precision.scaler is not None):
        raise OptionError("No learning rate can be found for this optimizer in this precision.", "--lr 1e-3")
    rates = ByShare(optimizer, constant, 1)
    found = lr_range(Regime(net, optimizer, rates, precision=precision, clip=request.clip), loss, batches, request.seed)
    if found is not None:
        optimizer.begin_at(found.chosen)
    return found


def _example(prepared: Prepared, device: torch.device) -> tuple[Tensor, ...]:
    """Two rows of what the network takes; zeros of that kind where the rows are a loader's."""
    first = prepared.train[0]
    if len(first[0]):
        return tuple(values[:2].to(device) for values in first)
    return tuple(
        torch.zeros(2, *column.shape, dtype=getattr(torch, column.dtype), device=device)
        for column in prepared.preprocess.columns.columns
        if isinstance(column, TensorColumn)
    )


def _facts(request: TrainRequest, name: str, lr: float, schedule: str, batches: Any) -> dict[str, str]:
    """What a person sees of it; what is as usual goes without saying."""
    told = [name, f"lr {lr:g}", schedule]
    if request.warmup:
        told.append(f"warm-up {request.warmup:.0%}" if request.warmup < 1 else f"warm-up {int(request.warmup)} steps")
    size = str(getattr(batches, "batch_size", "loader"))
    more = {
        "precision": "" if request.precision == "fp32" else request.precision,
        "clip": "" if request.clip is None else f"{request.clip:g}",
        "ema": "" if request.ema is None else f"{request.ema:g}",
        "frozen": ", ".join(request.freeze),
        "balanced": "by label" if request.balance else "",
    }
    facts = {
        "optimizer": ", ".join(told),
        "batch size": size if request.accumulate == 1 else f"{size} × {request.accumulate}",
    }
    return facts | {key: value for key, value in more.items() if value}
