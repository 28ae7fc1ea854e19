"""From what was requested to the rules of a training, checked against the network and the data."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from maas_magics.api.errors import OptionError
from maas_magics.api.signature import NUMPY
from maas_magics.core.batches.accumulate import GradientAccumulation
from maas_magics.core.batches.batches import Batches, InMemory, Resizable
from maas_magics.core.batches.blocks import Blocks
from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.losses.check import few_rows
from maas_magics.core.losses.make import mass_of
from maas_magics.core.memory import free_memory
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.training.resolve import step_spec_of
from maas_magics.core.training.specs import Resolved
from maas_magics.core.training.steps.lr_schedule import ProgressSchedule
from maas_magics.core.training.steps.matmul_backend import onednn_is_exact, onednn_pays, through_onednn
from maas_magics.core.training.steps.memory_format import arrange
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.out_of_memory import MicroBatching
from maas_magics.core.training.steps.precision import Precision, make_precision
from maas_magics.core.training.steps.schedules import constant
from maas_magics.core.training.steps.step_config import StepConfig
from maas_magics.core.training.steps.step_spec import StepSpec, make_learner, make_step_config
from maas_magics.core.training.tuning.batch_size import BatchSizeResult, find_batch_size
from maas_magics.core.training.tuning.lr_range import LRRange, lr_range

USUAL = 32
"""Rows of a batch where a loader does not say."""


@dataclass(frozen=True)
class Assembled:
    """What a training steps with.

    Attributes
    ----------
    optimizer : Optimizer
    batches : Batches
        Grouped where several make a step.
    regime : StepConfig
    rules : StepSpec
        What it was made of.
    summary : dict of str to str
        What was chosen, for display.
    search : LRRange or None
        How the learning rate was found, where no one gave one.
    rows : int
        Of a batch.
    size : str
        Rows of a step, for display.
    """

    optimizer: Optimizer
    batches: Batches
    regime: StepConfig
    rules: StepSpec
    summary: dict[str, str]
    search: LRRange | None
    rows: int
    size: str


def assemble(
    said: Resolved,
    net: nn.Module,
    prepared: Prepared,
    batches: Batches,
    device: torch.device,
    *,
    mode: str,
    weights: Tensor | None,
    loss: Loss,
    notify: Callable[[str], None],
    stopping: Callable[[], Any],
    threads: Callable[[int], AbstractContextManager[Any]],
    undo: ExitStack,
    onednn: bool | None = None,
    elsewhere: bool = False,
) -> Assembled:
    """Optimizer and rules of a training.

    Parameters
    ----------
    said : Resolved
    net : nn.Module
        On its device; its convolutions may be put into another memory format.
    prepared, batches, device
    mode : {"min", "max"}
        Whether a smaller watched metric is better.
    weights : Tensor or None
        Of classes.
    loss : Loss
    notify : callable
        Gets a sentence, also while the training runs.
    stopping : callable
        What someone wants; ends trials.
    threads : callable
        From the rows of a batch to a context with the threads that it would train on.
    undo : ExitStack
        Gets what puts the network, and the process, back into the order that they had.
    onednn : bool, optional
        Whether matrix products went to oneDNN in the run that is resumed; found out where it is None.
    elsewhere : bool
        Whether workers train on devices of another kind, and find out there which arithmetic they have.

    Raises
    ------
    OptionError
        For anything that does not fit the network, the data or the device.
    """
    rules, workers, epochs = step_spec_of(said), said.run.workers, said.budget.epochs
    late = next(((pattern, at) for pattern, at in rules.unfreeze.items() if at > epochs), None)
    if late is not None:
        raise OptionError(
            f"--unfreeze {late[0]}@{late[1]} never comes: the training has {epochs} epochs.",
            f"--epochs {late[1]}, or an earlier epoch.",
        )
    example = _example(prepared, device)
    precision: Precision | None
    if elsewhere and rules.precision != "fp32":
        precision = Precision(rules.precision, device)
    else:
        try:
            precision = make_precision(rules.precision, net, example, device)
        except OptionError as error:
            if "precision" not in said.usual:
                raise
            notify(f"{error.message.rstrip('.')}. It is trained in fp32.")
            precision, rules = None, msgspec.structs.replace(rules, precision="fp32")
    arranged = arrange(net, _example(prepared, device, few_rows(prepared.train[0])), device, rules.precision)
    if arranged is not None:
        undo.callback(arranged.undo)
    optimizer, freezing = make_learner(rules, net)
    found = None
    if said.find_batch_size:
        assert isinstance(batches, Resizable)  # the checks let nothing else pass
        found = _sized(rules, workers, net, optimizer, batches, loss, threads, stopping)
        batches = batches.sized(found.size * workers)
    if onednn is None:
        onednn = not elsewhere and _onednn(rules, workers, net, example, batches, threads)
    rules = msgspec.structs.replace(rules, onednn=onednn and onednn_is_exact())
    if rules.onednn:
        undo.enter_context(through_onednn())
    search = None
    if said.find_lr:
        search = _searched(rules, said.optimizer.seed, net, optimizer, batches, loss, precision)
        rules = msgspec.structs.replace(rules, first_lr=search.chosen if search is not None else None)
    steps = batches if rules.accumulate == 1 else GradientAccumulation(batches, rules.accumulate)
    if optimizer.needs_closure and steps.steps != 1:
        notify(_of_all_rows(rules.optimizer.name, batches))
    regime = make_step_config(
        rules,
        net,
        optimizer,
        freezing,
        precision,
        epochs=epochs,
        steps=steps.steps,
        mode=mode,
        mass=mass_of(said.task.loss, prepared.answers, weights),
        division=MicroBatching(notify=notify),
        deferred=device.type != "cpu",
    )
    schedule = rules.schedule
    if said.find_lr:
        schedule += ", rate found" if search is not None else ", no better rate found"
    rows = getattr(batches, "batch_size", 0)
    size = str(rows or "loader")
    size += "" if rules.accumulate == 1 else f" × {rules.accumulate}"
    each = f", {found.size} for a worker" if found is not None and workers > 1 else ""
    batch = size if found is None else f"{size}{each}, found: {found.reason}"
    summary = _summary(rules, optimizer.first_lr, schedule, batch, balanced=said.data.balance)
    return Assembled(optimizer, steps, regime, rules, summary, search, rows or USUAL, size)


def _of_all_rows(optimizer: str, batches: Batches) -> str:
    """What is wrong with mini-batches for an optimizer that goes by curvature: each has a loss of its own."""
    rows = f"--batch-size {batches.rows}" if isinstance(batches, (InMemory, Blocks)) else "one batch of all rows"
    return (
        f"{optimizer} on mini-batches is not sound: it takes the change from one batch's gradient to the next's for "
        f"curvature, and the loss may rise; {rows} is what it is made for."
    )


def _onednn(
    rules: StepSpec,
    workers: int,
    net: nn.Module,
    example: tuple[Tensor, ...],
    batches: Batches,
    threads: Callable[[int], AbstractContextManager[Any]],
) -> bool:
    """Whether matrix products are to go to oneDNN."""
    if rules.precision != "fp32":  # those in 16 bits do in any case
        return False
    rows = max(1, (getattr(batches, "batch_size", 0) or USUAL) // workers)
    with threads(rows):
        return onednn_pays(net, example, rows)


def _sized(
    rules: StepSpec,
    workers: int,
    net: nn.Module,
    optimizer: Optimizer,
    batches: Resizable,
    loss: Loss,
    threads: Callable[[int], AbstractContextManager[Any]],
    stopping: Callable[[], Any],
) -> BatchSizeResult:
    """How many rows fit into a batch: into a worker's part of it, where there are several that share the machine."""
    device = next(net.parameters()).device
    precision = None if rules.precision == "fp32" else Precision(rules.precision, device)
    return find_batch_size(
        StepConfig(net, optimizer, ProgressSchedule(optimizer, constant, 1), precision=precision, clip=rules.clip),
        loss,
        batches if workers == 1 else batches.sized(max(2, batches.batch_size // workers)),
        threads=threads,
        stopping=stopping,
        group=rules.accumulate * workers,
        free=lambda: free_memory() // workers,
    )


def _searched(
    rules: StepSpec,
    seed: int,
    net: nn.Module,
    optimizer: Optimizer,
    batches: Any,
    loss: Loss,
    precision: Precision | None,
) -> LRRange | None:
    """Set the learning rate at which the loss falls fastest; None where it never falls."""
    if not isinstance(batches, InMemory):
        raise OptionError("A learning rate is found on rows in memory, not on those of a loader.", "--lr 1e-3")
    if not optimizer.first_lr or optimizer.needs_closure or (precision is not None and precision.scaler is not None):
        raise OptionError("No learning rate can be found for this optimizer in this precision.", "--lr 1e-3")
    rates = ProgressSchedule(optimizer, constant, 1)
    found = lr_range(StepConfig(net, optimizer, rates, precision=precision, clip=rules.clip), loss, batches, seed)
    if found is not None:
        optimizer.begin_at(found.chosen)
    return found


def _example(prepared: Prepared, device: torch.device, rows: int = 2) -> tuple[Tensor, ...]:
    """Some rows of what the network takes; zeros of that kind where the rows are a loader's."""
    first = prepared.train[0]
    if len(first[0]):
        return tuple(values[:rows].to(device) for values in first)
    return tuple(
        torch.zeros(rows, *spec.shape[1:], dtype=getattr(torch, NUMPY[spec.datatype]), device=device)
        for spec in prepared.processor.specs
    )


def _summary(rules: StepSpec, lr: float, schedule: str, batch: str, *, balanced: bool) -> dict[str, str]:
    """What the view shows of the steps; the usual is left out."""
    told, warmup = [rules.optimizer.name, f"lr {lr:g}", schedule], rules.warmup
    if warmup:
        told.append(f"warm-up {warmup:.0%}" if warmup < 1 else f"warm-up {int(warmup)} steps")
    more = {
        "optimizer": ", ".join(told),
        "batch size": batch,
        "precision": "" if rules.precision == "fp32" else rules.precision,
        "clip": "" if rules.clip is None else f"{rules.clip:g}",
        "ema": f"{rules.ema:g}" if rules.ema else "",
        "frozen": ", ".join(rules.freeze),
        "balanced": "by label" if balanced else "",
        "products": "oneDNN products" if rules.onednn else "",
    }
    return {key: value for key, value in more.items() if value}
