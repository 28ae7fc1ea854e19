"""What outputs a loss of quantities is least at: the target itself, or something that it makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from maas_magics.core.losses.known import Watch
from maas_magics.core.losses.own import OwnLoss
from maas_magics.core.networks.modules import preserve_rng
from maas_magics.core.tasks.base import Link

NEAR = 0.2
"""Share of the target's size that the best outputs may be off without a word, as those of a penalised loss are."""

STEPS, BOUND = 150, 1e9

_Made = Callable[[Tensor], Tensor]

MADE: dict[str, _Made] = {
    "minus the target": lambda t: -t,
    "the target's logarithm": lambda t: t.log(),
    "log(1 + target)": lambda t: t.log1p(),
    "the target's logit": lambda t: t.logit(),
    "the target's square root": lambda t: t.sqrt(),
    "the target's inverse": lambda t: 1 / t,
    "the target's square": lambda t: t.square(),
    "the target's exponential": lambda t: t.exp(),
    "log(exp(target) − 1)": lambda t: t + torch.log(-torch.expm1(-t)),
    "1 − target": lambda t: 1 - t,
}

UNDONE: dict[str, tuple[Link, str]] = {
    "softmax": ("softmax", "the target's logarithm"),
    "log_softmax": ("softmax", "the target's logarithm"),
    "exp": ("exp", "the target's logarithm"),
    "sigmoid": ("sigmoid", "the target's logit"),
}
"""What a loss that calls a function takes outputs for, where it is least at such."""


def best_outputs(loss: OwnLoss, outputs: Tensor, target: Tensor) -> tuple[Link, str]:
    """What outputs a loss is least at.

    Parameters
    ----------
    loss : OwnLoss
    outputs : Tensor
        Of some rows, for their shape and type.
    target : Tensor
        As many numbers, in the target's own units.

    Returns
    -------
    link : Link
        What makes answers of such outputs, where the loss does it itself.
    what : str
        What they are, in words; empty where they are the target, or where that is not found out.
    """
    with preserve_rng():
        probe = Probe(loss, outputs, target)
        if probe.prefers(lambda t: t):
            return "", ""
        found = next((words for words, made in MADE.items() if probe.prefers(made)), "")
        if not found:
            return "", probe.searched()
        calls = probe.calls()
        return next((link for name, (link, what) in UNDONE.items() if what == found and name in calls), ""), found


class Probe:
    """A loss of some rows, evaluated at outputs of one's choice.

    Parameters
    ----------
    loss, outputs, target
        As `best_outputs` takes them. Rows of zeros, whose logarithm is none, are left out where the others are more
        than zero.
    """

    def __init__(self, loss: OwnLoss, outputs: Tensor, target: Tensor) -> None:
        self._loss = loss
        rows = target.reshape(len(target), -1)
        more = (rows > 0).all(dim=1)
        if bool((rows >= 0).all()) and 3 <= int(more.sum()) < len(rows):
            outputs, target = outputs[more], target[more]
        self._shape, self._target, self._kind = outputs.shape, target, torch.float64
        self.t = target.double().reshape(outputs.shape)
        if not math.isfinite(self.value(self.t)):
            self._kind = outputs.dtype

    def value(self, tried: Tensor) -> float:
        """Loss at some outputs; infinite where it has none."""
        try:
            with torch.no_grad():
                torch.manual_seed(0)
                value = float(self._loss(tried.to(self._kind), self._target))
        except Exception:  # a loss of the user's may refuse what no network answered
            return math.inf
        return math.inf if math.isnan(value) else value

    def prefers(self, made: _Made) -> bool:
        """Whether the loss is smaller at what is made of the target than at anything about it."""
        place = made(self.t)
        if not bool(torch.isfinite(place).all()):
            return False
        spread = float(place.std(correction=0)) or float(place.abs().max()) or 1.0
        turns = torch.where(torch.arange(len(place)) % 2 == 0, 1.0, -1.0).double()
        turns = turns.reshape(-1, *[1] * (place.dim() - 1)).expand_as(place)
        least = self.value(place)
        others = [self.value(place + size * spread * way) for size in (0.05, -0.05, 0.5, -0.5) for way in (1.0, turns)]
        others += [self.value(place * factor) for factor in (0.5, 0.9, 1.1, 2.0, -1.0)]
        size = abs(least) + max((abs(value) for value in others if math.isfinite(value)), default=0.0)
        slack = 1e-9 * size if self._kind == torch.float64 else 1e-5 * size
        return math.isfinite(least) and all(least <= value + slack for value in others) and max(others) > least + slack

    def calls(self) -> set[str]:
        """Names of the functions that the loss calls."""
        at = self.t.to(self._kind)
        watch = Watch(at)
        try:
            with torch.no_grad(), watch:
                self._loss(at, self._target)
        except Exception:  # it may have no value there
            pass
        return watch.calls

    def _slope(self, at: Tensor) -> Tensor | None:
        """Slope of the loss at some outputs; None where it has none."""
        leaf = at.to(self._kind).requires_grad_(True)
        try:
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(self._loss(leaf, self._target), leaf)
        except Exception:  # whatever the loss raises
            return None
        return slope.double() if bool(torch.isfinite(slope).all()) else None

    def searched(self) -> str:
        """The outputs that a search finds, in words, where they are not about the target."""
        starts = [self.t, torch.zeros_like(self.t), -self.t]
        at = min(starts, key=self.value).clone()
        step, before = torch.full_like(at, 0.1 * (float(self.t.abs().mean()) or 1.0)), torch.zeros_like(at)
        for _ in range(STEPS):  # each number by the sign of its slope, so that no unit matters
            slope = self._slope(at)
            if slope is None:
                return ""
            turn = (slope * before).sign()
            step = step * torch.where(turn > 0, 1.2, torch.where(turn < 0, 0.5, 1.0)).double()
            before = torch.where(turn < 0, 0.0, slope)
            at = at - before.sign() * step
        best, t = at.flatten(), self.t.flatten()
        if not bool(torch.isfinite(best).all()) or not self.value(best.reshape(self._shape)) < self.value(self.t):
            return ""
        if float((best - t).norm()) <= NEAR * float(t.norm()):
            return ""
        if float(best.norm()) > BOUND * float(t.norm()):
            return "beyond all bounds"
        return _line(best, t) or "something else than the target"


def _line(best: Tensor, t: Tensor) -> str:
    """Outputs as a multiple of the target and a level, where they are that."""
    apart, off = best - best.mean(), t - t.mean()
    if float(off.norm()) == 0 or float(apart.norm()) == 0:
        return ""
    slope = float(apart @ off / (off @ off))
    if float((apart - slope * off).norm()) > 0.02 * float(apart.norm()):
        return ""
    level = float(best.mean() - slope * t.mean())
    small = abs(level) <= 0.02 * float(best.abs().max())
    return f"about {slope:.3g} × the target{'' if small else f' {level:+.3g}'}"
