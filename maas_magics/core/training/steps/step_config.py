"""What a training does beyond forward, loss, backward and update; its state is part of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from maas_magics.core.batches.batches import Batches
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.training.steps.ema import EMA
from maas_magics.core.training.steps.freeze import Freezing
from maas_magics.core.training.steps.full_step import FullStep
from maas_magics.core.training.steps.lr_schedule import LRSchedule
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.out_of_memory import MicroBatchedStep, MicroBatching, Step
from maas_magics.core.training.steps.precision import Precision
from maas_magics.core.training.steps.profile import ProfiledBatches, ProfiledStep, Profiler
from maas_magics.core.training.steps.step import TrainStep


@dataclass(frozen=True)
class StepConfig:
    """Rules of a training's steps and epochs.

    Attributes
    ----------
    net : nn.Module
    optimizer : Optimizer
    rates : LRSchedule
    precision : Precision or None
    grouped : bool
        Whether a step gets a group of batches.
    mass : callable or None
        What a batch counts in the mean of a group; see `FullStep`.
    clip : float or None
    average : EMA or None
    freezing : Freezing or None
    profiler : Profiler or None
        Times the parts of steps.
    division : MicroBatching or None
        How a step is divided that is too large for memory; without one it fails.
    deferred : bool
        Whether losses stay on their device until they are reported; see `TrainStep`.
    full : callable
        Makes a step that does more than the lean one, as `FullStep` is made.
    """

    net: nn.Module
    optimizer: Optimizer
    rates: LRSchedule
    precision: Precision | None = None
    grouped: bool = False
    mass: Callable[[Tensor], Tensor] | None = None
    clip: float | None = None
    average: EMA | None = None
    freezing: Freezing | None = None
    profiler: Profiler | None = None
    division: MicroBatching | None = None
    deferred: bool = False
    full: Callable[..., FullStep] = FullStep

    def begin(self, epoch: int) -> None:
        """Put the network into training mode; unfreeze what learns from this epoch on. May be called twice."""
        self.net.train()
        if self.freezing is not None:
            self.optimizer.unfreeze(epoch)
            self.freezing.hold(epoch)

    def step(self, loss: Loss) -> Step:
        """The function that takes a step: the lean one unless something is requested that it cannot do."""
        extra = self.precision is not None or self.clip is not None or self.average is not None
        if self.profiler is None and not extra and not self.grouped:
            whole: Step = TrainStep(self.net, self.optimizer, loss, deferred=self.deferred)
        else:
            whole = self._full(loss, self.grouped)
        if self.division is None or self.optimizer.needs_closure:
            return whole
        return MicroBatchedStep(self.net, whole, self.grouped, partial(self._full, loss, True), self.division)

    def _full(self, loss: Loss, grouped: bool) -> FullStep:
        make = self.full if self.profiler is None else partial(ProfiledStep, profiler=self.profiler)
        return make(
            self.net,
            self.optimizer,
            loss,
            precision=self.precision,
            grouped=grouped,
            mass=self.mass,
            clip=self.clip,
            average=self.average,
            deferred=self.deferred,
        )

    def timed(self, batches: Batches) -> Batches:
        """The batches, their making timed where someone wants to know."""
        return batches if self.profiler is None else ProfiledBatches(batches, self.profiler)

    def averaged(self) -> AbstractContextManager[None]:
        """Within it the network has the weights that are validated and kept."""
        return nullcontext() if self.average is None else self.average.applied()

    def state(self) -> dict[str, Any]:
        """For a checkpoint, beside network and optimizer. What is frozen follows from the epoch."""
        return {
            "rates": self.rates.state(),
            "precision": self.precision.state() if self.precision is not None else {},
            "average": self.average.state() if self.average is not None else [],
            "parts": self.division.parts if self.division is not None else 1,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.rates.load(state["rates"])
        if self.precision is not None:
            self.precision.load(state["precision"])
        if self.average is not None:
            self.average.load(state["average"])
        if self.division is not None:
            self.division.parts = state["parts"]
