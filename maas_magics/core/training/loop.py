"""The training loop: forward, loss, backward, step; validate each epoch; keep the best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from typing import Literal

import torch
from torch import Tensor, nn

from maas_magics.api.errors import Diverged, Stopped, StoreError, Suspended
from maas_magics.api.events import CheckpointSaved, EpochEnd, Event, Message, Resumed, Step
from maas_magics.core.context import Stopping
from maas_magics.core.data.answers import Answers
from maas_magics.core.data.decode import Decode, truth
from maas_magics.core.training.batches import Batch, Batches
from maas_magics.core.training.checkpoint import Checkpoints, State, random_state, restore_random
from maas_magics.core.training.losses import Loss
from maas_magics.core.training.metrics import LOWER_IS_BETTER, Metric, evaluate
from maas_magics.core.training.optimizers import Optimizer
from maas_magics.core.training.schedules import Schedule, constant
from maas_magics.core.training.step import TrainStep
from maas_magics.core.turns import give_way, wanted

STEP_EVENTS = 0.1
"""Seconds between two ``Step`` events."""

STEP_PAUSE = 10.0
EPOCH_PAUSE = 1.0
"""Least seconds between two checkpoints, inside an epoch and at its end."""

COST = 100
"""Least time between two checkpoints, in times of what the last one took."""

KEPT = ("epoch", "step", "samples", "done", "rows", "loss_sum", "begun", "begin", "best", "best_value")
"""Counts and values of `Fit` that a checkpoint holds as they are."""


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


class Fit:
    """One training of a network in place, that can be stopped, kept on disk and gone on with at any step.

    Parameters
    ----------
    net, optimizer, train, validation, plan
    emit : callable
        Gets the events.
    stopping : callable
        ``"soft"`` ends the epoch here and validates once more if no epoch was finished yet; ``"hard"`` ends at
        once; ``"suspend"`` keeps the state on disk and raises `Suspended`.
    checkpoints : Checkpoints, optional
        Where the state is kept; from its newest whole one the training goes on.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Optimizer,
        train: Batches,
        validation: Batches | None,
        plan: Plan,
        emit: Callable[[Event], None],
        stopping: Callable[[], Stopping],
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._net, self._optimizer, self._train, self._held, self._plan = net, optimizer, train, validation, plan
        self._emit, self._stopping, self._checkpoints = emit, stopping, checkpoints
        self._history = History()
        self._best: dict[str, Tensor] | None = None
        self._best_value = math.inf
        self._order = torch.Generator().manual_seed(plan.seed)
        self._decode = Decode(plan.answers).to(next(net.parameters()).device)
        self._epoch = 1
        self._step = self._samples = 0
        self._done = self._rows = 0
        self._loss_sum = 0.0
        self._begun = False
        self._begin: State = {}
        self._spent = self._cost = 0.0

    def run(self) -> History:
        """Train, and leave the weights of the best epoch in the network.

        Raises
        ------
        Diverged
            When a loss is NaN or infinite; the message names the epoch, the step and what to try.
        Stopped
            When it was stopped with nothing to keep.
        Suspended
        """
        self._resume()
        self._started = self._saved = time.perf_counter()
        while self._epoch <= self._plan.epochs and not self._history.stopped:
            stop = self._train_epoch()
            if stop == "suspend":
                self._save()
                raise Suspended("Training gave way; its state is kept.")
            if stop == "hard" or (stop and self._best is not None):
                self._history.stopped = True
                break
            if not self._rows:
                raise Stopped("Training was stopped before its first step; nothing was kept.")
            self._end_epoch()
            self._history.stopped = bool(stop)
            if self._plan.patience and self._history.epochs - self._history.best_epoch >= self._plan.patience:
                break
            if self._due(EPOCH_PAUSE):
                self._save()
        if self._best is None:
            raise Stopped("Training was stopped before anything could be kept.")
        self._net.load_state_dict(self._best)
        self._net.eval()
        return self._history

    def _train_epoch(self) -> Stopping:
        """Steps from where the epoch stands to its end, or to where somebody wants it to stop."""
        net, optimizer, plan, stopping, emit = self._net, self._optimizer, self._plan, self._stopping, self._emit
        train_on, count = self._make_step(), self._count
        epoch, total_steps = self._epoch, max(1, plan.epochs * self._train.steps)
        net.train()
        loss_sum, rows, step, done = self._loss_sum, self._rows, self._step, self._done
        since_sum, since_rows, reported = loss_sum, rows, time.perf_counter()
        stop: Stopping = ""
        for inputs, target in self._batches():
            stop = stopping()
            if stop:
                break
            if wanted():
                give_way()
            if plan.schedule is not constant:
                optimizer.scale_lr(plan.schedule(step / total_steps))
            loss = train_on(inputs, target)
            step, done = step + 1, done + 1
            n = count(target)
            loss_sum, rows = loss_sum + loss * n, rows + n
            if not math.isfinite(loss):
                raise _diverged(epoch, step, optimizer.lr, loss)
            now = time.perf_counter()
            if now - reported >= STEP_EVENTS:
                fresh = rows - since_rows
                emit(Step(step=step, epoch=epoch, loss=(loss_sum - since_sum) / fresh, samples=self._samples + rows))
                reported, since_sum, since_rows = now, loss_sum, rows
                if self._due(STEP_PAUSE):
                    self._loss_sum, self._rows, self._step, self._done = loss_sum, rows, step, done
                    self._save()
        self._loss_sum, self._rows, self._step, self._done = loss_sum, rows, step, done
        return stop

    def _batches(self) -> Iterator[Batch]:
        """What is left of the epoch, in the order that it began with."""
        if self._checkpoints is None:
            return self._train.epoch(self._order)
        if not self._begun:
            self._begun = True
            self._begin = {"order": self._order.get_state(), "random": random_state()}
            return self._train.epoch(self._order)
        now = random_state()
        self._order.set_state(self._begin["order"])
        restore_random(self._begin["random"])
        batches: Iterator[Batch] = islice(self._train.epoch(self._order), self._done, None)
        first = next(batches, None)  # a loader draws from the random numbers when its first batch is asked for
        batches = batches if first is None else chain([first], batches)
        restore_random(now)
        return batches

    def _end_epoch(self) -> None:
        """Measure, note, and keep the weights if they are the best so far."""
        history, plan, epoch = self._history, self._plan, self._epoch
        self._samples += self._rows
        figures = {"loss": self._loss_sum / self._rows}
        held = self._measure()
        history.epochs = epoch
        watched = (held or figures).get(plan.monitor, figures["loss"])
        value = watched if plan.mode == "min" else -watched
        better = value < self._best_value or self._best is None
        lr = self._optimizer.lr
        for name, number in {**figures, **{f"val_{k}": v for k, v in held.items()}, "lr": lr}.items():
            history.curves.setdefault(name, []).append(number)
        if better:
            self._best_value, history.best_epoch, history.best_metrics = value, epoch, held or figures
            self._best = {name: tensor.detach().clone() for name, tensor in self._net.state_dict().items()}
        self._emit(
            EpochEnd(
                epoch=epoch,
                step=self._step,
                samples=self._samples,
                train=figures,
                validation=held,
                lr=lr,
                seconds=self._spent + time.perf_counter() - self._started,
                best=better,
            )
        )
        self._epoch, self._done, self._rows, self._loss_sum, self._begun = epoch + 1, 0, 0, 0.0, False

    # --- what several processes do together: see `workers` ---

    _count: Callable[[Tensor], int] = staticmethod(len)
    """Rows of a step, by its target."""

    def _make_step(self) -> TrainStep:
        return TrainStep(self._net, self._optimizer, self._plan.loss)

    def _measure(self) -> dict[str, float]:
        """Figures of the held-out rows; none where there are none."""
        return {} if self._held is None else measure(self._net, self._decode, self._held, self._plan)

    def _due(self, pause: float) -> bool:
        """Whether it is time for a checkpoint, of which two lie at least ``pause`` seconds apart."""
        return time.perf_counter() - self._saved > max(pause, COST * self._cost)

    # --- on disk ---

    def _save(self) -> None:
        if self._checkpoints is None:
            return
        begun = time.perf_counter()
        state = {name: getattr(self, f"_{name}") for name in KEPT}
        state |= {
            "net": self._net.state_dict(),
            "optimizer": self._optimizer.inner.state_dict(),
            "history": asdict(self._history),
            "now": random_state(),
            "after": self._order.get_state(),
            "spent": self._spent + begun - self._started,
        }
        try:
            self._checkpoints.save(state)
        except StoreError as error:
            self._emit(Message(text=f"{error.message} Training goes on.", level="warning"))
        else:
            self._emit(CheckpointSaved(epoch=self._epoch, step=self._step))
        self._saved = time.perf_counter()
        self._cost = self._saved - begun

    def _resume(self) -> None:
        if self._checkpoints is None:
            return
        state, broken = self._checkpoints.newest()
        if broken:
            what = "the one before is used" if state else "there is none before it, so training begins anew"
            self._emit(Message(text=f"The newest checkpoint is broken; {what}.", level="warning"))
        if state is None:
            return
        self._net.load_state_dict(state["net"])
        self._optimizer.inner.load_state_dict(state["optimizer"])
        self._history = History(**state["history"])
        for name in KEPT:
            setattr(self, f"_{name}", state[name])
        self._spent = state["spent"]
        restore_random(state["now"])
        self._order.set_state(state["after"])
        self._emit(Resumed(epoch=self._epoch, step=self._step, samples=self._samples + self._rows))


def fit(
    net: nn.Module,
    optimizer: Optimizer,
    train: Batches,
    validation: Batches | None,
    plan: Plan,
    emit: Callable[[Event], None],
    stopping: Callable[[], Stopping],
    checkpoints: Checkpoints | None = None,
) -> History:
    """Train ``net`` in place and leave the weights of its best epoch in it; see `Fit`."""
    return Fit(net, optimizer, train, validation, plan, emit, stopping, checkpoints).run()


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
    return figures_of(*answer(net, batches), decode, plan)


def figures_of(outputs: Tensor, target: Tensor, decode: Decode, plan: Plan) -> dict[str, float]:
    """Loss and every metric of some outputs."""
    figures = {"loss": float(plan.loss(outputs, target))}
    return figures | evaluate(plan.metrics, decode.table(outputs), truth(plan.answers, target))


def _diverged(epoch: int, step: int, lr: float, loss: float) -> Diverged:
    return Diverged(
        f"The loss became {loss} in epoch {epoch}, step {step}, at a learning rate of {lr:g}.",
        f"Try a lower one: --lr {lr / 10:g}. Check the features for values of very different size.",
    )
