"""Where the time of a training goes: data, forward, backward, optimizer, events, validation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from maas_magics.core.batches.batches import Batch, Batches, FromLoader, FusedBatch
from maas_magics.core.batches.from_dataset import FromDataset
from maas_magics.core.training.steps.full_step import FullStep

PARTS = ("data", "forward", "backward", "optimizer", "compiled", "events", "validation", "compiling")
"""In the order of a training; ``compiled`` is forward, backward and optimizer of compiled steps."""

OUTSIDE = ("validation", "compiling")
"""Phases that are not part of a step."""

SMALL = 1e-3
"""Seconds of a step below which calls cost more than arithmetic."""


class Profiler:
    """Seconds of each part of a training.

    Parameters
    ----------
    device : torch.device
        What it computes is waited for, so that its time falls where it belongs.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._left: float | None = None
        self.steps = 0

    def now(self) -> float:
        """Seconds, once the device has done all its work."""
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
        return time.perf_counter()

    def add(self, part: str, seconds: float) -> None:
        """Note what a part took."""
        self._seconds[part] += max(0.0, seconds)

    @property
    def stepping(self) -> float:
        """Seconds of forward, backward and optimizer so far."""
        return sum(self._seconds[part] for part in ("forward", "backward", "optimizer"))

    def enter(self) -> None:
        """An epoch's steps begin; what went by since the last one's was validation."""
        if self._left is not None:
            self.add("validation", self.now() - self._left)
            self._left = None

    def leave(self) -> None:
        """An epoch's steps are done."""
        self._left = self.now()

    def result(self) -> dict[str, float]:
        """Seconds of each part that took any; called once the training is over."""
        self.enter()
        return {part: seconds for part, seconds in self._seconds.items() if seconds}


class ProfiledBatches:
    """Batches of a training whose making, and what happens besides the steps, is timed.

    Parameters
    ----------
    batches : Batches
    profiler : Profiler
    """

    def __init__(self, batches: Batches, profiler: Profiler) -> None:
        self.rows, self.steps = batches.rows, batches.steps
        self._batches, self._profiler = batches, profiler

    def epoch(self, generator: torch.Generator, start: int = 0) -> Iterator[Batch]:
        """What the batches give."""
        return self._timed(iter(self._batches.epoch(generator, start)))

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        profiler = self._profiler
        profiler.enter()
        prepared = getattr(self._batches, "preparing", 0.0)
        try:
            while True:
                begun = profiler.now()
                item = next(batches, None)
                given = profiler.now()
                prepared, before = getattr(self._batches, "preparing", 0.0), prepared
                profiler.add("compiling", prepared - before)
                profiler.add("data", given - begun - (prepared - before))
                if item is None:
                    return
                stepping = profiler.stepping
                yield item
                body = profiler.now() - given
                if type(item[0]) is FusedBatch:
                    profiler.steps += item[0].group.steps
                    profiler.add("compiled", body)
                else:
                    profiler.steps += profiler.stepping > stepping  # a resumed epoch's first batches are passed over
                    profiler.add("events", body - (profiler.stepping - stepping))
        finally:
            profiler.leave()

    def whole(self) -> Iterator[Batch]:
        """Every row once, in order."""
        return self._batches.whole()


class ProfiledStep(FullStep):
    """As `FullStep`, with its parts timed; what is neither forward nor backward is the optimizer's."""

    def __init__(self, *given: Any, profiler: Profiler, **more: Any) -> None:
        super().__init__(*given, **more)
        self._profiler, self._plain_backward, self._backward = profiler, self._backward, self._timed_backward

    def __call__(self, inputs: tuple[Any, ...], target: Tensor) -> float | Tensor:
        """Forward, loss, backward, update."""
        profiler = self._profiler
        begun, before = profiler.now(), profiler.stepping
        loss = super().__call__(inputs, target)
        profiler.add("optimizer", profiler.now() - begun - (profiler.stepping - before))
        return loss

    def _one(self, inputs: tuple[Tensor, ...], target: Tensor, share: float) -> float | Tensor:
        profiler = self._profiler
        begun, before = profiler.now(), profiler.stepping
        loss = super()._one(inputs, target, share)
        profiler.add("forward", profiler.now() - begun - (profiler.stepping - before))
        return loss

    def _timed_backward(self, loss: Tensor) -> None:
        begun = self._profiler.now()
        self._plain_backward(loss)
        self._profiler.add("backward", self._profiler.now() - begun)


def advice(seconds: dict[str, float], steps: int, batches: Any, *, fast: bool) -> str:
    """One sentence about what would help most, from the measured times.

    Parameters
    ----------
    seconds : dict of str to float
        Of each part.
    steps : int
        Steps that took them.
    batches : Any
        What the training took its rows from.
    fast : bool
        Whether ``--fast auto`` was requested.
    """
    whole = sum(seconds.values())
    inside = whole - sum(seconds.get(part, 0.0) for part in OUTSIDE)
    if not steps or inside <= 0:
        return "No step was measured."
    share = {part: value / inside for part, value in seconds.items() if part not in OUTSIDE}
    quicker = "a larger --batch-size" if fast else "--fast auto or a larger --batch-size"
    if seconds.get("validation", 0.0) > 0.4 * whole:
        part = seconds["validation"] / whole
        return f"Validation takes {part:.0%} of the training: hold out fewer rows, as with --validation 0.05."
    if share.get("data", 0.0) > 0.4:
        cure = f"try {quicker}"
        if isinstance(batches, FromLoader):
            cure = "give the DataLoader num_workers=2 or more"
        elif isinstance(batches, FromDataset):
            cure = "more cores would read it faster" if fast else "try --fast auto or --loader-workers 2"
        return f"The data takes {share['data']:.0%} of a step: {cure}."
    if share.get("events", 0.0) > 0.3:
        return f"Events and checkpoints take {share['events']:.0%} of a step: try a larger --checkpoint-every."
    if share.get("compiled", 0.0) > 0.5:
        return f"Compiled steps take {share['compiled']:.0%} of the time: what is left to win is a larger --batch-size."
    if inside / steps < SMALL:
        return f"A step takes {1e6 * inside / steps:.0f} µs, more of it calls than arithmetic: try {quicker}."
    if share.get("optimizer", 0.0) > 0.4:
        return f"The update takes {share['optimizer']:.0%} of a step: a larger --batch-size needs fewer of them."
    both = share.get("forward", 0.0) + share.get("backward", 0.0)
    cure = "a smaller network or a faster device is what helps" if fast else "try --fast auto or --precision bf16"
    return f"Forward and backward take {both:.0%} of a step: {cure}."
