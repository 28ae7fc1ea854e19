"""``--fast auto``: a few real steps in each of several ways, and the fastest way for the training.

Every trial is undone to the bit: weights, optimizer, random numbers; the order of rows is drawn from a generator
that no trial touches. What is chosen is reported with what it brought.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from maas_magics.core.batches.batches import Batch, InMemory
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.training.steps.devices import clock_for
from maas_magics.core.training.steps.precision import Precision, trial
from maas_magics.core.training.steps.step_config import StepConfig
from maas_magics.core.training.tuning.batch_size import LEAST_STEPS
from maas_magics.core.training.tuning.snapshot import taken_back

ROUNDS = (5, 3)
"""Times that every way is timed, in turns, since a machine has neighbours; and how often where time is short."""

LEAST, MOST = 2, 50
"""Steps of one timing."""

SECONDS = 0.05
"""What one timing should take, within those bounds."""

MARGIN = 1.1
"""Times faster that a way must be to be chosen over the usual one."""

HOPELESS = 2.0
"""Times slower than the usual way after which a way is timed once only."""

SHARE = 0.1
"""Share of the training that the trials may take."""


@dataclass(frozen=True)
class TuningChoice:
    """What was chosen.

    Attributes
    ----------
    regime : StepConfig
    threads : int or None
        None where nothing was tried and nothing requested.
    summary : tuple of str
        One entry for each thing that was tried: ``"bf16 (1.4×)"``, ``"fp32 (bf16 0.6×)"``.
    """

    regime: StepConfig
    threads: int | None
    summary: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(self.summary)

    @property
    def kept(self) -> dict[str, Any]:
        """What a checkpoint holds of it, for `again`."""
        precision = self.regime.precision
        return {"threads": self.threads, "precision": "fp32" if precision is None else precision.name}


def again(regime: StepConfig, kept: dict[str, Any], device: torch.device) -> TuningChoice:
    """What was chosen before, for a training that continues: another choice would not continue to the same end."""
    if regime.precision is None and kept["precision"] != "fp32":
        regime = replace(regime, precision=Precision(kept["precision"], device))
    return TuningChoice(regime, kept["threads"], ("as before",))


def choose(
    regime: StepConfig,
    loss: Loss,
    batches: Any,
    *,
    total: int,
    threads: int | None,
    precision: bool,
    stopping: Callable[[], Any],
    rows: list[Batch] | None = None,
) -> TuningChoice:
    """Try threads and precision on a training's first rows, and choose.

    Parameters
    ----------
    regime : StepConfig
        Is left as it is, as are network, optimizer and random numbers.
    loss : Loss
    batches : Any
        Rows in memory are tried on as they are.
    total : int
        Steps of the training: no more than a tenth of them goes into trials.
    threads : int or None
        Threads that were requested, which are not tried.
    precision : bool
        Whether bf16 may be chosen.
    stopping : callable
        What someone wants; ends the trials.
    rows : list of Batch, optional
        What to try on where the rows are not in memory.
    """
    now = torch.get_num_threads()
    if (rows is None and not isinstance(batches, InMemory)) or regime.grouped:
        return TuningChoice(regime, now, ("nothing tried: it takes rows in memory, one batch a step",))
    if regime.precision is not None and regime.precision.scaler is not None:
        return TuningChoice(regime, now, ("nothing tried: it takes fp32 or bf16",))
    rows = rows or [_batch(batches, k) for k in range(min(batches.steps, 8))]
    summary: list[str] = []
    tried = [now, *({1, os.cpu_count() or 1} - {now})] if threads is None and _on_cpu(rows) else [now]
    other = _bf16(regime, rows) if precision else None
    ways = (len(tried) if len(tried) > 1 else 0) + (2 if other is not None else 0)
    if not ways:
        return TuningChoice(regime, now, ())
    ways += 3  # a batch, and twice as much
    with taken_back(regime.net, regime.optimizer):
        regime.begin(1)
        steps = _steps(regime, loss, rows)
    rounds = next((n for n in ROUNDS if ways * n * (steps + 1) <= SHARE * total), 0)
    if not rounds:
        return TuningChoice(regime, now, ("nothing tried: the training is too short",))
    if len(tried) > 1:
        found = _race({n: (regime, n) for n in tried}, loss, rows, steps, rounds, stopping)
        best = _best(found, now)
        others = {n: found[now] / seconds for n, seconds in found.items() if n != now}
        summary.append(_told(f"{best} thread{'s' if best > 1 else ''}", best != now, others, best, "threads"))
        now = best
    if other is not None:
        pair = {"fp32": regime, "bf16": other}
        regime, fact = _in_turn(pair, now, loss, rows, steps, rounds, stopping)
        summary.append(fact)
    if isinstance(batches, InMemory) and batches.steps >= 2 * LEAST_STEPS and not stopping():
        summary.insert(0, _twice_as_large(regime, now, loss, batches, rows, steps, rounds))
    return TuningChoice(regime, now, tuple(summary))


def _twice_as_large(
    regime: StepConfig, threads: int, loss: Loss, batches: InMemory, rows: list[Batch], steps: int, rounds: int
) -> str:
    """What twice the batch would bring. It is reported and not chosen: it would change what is learnt."""
    size = batches.batch_size
    larger = batches.sized(2 * size)
    ways = (rows, [_batch(larger, k) for k in range(len(rows) // 2)])
    found: tuple[list[float], list[float]] = ([], [])
    clock = clock_for(batches.target.device, threads)
    for _ in range(rounds):
        for times, some in zip(found, ways, strict=True):
            with use_threads(threads), taken_back(regime.net, regime.optimizer):
                regime.begin(1)
                times.append(_timed(regime, loss, some, steps, clock))
    return f"batch size {size} ({2 * size} {2 * median(found[0]) / median(found[1]):.1f}× the rows)"


def _in_turn(
    ways: dict[str, StepConfig],
    threads: int,
    loss: Loss,
    rows: list[Batch],
    steps: int,
    rounds: int,
    stopping: Callable[[], Any],
) -> tuple[StepConfig, str]:
    usual = next(iter(ways))
    found = _race({name: (way, threads) for name, way in ways.items()}, loss, rows, steps, rounds, stopping)
    best = _best(found, usual)
    gains = {name: found[usual] / seconds for name, seconds in found.items() if name != usual}
    return ways[best], _told(best, best != usual, gains, best, "")


def _told(name: str, changed: bool, gains: dict[Any, float], best: Any, unit: str) -> str:
    if changed:
        return f"{name} ({gains[best]:.1f}×)"
    return f"{name} ({', '.join(f'{other} {unit} {gain:.1f}×'.replace('  ', ' ') for other, gain in gains.items())})"


def _best(found: dict[Any, float], usual: Any) -> Any:
    fastest = min(found, key=lambda name: found[name])
    return fastest if found[usual] > MARGIN * found[fastest] else usual


def _race(
    ways: dict[Any, tuple[StepConfig, int]],
    loss: Loss,
    rows: list[Batch],
    steps: int,
    rounds: int,
    stopping: Callable[[], Any],
) -> dict[Any, float]:
    """Seconds of a step in each way: medians of timings in turns."""
    usual = next(iter(ways))
    found: dict[Any, list[float]] = {name: [] for name in ways}
    clock = clock_for(rows[0][1].device, max(threads for _, threads in ways.values()))
    for number in range(rounds + 1):
        for name, (regime, threads) in ways.items():
            with use_threads(threads), taken_back(regime.net, regime.optimizer):
                regime.begin(1)
                seconds = _timed(regime, loss, rows, steps if number else 1, clock)
            if number:
                found[name].append(seconds)
        if number and stopping():
            break
        if number == 1:
            ways = {
                name: way for name, way in ways.items() if name == usual or found[name][0] < HOPELESS * found[usual][0]
            }
    return {name: median(seconds) for name, seconds in found.items()}


def _timed(
    regime: StepConfig, loss: Loss, rows: list[Batch], steps: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of one step, the first one apart."""
    step = replace(regime, average=None).step(loss)  # a trial is not part of the mean of the weights
    loss_before = step(*rows[0])
    float(loss_before)  # waits for the device
    begun = clock()
    for k in range(steps):
        loss_before = step(*rows[k % len(rows)])
    float(loss_before)
    return (clock() - begun) / steps


def _steps(regime: StepConfig, loss: Loss, rows: list[Batch]) -> int:
    """How many steps one timing has."""
    seconds = _timed(regime, loss, rows, 2)
    return min(MOST, max(LEAST, int(SECONDS / max(seconds, 1e-6))))


def _bf16(regime: StepConfig, rows: list[Batch]) -> StepConfig | None:
    """The same training in bf16, where the network can do it."""
    if regime.precision is not None:
        return None
    try:
        made = Precision("bf16", rows[0][1].device)
    except RuntimeError:
        return None
    inputs = tuple(x[:2] for x in rows[0][0])
    if trial(regime.net, inputs, made.autocast) is not None:
        return None
    return replace(regime, precision=made)


def _batch(batches: InMemory, k: int) -> Batch:
    part = slice(k * batches.batch_size, (k + 1) * batches.batch_size)
    return tuple(x[part] for x in batches.inputs), batches.target[part]


def _on_cpu(rows: Iterable[tuple[Any, Tensor]]) -> bool:
    return all(target.device.type == "cpu" for _, target in rows)


@contextmanager
def use_threads(number: int) -> Iterator[None]:
    """Set torch's CPU threads, and put them back."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
