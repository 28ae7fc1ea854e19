"""How the learning rate changes: by the share of the training done, or by a scheduler of torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch.optim import lr_scheduler

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.core.compat.optimizers import mark_stepped
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.schedules import SCHEDULES, Schedule, constant

PLATEAU = "plateau"

BY_STEP = ("OneCycleLR", "CyclicLR")
"""Schedulers that torch's documentation steps after each batch; the others go by epochs."""

UNUSABLE = ("LRScheduler", "_LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")
"""They are made of functions or of other schedulers."""

RISING = ("one-cycle", "coslog4", "warm-cosine", "OneCycleLR")
"""They begin low by themselves."""

TORCH = sorted(
    name
    for name, kind in vars(lr_scheduler).items()
    if inspect.isclass(kind) and issubclass(kind, lr_scheduler.LRScheduler) and name not in UNUSABLE
)


class LRSchedule(Protocol):
    """Sets the learning rates of an optimizer."""

    @property
    def before(self) -> Callable[[int], None] | None:
        """Called before each step with the number of steps done; None where there is nothing to do."""

    def after_epoch(self, step: int, watched: float) -> None:
        """Called after each epoch with the steps done and the metric that chooses the best epoch."""

    def state(self) -> dict[str, Any]:
        """For a checkpoint, beside the optimizer's own state."""

    def load(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""


class ProgressSchedule:
    """A function of the share of the training, 0 ≤ t ≤ 1, after a linear warm-up.

    Parameters
    ----------
    optimizer : Optimizer
    schedule : Schedule
    total : int
        Steps of the training.
    warmup : int
        In the k-th of these steps the learning rate is k / warmup of its first value.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule, total: int, warmup: int = 0) -> None:
        self._optimizer, self._schedule = optimizer, schedule
        self._total, self._warmup = max(1, total), warmup
        self.before: Callable[[int], None] | None = None if schedule is constant and not warmup else self._before

    def _before(self, step: int) -> None:
        done = step - self._warmup
        if done < 0:
            self._optimizer.scale_lr((step + 1) / self._warmup)
        else:
            self._optimizer.scale_lr(self._schedule(done / max(1, self._total - self._warmup)))

    def after_epoch(self, step: int, watched: float) -> None:
        """Nothing."""

    def state(self) -> dict[str, Any]:
        """Nothing: the number of steps says all."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Nothing."""


class TorchSchedule:
    """A scheduler of ``torch.optim.lr_scheduler`` after a linear warm-up; epochs that end within it do not count.

    Parameters
    ----------
    optimizer : Optimizer
    name : str
        Of a class; ``ReduceLROnPlateau`` gets the watched metric.
    params : mapping
        Arguments of the class.
    warmup : int
        Steps.
    """

    def __init__(self, optimizer: Optimizer, name: str, params: Mapping[str, Any], warmup: int) -> None:
        self._make = partial(getattr(lr_scheduler, name), optimizer.inner, **params)
        self._params, self._taken = dict(params), 0
        self._inner: Any = self._make()
        mark_stepped(optimizer.inner)  # the step that torch looks for may be a kernel that is called directly
        self._groups = optimizer.inner
        self._first = [group["lr"] for group in optimizer.inner.param_groups]
        self._warmup = warmup
        self._by_step = name in BY_STEP
        self._watches = name == "ReduceLROnPlateau"
        self.before: Callable[[int], None] | None = self._before if warmup or self._by_step else None

    def _before(self, step: int) -> None:
        if self._warmup and step <= self._warmup:
            share = min(1.0, (step + 1) / self._warmup)
            for group, first in zip(self._groups.param_groups, self._first, strict=True):
                group["lr"] = first * share
        elif self._by_step and step > self._warmup:
            self._advance()

    def after_epoch(self, step: int, watched: float) -> None:
        """One step of a scheduler that goes by epochs."""
        if self._by_step or step <= self._warmup:
            return
        if self._watches:
            self._inner.step(watched)
        else:
            self._advance()

    def _advance(self) -> None:
        self._inner.step()
        self._taken += 1

    def state(self) -> dict[str, Any]:
        """State of the scheduler, and the arguments that it was made with."""
        return {"inner": self._inner.state_dict(), "params": self._params, "taken": self._taken}

    def load(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint; of a training that has become longer, where the longer schedule would be."""
        if state["params"] == self._params or self._watches:
            self._inner.load_state_dict(state["inner"])
            if hasattr(self._inner, "base_lrs"):
                self._inner.base_lrs = [group["initial_lr"] for group in self._groups.param_groups]
            self._taken = state["taken"]
            return
        for group, first in zip(self._groups.param_groups, self._first, strict=True):
            group["lr"] = group["initial_lr"] = first
        self._inner, self._taken = self._make(), 0
        for _ in range(state["taken"]):
            self._advance()


def make_lr_schedule(
    optimizer: Optimizer,
    name: str,
    params: Mapping[str, Any],
    *,
    epochs: int,
    steps: int,
    warmup: float,
    mode: str,
) -> LRSchedule:
    """Schedule by name.

    Parameters
    ----------
    optimizer : Optimizer
    name : str
        One of `SCHEDULES`, ``plateau``, or a class of ``torch.optim.lr_scheduler`` in any case.
    params : mapping
        Arguments of that class.
    epochs, steps : int
        Most epochs, and steps of each; 0 steps where no one knows.
    warmup : float
        Share of the training below 1, or a whole number of steps.
    mode : {"min", "max"}
        Whether a smaller watched metric is better.

    Raises
    ------
    OptionError
        For an invalid name, argument or warm-up.
    """
    known = {known.lower(): known for known in (*SCHEDULES, PLATEAU, *TORCH)}
    found = known.get(name.lower())
    if found is None:
        if name in UNUSABLE:
            raise OptionError(f"{name} is made of functions or schedulers, not of plain values.", "--schedule cosine")
        raise OptionError(f"There is no schedule {name!r}.", did_you_mean(name, known.values()))
    total = epochs * steps
    ends = found != "constant" and found in (*SCHEDULES, "OneCycleLR")
    if not total and (ends or 0 < warmup < 1):
        what = f"the schedule {found!r}" if ends else "a warm-up of a share"
        raise OptionError(
            f"The loader does not say how many batches it has, so {what} has no end.", "--schedule constant"
        )
    first = _warmup_steps(warmup, total, found)
    if found in SCHEDULES:
        if params:
            raise OptionError(f"The schedule {found!r} takes no arguments.", "Drop --schedule-set.")
        return ProgressSchedule(optimizer, SCHEDULES[found], total, first)
    return _by_torch(optimizer, found, params, total - first if total else 0, epochs, first, mode)


def _warmup_steps(warmup: float, total: int, name: str) -> int:
    if not warmup:
        return 0
    if name in RISING:
        raise OptionError(f"The schedule {name!r} begins with a rise of its own.", "--schedule cosine, or no --warmup")
    steps = max(1, round(warmup * total)) if warmup < 1 else int(warmup)
    if total and steps >= total:
        raise OptionError(f"The warm-up of {steps} steps is as long as the training, {total} steps.", "--warmup 0.05")
    return steps


def _by_torch(
    optimizer: Optimizer, name: str, params: Mapping[str, Any], total: int, epochs: int, warmup: int, mode: str
) -> LRSchedule:
    kind = "ReduceLROnPlateau" if name == PLATEAU else name
    accepted = dict(inspect.signature(getattr(lr_scheduler, kind)).parameters)
    for own in ("optimizer", "last_epoch"):
        accepted.pop(own, None)
    unknown = next((key for key in params if key not in accepted), None)
    if unknown is not None:
        raise OptionError(f"{kind} has no argument {unknown!r}.", did_you_mean(unknown, accepted))
    rates = [group["lr"] for group in optimizer.inner.param_groups]
    usual: dict[str, dict[str, Any]] = {
        "ReduceLROnPlateau": {"mode": mode},
        "CosineAnnealingLR": {"T_max": epochs},
        "OneCycleLR": {"max_lr": rates, "total_steps": total},
        "CyclicLR": {"max_lr": rates},
    }
    given = usual.get(kind, {}) | dict(params)
    missing = next((key for key, p in accepted.items() if p.default is p.empty and key not in given), None)
    if missing is not None:
        raise OptionError(f"{kind} needs {missing}.", f"--schedule-set {missing}=…")
    if kind == "OneCycleLR":
        if {"epochs", "steps_per_epoch"} & params.keys():
            raise OptionError("OneCycleLR gets its number of steps from the training.", "Drop epochs, steps_per_epoch.")
        if not isinstance(given["total_steps"], int) or given["total_steps"] < total:
            raise OptionError(
                f"OneCycleLR ends after total_steps={given['total_steps']!r}; the training has {total} steps.",
                f"--schedule-set total_steps={total}, or none.",
            )
    try:
        _rehearse(kind, given, rates)
        return TorchSchedule(optimizer, kind, given, warmup)
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        told = ", ".join(f"{key}={value!r}" for key, value in params.items())
        raise OptionError(f"{kind} cannot be made with {told or 'this optimizer'}: {error}", "") from None


def _rehearse(kind: str, params: Mapping[str, Any], rates: list[float]) -> None:
    """Let a scheduler take a few steps on weights of no use: some check their arguments only then."""
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    scheduler: Any = getattr(lr_scheduler, kind)(optimizer, **params)
    for _ in range(min(3, params.get("total_steps", 3))):
        optimizer.step()
        if kind == "ReduceLROnPlateau":
            scheduler.step(1.0)
        else:
            scheduler.step()
    if not all(isinstance(group["lr"], (int, float)) for group in optimizer.param_groups):
        raise TypeError("the learning rate is not a number")
