"""Compiled steps: made beside a training that continues, and used where they turn out faster and right."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from maas_magics.api.events import Level
from maas_magics.core.batches.batches import Batch, FusedBatch, InMemory
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.training.compiling.compiler import CannotCompile, Compilation, find_compiler
from maas_magics.core.training.compiling.group_graph import StepGroup, Untraceable, state_of, trace
from maas_magics.core.training.steps.devices import clock_for
from maas_magics.core.training.steps.step_config import StepConfig
from maas_magics.core.training.tuning.snapshot import taken_back

MOST_STEPS = 4
"""Steps of one graph: more bring nothing that could be measured, and compile for longer."""

MOST_NODES = 480
"""Operators of a graph beyond which its steps become fewer."""

LONG_STEP = 5e-3
"""Seconds of a step beyond which calls cost nothing beside arithmetic, so one step is a graph."""

PROBED = 24
"""Steps that are timed before anything is decided."""

WORTH_TRACING = 4.0
"""Seconds a training must still take to be worth a look at the graph."""

CALM, PER_NODE = 10.0, 0.04
"""Seconds that compiling takes: a fixed part, and for each operator of the graph."""

TRIALS = 5
"""Groups of steps that are timed on either side before compiled ones are taken."""

GAIN = 1.05
"""Times faster that compiled steps must be to be taken."""

LOSS_TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Largest relative difference of the losses of one group of steps, where no dropout makes them differ anyway."""


class GroupStep:
    """``step(inputs, target, at)`` takes several steps on as many batches; returns the mean of their losses.

    Parameters
    ----------
    group : StepGroup
    run : callable
        The compiled graph.
    regime : StepConfig
    """

    def __init__(self, group: StepGroup, run: Callable[[list[Tensor]], list[Tensor]], regime: StepConfig) -> None:
        self.steps = group.steps
        self.losses: list[float] = []
        self._run, self._rule, self._others = run, group.rule, list(group.others)
        self._optimizer, self._before, self._average = regime.optimizer, regime.rates.before, regime.average

    def __call__(self, inputs: tuple[Tensor, ...], target: Tensor, at: int | None = None) -> float:
        """Take the steps ``at``, ``at + 1`` … counted from 0; without ``at`` rates and average stay as they are."""
        inner = self._optimizer.inner
        groups = inner.param_groups
        counters = [inner.state[group["params"][0]].get("step") for group in groups]
        done = [0.0 if counter is None else float(counter) for counter in counters]
        rows = []
        for k in range(self.steps):
            if at is not None and self._before is not None:
                self._before(at + k)
            rows.append([self._rule.row(group, n + k + 1) for group, n in zip(groups, done, strict=True)])
        numbers = torch.tensor(rows, dtype=torch.float32)
        if target.device.type != "cpu":
            numbers = numbers.to(target.device, non_blocking=True)
        weights, moments = state_of(self._optimizer, self._rule)
        losses = self._run([*weights, *moments, numbers, *inputs, target, *self._others])[0]
        for counter in counters:
            if counter is not None:
                counter.add_(self.steps)
        if at is not None and self._average is not None:
            self._average.update()
        self.losses = losses.tolist()
        return math.fsum(self.losses) / self.steps if all(map(math.isfinite, self.losses)) else math.nan

    @property
    def bad(self) -> tuple[int, float]:
        """Place of the first loss that is not a number among the last ones, counted from 1, and that loss."""
        return next((k + 1, loss) for k, loss in enumerate(self.losses) if not math.isfinite(loss))


@dataclass(frozen=True)
class CompileOutcome:
    """What became of it: seconds of an eager and of a compiled step, and how many steps one graph has."""

    eager: float
    compiled: float
    steps: int

    @property
    def gain(self) -> float:
        """Times faster."""
        return self.eager / self.compiled


class Compiled:
    """The batches of a training, several at a time once there are compiled steps for them.

    While nothing is compiled it hands out what ``batches`` does, and times it. When what is left of the training
    is worth it, the graph is made, which takes a second or two, then compiled in another process. What comes out
    has to give the losses of eager steps, and be faster, on copies of weights and state.

    Dropout draws other numbers than torch's own kernels do, from the same generator: of the same distribution, and
    the same again for the same seed.

    Parameters
    ----------
    batches : InMemory
    regime : StepConfig
    loss : Loss
    notify : callable
        Gets a sentence, and its level.
    total : int
        Steps of the whole training.

    Attributes
    ----------
    outcome : CompileOutcome or None
        Of the trial.
    preparing : float
        Seconds of the training that went into graphs and trials.
    """

    def __init__(
        self,
        batches: InMemory,
        regime: StepConfig,
        loss: Loss,
        notify: Callable[[str, Level], None],
        total: int,
    ) -> None:
        self.rows, self.steps = batches.rows, batches.steps
        self.outcome: CompileOutcome | None = None
        self.preparing = 0.0
        self._batches, self._regime, self._loss, self._notify, self._total = batches, regime, loss, notify, total
        self._seen = self._timed = 0
        self._spent = 0.0
        self._group: StepGroup | None = None
        self._compilation: Compilation | None = None
        self._step: GroupStep | None = None
        self._over = False

    def begin(self, step: int) -> None:
        """Count from a step."""
        self._seen = step

    def close(self) -> None:
        """End what is still being compiled."""
        self._over = True
        if self._compilation is not None:
            self._compilation.close()

    def wait(self) -> None:
        """Wait for what is being compiled."""
        if self._compilation is not None:
            self._compilation.wait()

    def whole(self) -> Iterator[Batch]:
        """Every row once, in order."""
        return self._batches.whole()

    def epoch(self, generator: torch.Generator, start: int = 0) -> Iterator[Batch]:
        """The rows of an epoch, in the order that the batches alone would have."""
        rows = self._batches.drawn(generator)
        size, at = self._batches.batch_size, start
        full = self.rows // size
        while at < self.steps:
            if self._step is None and not self._over:
                begun = time.perf_counter()
                self._advance()
                self.preparing += time.perf_counter() - begun
            many = self._step.steps if self._step is not None else 1
            if self._step is not None and at + many <= full:
                inputs, target = rows(at * size, (at + many) * size)
                found = FusedBatch(inputs)
                found.group = self._step
                self._seen += many
                yield found, target
                at += many
                continue
            self._seen += 1
            begun = time.perf_counter()
            yield rows(at * size, (at + 1) * size)
            if self._timed >= 0:
                self._timed += 1
                self._spent += time.perf_counter() - begun if self._timed > 1 else 0.0
            at += 1

    def _advance(self) -> None:
        """Take the next stage towards compiled steps; gives up, with the reason, where there is no way to them."""
        try:
            if self._compilation is not None:
                if self._compilation.ready:
                    self._try()
            elif self._timed > PROBED:
                self._start()
        except (CannotCompile, Untraceable) as error:
            self._give_up(f"Steps are not compiled, for {error}.", "warning")

    def _give_up(self, text: str, level: Level = "info") -> None:
        self._notify(text, level)
        self.close()

    def _start(self) -> None:
        """Make the graph and have it compiled, if what is left is long enough."""
        each = self._spent / (self._timed - 1)
        left = each * (self._total - self._seen)
        if left < WORTH_TRACING:
            self._give_up(f"Steps are not compiled: {left:.1f} s are left, less than that takes.")
            return
        self._group = self._traced(1)
        nodes = len(self._group.graph.graph.nodes)
        fit = min(MOST_STEPS, MOST_NODES // nodes, self.rows // self._batches.batch_size)
        if each < LONG_STEP and fit > 1 and self._regime.average is None:  # which takes in the weights of each step
            self._group = self._traced(fit)
            nodes = len(self._group.graph.graph.nodes)
        compilation = Compilation(self._group, self._example(self._group))
        expected = CALM + PER_NODE * nodes
        if not compilation.cached and left < expected:
            compilation.close()
            self._give_up(f"Steps are not compiled: about {left:.0f} s are left, and that takes about {expected:.0f}.")
            return
        self._compilation = compilation

    def _traced(self, steps: int) -> StepGroup:
        regime = self._regime
        inputs, target = self._first(steps)
        autocast = regime.precision.autocast if regime.precision is not None else None
        return trace(regime.net, regime.optimizer, self._loss, inputs, target, steps, autocast)

    def _first(self, steps: int) -> Batch:
        """The first rows of the data, as many as so many steps take."""
        rows = steps * self._batches.batch_size
        return tuple(x[:rows].contiguous() for x in self._batches.inputs), self._batches.target[:rows].contiguous()

    def _example(self, group: StepGroup) -> list[Tensor]:
        weights, moments = state_of(self._regime.optimizer, group.rule)
        inputs, target = self._first(group.steps)
        row = group.rule.row(self._regime.optimizer.inner.param_groups[0], 1)
        numbers = torch.ones(group.steps, len(weights), len(row), device=target.device)
        return [*weights, *moments, numbers, *inputs, target, *group.others]

    def _try(self) -> None:
        """Load what was compiled, and compare it with eager steps."""
        assert self._compilation is not None
        assert self._group is not None
        regime, group = self._regime, self._group
        try:
            made = GroupStep(group, self._compilation.load().run, regime)
            eager = replace(regime, profiler=None, average=None).step(self._loss)
            inputs, target = self._first(group.steps)
            size = self._batches.batch_size
            batches = [
                (tuple(x[k * size : (k + 1) * size] for x in inputs), target[k * size : (k + 1) * size])
                for k in range(group.steps)
            ]
            with taken_back(regime.net, regime.optimizer):
                expected = [float(eager(*batch)) for batch in batches]
            with taken_back(regime.net, regime.optimizer):
                made(inputs, target)
            if not group.draws:
                self._compare(expected, made.losses)
            times: tuple[list[float], list[float]] = ([], [])
            with taken_back(regime.net, regime.optimizer):
                for _ in range(TRIALS):
                    begun = _now(target)
                    for batch in batches:
                        eager(*batch)
                    between = _now(target)
                    made(inputs, target)
                    times[0].append((between - begun) / group.steps)
                    times[1].append((_now(target) - between) / group.steps)
        except (CannotCompile, Untraceable):
            raise
        except Exception as error:  # whatever a library that does not fit raises
            raise CannotCompile(f"they fail: {(str(error).splitlines() or [''])[0][:200].rstrip('.')}") from None
        self.outcome = CompileOutcome(median(times[0]), median(times[1]), group.steps)
        if self.outcome.gain < GAIN:
            self._give_up(f"Compiled steps are not used: they are {self.outcome.gain:.2g} × as fast as plain ones.")
            return
        self._step = made
        many = f"{group.steps} steps in one graph" if group.steps > 1 else "whole steps"
        self._notify(f"Steps are compiled from here on: {many}, {self.outcome.gain:.1f} × as fast in a trial.", "info")

    def _compare(self, expected: list[float], found: list[float]) -> None:
        name = self._regime.precision.name if self._regime.precision is not None else "fp32"
        most = LOSS_TOLERANCE[name]
        worst = max(abs(a - b) / max(abs(a), 1e-6) for a, b in zip(expected, found, strict=True))
        if not worst <= most:
            raise CannotCompile(f"their losses differ by {worst:.1e} from those of plain steps")


def _now(tensor: Tensor) -> float:
    """Seconds, once the device has done all its work; of one thread, its CPU time."""
    if tensor.device.type == "cuda":
        torch.cuda.synchronize(tensor.device)
    return clock_for(tensor.device, torch.get_num_threads())()


def why_not(regime: StepConfig, batches: Any) -> str:
    """What keeps the steps of a training from being compiled; empty if nothing does."""
    if not isinstance(batches, InMemory):
        return "they take rows in memory and one batch each"
    if regime.grouped or regime.clip is not None:
        return f"they have no {'--accumulate' if regime.grouped else '--clip'}"
    if regime.precision is not None and regime.precision.scaler is not None:
        return "they have no fp16; bf16 is possible"
    if regime.freezing is not None and regime.freezing.later:
        return "weights that unfreeze later would change them"
    if batches.target.device.type not in ("cpu", "cuda"):
        return f"there is no compiler for {batches.target.device.type}"
    return ""


def compiled_for(
    regime: StepConfig, batches: Any, loss: Loss, notify: Callable[[str, Level], None], total: int
) -> Compiled | None:
    """Compiled steps for a training, or None and a sentence that says why there are none."""
    reason = why_not(regime, batches)
    if not reason:
        try:
            find_compiler()
        except CannotCompile as error:
            reason = str(error)
    if reason:
        notify(f"Steps are not compiled, for {reason}.", "warning")
        return None
    return Compiled(batches, regime, loss, notify, total)
