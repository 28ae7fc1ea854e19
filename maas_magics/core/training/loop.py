"""The training loop: forward, loss, backward, step; validate each epoch; keep the best weights."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.api.errors import Diverged, Stopped, Suspended
from maas_magics.api.events import EpochEnd, Event, Message, Step
from maas_magics.core.batches.batches import Batch, Batches, FusedBatch
from maas_magics.core.context import Stopping
from maas_magics.core.tracing import tracing_waits, yield_lock
from maas_magics.core.training.checkpoint import Checkpoints
from maas_magics.core.training.measure import baseline_of, measure
from maas_magics.core.training.plan import Plan, TrainingHistory
from maas_magics.core.training.progress import TrainingState
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.out_of_memory import Step as TakeStep
from maas_magics.core.training.steps.own_state import learnt_state, load_learnt
from maas_magics.core.training.steps.random_numbers import random_state, restore_random
from maas_magics.core.training.steps.weighting import Weighted

STEP_EVENTS = 0.1
"""Seconds between two ``Step`` events."""

MOST_WAITING = 1000
"""Losses that stay on a device at most before they are read."""


class Fit(TrainingState):  # numpydoc ignore=PR02
    """One training of a network in place, that can be stopped, kept on disk and resumed at any step.

    Parameters
    ----------
    net, optimizer, train, validation, plan
    emit : callable
        Gets the events.
    stopping : callable
        ``"soft"`` ends the epoch here and validates once more if no epoch was finished yet; ``"hard"`` ends at
        once; ``"suspend"`` keeps the state on disk and raises `Suspended`.
    checkpoints : Checkpoints, optional
        Where the state is kept; from its newest whole one the training continues.
    """

    def run(self) -> TrainingHistory:
        """Train, and leave the weights of the best epoch in the network.

        Raises
        ------
        Diverged
            When a loss is NaN or infinite before any epoch was good; the message names the epoch, the step and what
            to try. After a good epoch the training ends there instead, and says so.
        Stopped
            When it was stopped with nothing to keep.
        Suspended
        """
        self._resume()
        self._started = time.perf_counter()
        if self._plan.compiled is not None:
            self._plan.compiled.begin(self._step)
        if self._checkpoints is not None:
            self._checkpoints.cadence.begin(self._step)
            # Weights, those of the best epoch, and what an optimizer keeps of each, as Adam does.
            self._checkpoints.cadence.expect(4 * sum(p.numel() * p.element_size() for p in self._net.parameters()))
        if not self._plan.epochs:
            self._measure_as_it_is()
        while self._epoch <= self._plan.epochs and not self._history.stopped and not self._over:
            try:
                stop = self._train_epoch()
            except Diverged as error:
                if not self._good:
                    raise
                self._history.diverged = True
                kept = f"Training ends, and the best epoch so far, {self._history.best_epoch}, is kept."
                self._emit(Message(text=f"{error.message} {kept} {error.hint}", level="warning"))
                break
            if stop == "suspend":
                self._save()
                raise Suspended("Training was suspended; its state is kept.")
            if stop == "hard" or (stop and self._best is not None):
                self._history.stopped = True
                break
            if not self._rows:
                raise Stopped("Training was stopped before its first step; nothing was kept.")
            with self._regime.averaged():
                self._end_epoch()
            self._history.stopped = bool(stop)
            if self._impatient():
                if self._history.epochs < self._plan.epochs:
                    what, epochs = self._plan.monitor, self._plan.patience
                    self._emit(Message(text=f"early stop: no better {what} for {epochs} epoch{'s' * (epochs != 1)}"))
                break
            if self._due(self._step, epoch_end=True):
                self._save()
        if not self._history.diverged and not self._over:
            self._save(last=True)
        if self._best is None:
            raise Stopped("Training was stopped before anything could be kept.")
        load_learnt(self._net, self._best)
        self._net.eval()
        self._history.seconds = self._spent + time.perf_counter() - self._started
        return self._history

    def _impatient(self) -> bool:
        """Whether the metric has not become better for too many epochs, counted since the training was resumed."""
        since = max(self._history.best_epoch, self._counted)
        return bool(self._plan.patience) and self._history.epochs - since >= self._plan.patience

    def _train_epoch(self) -> Stopping:
        """Steps from where the epoch stands to its end, or to where someone wants it to stop."""
        optimizer, stopping, emit, epoch = self._optimizer, self._stopping, self._emit, self._epoch
        self._regime.begin(epoch)
        train_on, count, before_step = self._make_step(), self._count, self._regime.rates.before
        loss_sum, rows, step, done = self._loss_sum, self._rows, self._step, self._done
        since_sum, since_rows, reported = loss_sum, rows, time.perf_counter()
        waiting: list[tuple[Tensor, int]] = []
        cadence = self._checkpoints.cadence if self._checkpoints is not None else None
        counts = cadence is not None and cadence.counts
        stop: Stopping = ""
        unknown = math.isnan(self._history.first)
        batches, steps = self._batches(), self._train.steps
        while True:
            # Before the next rows are drawn: what they draw from the random numbers belongs to the step after.
            stop = stopping() if not steps or done < steps else ""
            if stop or (batch := next(batches, None)) is None:
                break
            inputs, target = batch
            if tracing_waits():
                yield_lock()
            several = inputs.group if type(inputs) is FusedBatch else None
            if several is not None:
                loss, taken = several(inputs, target, step), several.steps
            else:
                if before_step is not None:
                    before_step(step)
                loss, taken = train_on(inputs, target), 1
            step, done = step + taken, done + taken
            n = count(target)
            rows += n
            now = time.perf_counter()
            notify = now - reported >= STEP_EVENTS
            due = (counts or (notify and cadence is not None)) and self._due(step)
            if isinstance(loss, Tensor):
                waiting.append((loss, n))
                if notify or due or len(waiting) >= MOST_WAITING:
                    loss_sum = self._read(waiting, loss_sum, step)
            else:
                loss_sum += loss * n
                if unknown:
                    unknown = self._note_first(loss)
                if not math.isfinite(loss):
                    if several is not None:
                        place, loss = several.bad
                        step -= taken - place
                    raise _diverged(epoch, step, optimizer, loss)
            if notify:
                fresh = rows - since_rows
                emit(Step(step=step, epoch=epoch, loss=(loss_sum - since_sum) / fresh, samples=self._samples + rows))
                self._show(epoch, False)
                reported, since_sum, since_rows = now, loss_sum, rows
            if due:
                self._loss_sum, self._rows, self._step, self._done = loss_sum, rows, step, done
                self._save()
        self._loss_sum = self._read(waiting, loss_sum, step)
        self._rows, self._step, self._done = rows, step, done
        return stop

    def _read(self, waiting: list[tuple[Tensor, int]], total: float, step: int) -> float:
        """The sum of losses with those that waited on their device until now, ``step`` the last of them."""
        if not waiting:
            return total
        losses = torch.stack([loss for loss, _ in waiting]).tolist()
        self._note_first(losses[0])
        for place, (loss, (_, n)) in enumerate(zip(losses, waiting, strict=True), start=1):
            if not math.isfinite(loss):
                raise _diverged(self._epoch, step - len(losses) + place, self._optimizer, loss)
            total += loss * n
        waiting.clear()
        return total

    def _note_first(self, loss: float) -> bool:
        """Keep the loss of the first step; returns whether there is none yet."""
        if math.isnan(self._history.first):
            self._history.first = loss
        return False

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
        batches = self._train.epoch(self._order, self._done)  # a loader draws its rows up to there anew
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
        loss = (held or figures)["loss"]
        sound = math.isfinite(loss)
        # Where the watched metric is not a number, as that of held-out rows of one label only, the loss chooses.
        value = (0, watched if plan.mode == "min" else -watched) if math.isfinite(watched) else (1, loss)
        if value[0] and sound and not self._blind:
            self._blind = True
            text = f"{plan.monitor} is {watched} for the held-out rows; such epochs are compared by their loss."
            self._emit(Message(text=text, level="warning"))
        better = self._best is None or (sound and (value < self._best_value or not self._good))
        lr = self._optimizer.lr
        for name, number in {**figures, **{f"val_{k}": v for k, v in held.items()}, "lr": lr}.items():
            history.curves.setdefault(name, []).append(number)
        if better:
            self._best_value, history.best_epoch, history.best_metrics = value, epoch, held or figures
            self._best = {name: _copied(value) for name, value in learnt_state(self._net).items()}
        self._emit(
            EpochEnd(
                epoch=epoch,
                step=self._step,
                samples=self._samples,
                train=figures,
                validation=held,
                baseline=history.baseline,
                lr=lr,
                seconds=self._spent + time.perf_counter() - self._started,
                best=better,
            )
        )
        self._show(epoch, epoch == plan.epochs)
        self._regime.rates.after_epoch(self._step, watched)
        self._epoch, self._done, self._rows, self._loss_sum, self._begun = epoch + 1, 0, 0, 0.0, False

    def _show(self, epoch: int, last: bool) -> None:
        """Notify of what the network draws or writes, where it is to."""
        made = self._plan.shown(self._net, epoch, last) if self._plan.shown is not None else None
        if made is not None:
            self._emit(made)

    def _measure_as_it_is(self) -> None:
        """Measure a network of which nothing is learnt, and keep it."""
        history = self._history
        held = self._measure()
        figures = held or measure(self._net, self._train, self._decode, self._plan)[0]
        history.best_epoch, history.best_metrics = 0, figures
        history.curves = {"loss": [figures["loss"]], **{f"val_{name}": [value] for name, value in held.items()}}
        self._best = {name: _copied(value) for name, value in learnt_state(self._net).items()}

    # --- what several processes do together: see `workers` ---

    _count: Callable[[Tensor], int] = staticmethod(len)
    """Rows of a step, by its target."""

    def _make_step(self) -> TakeStep:
        return self._regime.step(self._plan.loss) if self._plan.learn is None else self._learnt

    def _learnt(self, inputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        """An epoch of a network that learns in a way of its own; returns its loss after it."""
        plan = self._plan
        assert plan.learn is not None
        plain, weights = plan.loss.parted(target) if isinstance(plan.loss, Weighted) else (target, None)
        if weights is None and plan.class_weights is not None:
            weights = plan.class_weights[plain.reshape(-1).long()]
        plan.learn(inputs, plain, weights, self._optimizer.lr, plan.seed)
        with torch.no_grad():
            return plan.loss(self._net(*inputs), target)

    def _measure(self) -> dict[str, float]:
        """Metrics of the held-out rows; empty where there are none."""
        if self._held is None:
            return {}
        figures, target = measure(self._net, self._held, self._decode, self._plan)
        if not self._history.baseline:
            self._history.baseline = baseline_of(target, self._plan)
        return figures


def fit(
    net: nn.Module,
    optimizer: Optimizer,
    train: Batches,
    validation: Batches | None,
    plan: Plan,
    emit: Callable[[Event], None],
    stopping: Callable[[], Stopping],
    checkpoints: Checkpoints | None = None,
) -> TrainingHistory:
    """Train ``net`` in place and leave the weights of its best epoch in it; see `Fit`."""
    return Fit(net, optimizer, train, validation, plan, emit, stopping, checkpoints).run()


def _copied(value: Any) -> Any:
    """A tensor, or what a module of its own has as extra state."""
    return value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _diverged(epoch: int, step: int, optimizer: Optimizer, loss: float) -> Diverged:
    return Diverged(
        f"The loss became {loss} in epoch {epoch}, step {step}, at a learning rate of {optimizer.lr:g}.",
        f"Try a lower one: --lr {optimizer.first_lr / 10:g}. Check the features for values of very different size.",
    )
