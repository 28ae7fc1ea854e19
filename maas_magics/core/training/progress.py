"""How far a training has come: every count and value of it, in memory and on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.api.errors import OptionError, StoreError
from maas_magics.api.events import CheckpointSaved, Event, Message, Resumed
from maas_magics.core.batches.batches import Batches
from maas_magics.core.context import Stopping
from maas_magics.core.training.checkpoint import Checkpoints, State
from maas_magics.core.training.plan import Plan, TrainingHistory
from maas_magics.core.training.steps.lr_schedule import ProgressSchedule
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.own_state import learnt_state, load_learnt, load_own_state, own_state
from maas_magics.core.training.steps.random_numbers import packed, random_state, restore_random, unpacked
from maas_magics.core.training.steps.step_config import StepConfig

KEPT = ("epoch", "step", "samples", "done", "rows", "loss_sum", "begun", "best", "best_value", "counted")
"""Counts and values of `TrainingState` that a checkpoint holds as they are."""


class TrainingState:
    """Where a training stands, and its state on disk. Parameters are those of `maas_magics.core.training.loop.Fit`."""

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
        self._net, self._optimizer, self._held, self._plan = net, optimizer, validation, plan
        self._emit, self._stopping, self._checkpoints = emit, stopping, checkpoints
        self._regime = plan.regime or StepConfig(
            net, optimizer, ProgressSchedule(optimizer, plan.schedule, plan.epochs * train.steps)
        )
        self._train = self._regime.timed(plan.compiled or train)
        self._history = TrainingHistory()
        self._best: dict[str, Tensor] | None = None
        self._best_value = (1, math.inf)
        self._blind = False
        self._order = torch.Generator().manual_seed(plan.seed)
        device = next(net.parameters()).device
        self._decode = plan.answers.decoder().to("cpu" if device.type == "mps" else device)
        self._epoch = 1
        self._step = self._samples = 0
        self._done = self._rows = 0
        self._loss_sum = 0.0
        self._begun = False
        self._begin: State = {}
        self._counted = 0
        self._over = False
        """Whether it came to its end before, and was only not published."""
        self._spent, self._started = 0.0, time.perf_counter()

    @property
    def _good(self) -> bool:
        """Whether there are weights worth to keep: a best epoch whose loss is a number."""
        return self._best is not None and math.isfinite(self._history.best_metrics["loss"])

    def _due(self, step: int, *, epoch_end: bool = False) -> bool:
        """Whether it is time for a checkpoint."""
        return self._checkpoints is not None and self._checkpoints.cadence.due(step, epoch_end=epoch_end)

    def _save(self, *, last: bool = False) -> None:
        """Keep the whole state; the last one says that the training came to its own end."""
        if self._checkpoints is None:
            return
        begun = time.perf_counter()
        begin = self._begin
        state = {name: getattr(self, f"_{name}") for name in KEPT}
        state |= {
            "net": learnt_state(self._net),
            "own": own_state(self._net),
            "epochs": self._plan.epochs,
            "optimizer": self._optimizer.inner.state_dict(),
            "base": self._optimizer.base,
            "regime": self._regime.state(),
            "history": asdict(self._history),
            "begin": {"order": begin["order"], "random": packed(begin["random"])} if begin else {},
            "now": packed(random_state()),
            "after": self._order.get_state(),
            "marks": self._checkpoints.marks,
            "chosen": self._checkpoints.chosen,
            "ended": last,
            "spent": self._spent + begun - self._started,
        }
        try:
            self._checkpoints.save(state)
        except StoreError as error:
            self._emit(Message(text=f"{error.message} Training continues.", level="warning"))
        else:
            if last:
                self._checkpoints.settle()
            self._emit(CheckpointSaved(epoch=self._history.epochs if last else self._epoch, step=self._step))
        self._checkpoints.cadence.saved(self._step, time.perf_counter() - begun)

    def _best_before(self) -> dict[str, Any]:
        """The best epoch so far, as `Resumed` reports it."""
        epoch, curves = self._history.best_epoch, self._history.curves
        if not epoch:
            return {}
        figures = {name: values[epoch - 1] for name, values in curves.items() if name != "lr"}
        return {
            "best_epoch": epoch,
            "best_step": min(self._step, epoch * self._train.steps),
            "train": {name: value for name, value in figures.items() if not name.startswith("val_")},
            "validation": {name[4:]: value for name, value in figures.items() if name.startswith("val_")},
            "baseline": self._history.baseline,
        }

    def _resume(self) -> None:
        """Load the newest whole state.

        Raises
        ------
        OptionError
            If it was made of other data or another network, or has nothing left to do.
        """
        if self._checkpoints is None:
            return
        state, broken = self._checkpoints.newest()
        if state is None and self._checkpoints.wanted:
            what = "The checkpoints are broken." if broken else "There is no checkpoint to resume from."
            raise OptionError(what, "Drop --resume.")
        if broken:
            what = "the one before is used" if state else "there is none before it, so training begins anew"
            self._emit(Message(text=f"The newest checkpoint is broken; {what}.", level="warning"))
        if state is None:
            return
        for what, mark in self._checkpoints.marks.items():
            if state["marks"].get(what, mark) != mark:  # an earlier version did not write the one that is missing
                named = what.replace("figure", "metric")  # as version 0.1 wrote it
                raise OptionError(
                    f"The checkpoint was made with another {named}.", "Repeat the line as it was, or drop --resume."
                )
        try:
            load_learnt(self._net, state["net"])
            load_own_state(self._net, state["own"])
            self._optimizer.load(state["optimizer"], state["base"])
            self._regime.load(state["regime"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise OptionError(f"The checkpoint does not fit: {reason}", "Repeat the line as it was.") from None
        self._history = TrainingHistory(**state["history"])
        for name in KEPT:
            setattr(self, f"_{name}", state[name])
        begin = state["begin"]
        self._begin = {"order": begin["order"], "random": unpacked(begin["random"])} if begin else {}
        self._spent = state["spent"]
        restore_random(unpacked(state["now"]))
        self._order.set_state(state["after"])
        if not state["ended"] and self._history.epochs > self._plan.epochs:
            done = self._history.epochs
            raise OptionError(f"The training has done {done} epochs already.", f"--epochs {done + 1}, or more.")
        if state["ended"] and not (
            self._checkpoints.delivered or self._history.stopped or state["epochs"] != self._plan.epochs
        ):
            self._over = True
            self._emit(Message(text="The training had come to its end; what is left is to publish it."))
        elif state["ended"]:
            self._history.stopped = False
            self._counted = self._history.epochs
            if self._epoch > self._plan.epochs:
                raise OptionError(
                    f"The training has done its {self._history.epochs} epochs.", f"--epochs {2 * self._history.epochs}"
                )
        self._emit(
            Resumed(
                epoch=min(self._epoch, self._plan.epochs),
                step=self._step,
                samples=self._samples + self._rows,
                **self._best_before(),
            )
        )
