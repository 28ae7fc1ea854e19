"""The training loop: forward, loss, backward, step; validate each epoch; keep the best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from maas_magics.api.errors import Diverged, Stopped
from maas_magics.api.events import EpochEnd, Step
from maas_magics.core.data.answers import Answers
from maas_magics.core.data.decode import Decode, truth
from maas_magics.core.training.batches import Batches
from maas_magics.core.training.losses import Loss
from maas_magics.core.training.metrics import LOWER_IS_BETTER, Metric, evaluate
from maas_magics.core.training.optimizers import Optimizer
from maas_magics.core.training.schedules import Schedule, constant
from maas_magics.core.training.step import TrainStep

STEP_EVENTS = 0.1
"""Seconds between two ``Step`` events."""

Stopping = Literal["", "soft", "hard"]


@dataclass(frozen=True)
class Plan:
    """Everything the loop needs to know, decided."""

    loss: Loss
    answers: Answers
    metrics: dict[str, Metric]
    monitor: str
    mode: Literal["min", "max"]
    epochs: int
    patience: int
    schedule: Schedule
    seed: int


@dataclass
class History:
    """What happened, epoch by epoch."""

    epochs: int = 0
    best_epoch: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    stopped: bool = False


def mode_of(monitor: str) -> Literal["min", "max"]:
    """Whether a smaller or a larger figure is better."""
    lower = monitor in LOWER_IS_BETTER or "error" in monitor.lower() or "loss" in monitor.lower()
    return "min" if lower else "max"


def fit(
    net: nn.Module,
    optimizer: Optimizer,
    train: Batches,
    validation: Batches | None,
    plan: Plan,
    emit: Callable[[Step | EpochEnd], None],
    stopping: Callable[[], Stopping],
) -> History:
    """Train ``net`` in place and leave the weights of its best epoch in it.

    Parameters
    ----------
    net, optimizer, train, validation, plan
    emit : callable
        Gets the events.
    stopping : callable
        ``"soft"`` ends the epoch here and validates once more if no epoch was finished yet; ``"hard"`` ends at once.

    Raises
    ------
    Diverged
        When a loss is NaN or infinite; the message names the epoch, the step and what to try.
    Stopped
        When it was stopped with nothing to keep.
    """
    history = History()
    best: dict[str, Tensor] | None = None
    best_value = math.inf
    generator = torch.Generator().manual_seed(plan.seed)
    decode = Decode(plan.answers).to(next(net.parameters()).device)
    train_on = TrainStep(net, optimizer, plan.loss)
    begun = time.perf_counter()
    total_steps = max(1, plan.epochs * train.steps)
    step = samples = 0
    for epoch in range(1, plan.epochs + 1):
        net.train()
        loss_sum, rows, reported, stop = 0.0, 0, time.perf_counter(), ""
        since_sum, since_rows = 0.0, 0
        for inputs, target in train.epoch(generator):
            stop = stopping()
            if stop:
                break
            if plan.schedule is not constant:
                optimizer.scale_lr(plan.schedule(step / total_steps))
            loss = train_on(inputs, target)
            step += 1
            n = target.shape[0]
            loss_sum, rows = loss_sum + loss * n, rows + n
            if not math.isfinite(loss):
                raise _diverged(epoch, step, optimizer.lr, loss)
            now = time.perf_counter()
            if now - reported >= STEP_EVENTS:
                fresh = rows - since_rows
                emit(Step(step=step, epoch=epoch, loss=(loss_sum - since_sum) / fresh, samples=samples + rows))
                reported, since_sum, since_rows = now, loss_sum, rows
        samples += rows
        if stop == "hard" or (stop and best is not None):
            history.stopped = True
            break
        if not rows:
            raise Stopped("Training was stopped before its first step; nothing was kept.")
        figures = {"loss": loss_sum / rows}
        held = measure(net, decode, validation, plan) if validation is not None else {}
        history.epochs = epoch
        watched = (held or figures).get(plan.monitor, figures["loss"])
        value = watched if plan.mode == "min" else -watched
        better = value < best_value or best is None
        for name, number in {**figures, **{f"val_{k}": v for k, v in held.items()}, "lr": optimizer.lr}.items():
            history.curves.setdefault(name, []).append(number)
        if better:
            best_value, history.best_epoch, history.best_metrics = value, epoch, held or figures
            best = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
        seconds = time.perf_counter() - begun
        emit(
            EpochEnd(
                epoch=epoch,
                step=step,
                samples=samples,
                train=figures,
                validation=held,
                lr=optimizer.lr,
                seconds=seconds,
                best=better,
            )
        )
        if stop:
            history.stopped = True
            break
        if plan.patience and epoch - history.best_epoch >= plan.patience:
            break
    if best is None:
        raise Stopped("Training was stopped before anything could be kept.")
    net.load_state_dict(best)
    net.eval()
    return history


@torch.inference_mode()
def answer(net: nn.Module, batches: Batches) -> tuple[Tensor, Tensor]:
    """Outputs and encoded target of every row, in order."""
    net.eval()
    outputs, targets = [], []
    for inputs, target in batches.whole():
        outputs.append(net(*inputs))
        targets.append(target)
    return torch.cat(outputs), torch.cat(targets)


def measure(net: nn.Module, decode: Decode, batches: Batches, plan: Plan) -> dict[str, float]:
    """Loss and every metric on some rows."""
    outputs, target = answer(net, batches)
    figures = {"loss": float(plan.loss(outputs, target))}
    return figures | evaluate(plan.metrics, decode.table(outputs), truth(plan.answers, target))


def _diverged(epoch: int, step: int, lr: float, loss: float) -> Diverged:
    return Diverged(
        f"The loss became {loss} in epoch {epoch}, step {step}, at a learning rate of {lr:g}.",
        f"Try a lower one: --lr {lr / 10:g}. Check the features for values of very different size.",
    )
