"""The learning rate range test: a rate that rises step by step, and the place where the loss falls fastest.

L. N. Smith, *Cyclical Learning Rates for Training Neural Networks*, 2017; the rate rises exponentially and the loss is
smoothed, as in S. Gugger's form of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch

from maas_magics.core.batches.batches import InMemory
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.training.steps.step_config import StepConfig
from maas_magics.core.training.tuning.snapshot import taken_back

LOWEST, HIGHEST = 1e-6, 1.0
"""Rates between which it is searched."""

STEPS = 100
"""Steps of the test."""

SMOOTHING = 0.9
"""Share of the smoothed loss that stays in each step."""

BLOWN = 4.0
"""Times the best loss at which the test ends."""

EDGE = 8
"""Steps at the beginning that show nothing yet."""


@dataclass(frozen=True)
class LRRange:
    """What a test found.

    Attributes
    ----------
    rates, losses : tuple of float
        One of each for every step; the losses are smoothed.
    chosen : float
        Rate of the steepest descent.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    chosen: float


def lr_range(
    regime: StepConfig, loss: Loss, batches: InMemory, seed: int, stopping: Callable[[], Any] = lambda: ""
) -> LRRange | None:
    """Try rising learning rates on a training's rows; network, optimizer and random numbers are put back.

    Parameters
    ----------
    regime : StepConfig
    loss : Loss
    batches : InMemory
        Or groups of its batches.
    seed : int
        Of the order of rows in the test; the order of the training comes from a generator of its own.
    stopping : callable
        What someone wants; ends the test.

    Returns
    -------
    Range or None
        None where the loss never falls.
    """
    optimizer = regime.optimizer
    groups = optimizer.inner.param_groups
    shares = [base / optimizer.first_lr if optimizer.first_lr else 1.0 for base in optimizer.base]
    rates: list[float] = []
    losses: list[float] = []
    mean, lowest = 0.0, math.inf
    with taken_back(regime.net, optimizer):
        regime.begin(1)
        step = replace(regime, average=None, profiler=None, deferred=False).step(loss)
        for k, (inputs, target) in enumerate(islice(_again(batches, seed), STEPS)):
            rate = LOWEST * (HIGHEST / LOWEST) ** (k / (STEPS - 1))
            for group, share in zip(groups, shares, strict=True):
                group["lr"] = rate * share
            value = float(step(inputs, target))
            mean = SMOOTHING * mean + (1 - SMOOTHING) * value
            smooth = mean / (1 - SMOOTHING ** (k + 1))
            if not math.isfinite(smooth) or (k > EDGE and _blown(smooth, losses, lowest)) or stopping():
                break
            rates.append(rate)
            losses.append(smooth)
            lowest = min(lowest, smooth)
    chosen = steepest(rates, losses)
    return None if chosen is None else LRRange(tuple(rates), tuple(losses), float(f"{chosen:.2g}"))


def _blown(value: float, losses: list[float], lowest: float) -> bool:
    first = losses[0]
    return value > lowest + (BLOWN - 1) * max(abs(lowest), abs(first - lowest))


def steepest(rates: list[float], losses: list[float]) -> float | None:
    """Rate at which a smoothed loss falls fastest over the logarithm of the rate, before its lowest value.

    None where it never falls.
    """
    end = min(range(len(losses)), key=losses.__getitem__, default=0)
    slopes = {
        k: (losses[k + 1] - losses[k - 1]) / math.log(rates[k + 1] / rates[k - 1])
        for k in range(EDGE, min(end, len(losses) - 1))
    }
    place = min(slopes, key=slopes.__getitem__, default=None)
    return None if place is None or slopes[place] >= 0 else rates[place]


def _again(batches: Any, seed: int) -> Any:
    """Epochs without end."""
    drawn = torch.Generator().manual_seed(seed)
    while True:
        yield from batches.epoch(drawn)
