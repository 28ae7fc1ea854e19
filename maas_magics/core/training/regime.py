"""What a training does beyond forward, loss, backward and update; its state is part of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from maas_magics.core.training.batches import Batches
from maas_magics.core.training.ema import Average
from maas_magics.core.training.freeze import Freezing
from maas_magics.core.training.full_step import FullStep
from maas_magics.core.training.losses import Loss
from maas_magics.core.training.optimizers import Optimizer
from maas_magics.core.training.pooling import Poolings
from maas_magics.core.training.precision import Precision
from maas_magics.core.training.profile import ProfiledBatches, ProfiledStep, Profiler
from maas_magics.core.training.rates import Rates
from maas_magics.core.training.step import TrainStep


@dataclass(frozen=True)
class Regime:
    """Rules of a training's steps and epochs.

    Attributes
    ----------
    net : nn.Module
    optimizer : Optimizer
    rates : Rates
    precision : Precision or None
    grouped : bool
        Whether a step gets a group of batches.
    mass : callable or None
        What a batch counts in the mean of a group; see `FullStep`.
    clip : float or None
    average : Average or None
    freezing : Freezing or None
    profiler : Profiler or None
        Times the parts of steps.
    poolings : Poolings or None
        Layers of the network that are in another order.
    """

    net: nn.Module
    optimizer: Optimizer
    rates: Rates
    precision: Precision | None = None
    grouped: bool = False
    mass: Callable[[Tensor], Tensor] | None = None
    clip: float | None = None
    average: Average | None = None
    freezing: Freezing | None = None
    profiler: Profiler | None = None
    poolings: Poolings | None = None

    def begin(self, epoch: int) -> None:
        """Put the network into training mode; thaw what learns from this epoch on. May be called twice."""
        self.net.train()
        if self.freezing is not None:
            self.optimizer.thaw(epoch)
            self.freezing.hold(epoch)

    def step(self, loss: Loss) -> TrainStep:
        """The function that takes a step: the lean one unless something is asked for that it cannot do."""
        if self.profiler is not None:
            make: Callable[..., TrainStep] = partial(ProfiledStep, profiler=self.profiler)
        elif self.precision is None and self.clip is None and self.average is None and not self.grouped:
            return TrainStep(self.net, self.optimizer, loss)
        else:
            make = FullStep
        return make(
            self.net,
            self.optimizer,
            loss,
            precision=self.precision,
            grouped=self.grouped,
            mass=self.mass,
            clip=self.clip,
            average=self.average,
        )

    def timed(self, batches: Batches) -> Batches:
        """The batches, their making timed where somebody wants to know."""
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
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.rates.load(state["rates"])
        if self.precision is not None:
            self.precision.load(state["precision"])
        if self.average is not None:
            self.average.load(state["average"])
