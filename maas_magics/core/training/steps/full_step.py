"""A training step with every option of one; `TrainStep` is the lean one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.core.tasks.losses import Loss
from maas_magics.core.training.steps.ema import EMA
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.precision import Precision
from maas_magics.core.training.steps.step import TrainStep


class FullStep(TrainStep):
    """As `TrainStep`, with mixed precision, several batches, a limit of the gradient, an average of the weights.

    Parameters
    ----------
    net, optimizer, loss_of
        As in `TrainStep`.
    precision : Precision, optional
    grouped : bool
        Whether a step gets a group of batches; see `maas_magics.core.batches.accumulate`.
    mass : callable, optional
        From a batch's target to what it counts in the mean of a group; its rows when None.
    clip : float, optional
        Largest norm of the gradient of all weights together.
    average : EMA, optional
    deferred : bool
        As in `TrainStep`.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Optimizer,
        loss_of: Loss,
        *,
        precision: Precision | None = None,
        grouped: bool = False,
        mass: Callable[[Tensor], Tensor] | None = None,
        clip: float | None = None,
        average: EMA | None = None,
        deferred: bool = False,
    ) -> None:
        super().__init__(net, optimizer, loss_of, deferred=deferred)
        self._inner = optimizer.inner
        self._precision, self._grouped, self._mass = precision, grouped, mass
        self._clip, self._average = clip, average
        self._autocast: Any = precision.autocast if precision is not None else nullcontext()
        self._scaler: Any = precision.scaler if precision is not None else None

    def __call__(self, inputs: tuple[Any, ...], target: Tensor) -> float | Tensor:
        """Forward, loss and backward of each batch; one update."""
        if self._search is not None:
            loss: float | Tensor = float(self._search(partial(self._complete, inputs, target)))
        else:
            loss = self._complete(inputs, target)
            if self._scaler is None:
                self._update()
            else:
                self._scaler.step(self._inner)
                self._scaler.update()
        if self._average is not None:
            self._average.update()
        return loss

    def _complete(self, inputs: tuple[Any, ...], target: Tensor) -> float | Tensor:
        """The gradient that the weights are updated by."""
        total = self._joined(self._gradients(inputs, target))
        if self._clip is not None:
            if self._scaler is not None:
                self._scaler.unscale_(self._inner)
            torch.nn.utils.clip_grad_norm_(
                [p for group in self._inner.param_groups for p in group["params"]], self._clip
            )
        return total

    def _gradients(self, inputs: tuple[Any, ...], target: Tensor) -> float | Tensor:
        self._zero()
        batches = inputs if self._grouped else ((inputs, target),)
        parts = zip(batches, self._shares(batches), strict=True)
        losses = []
        for (part, answers), share in parts:  # no comprehension: its frame would keep this step alive in a traceback
            losses.append(self._one(part, answers, share))
        return losses[0] if len(losses) == 1 else sum(losses)

    def _joined(self, loss: float | Tensor) -> float | Tensor:
        """The loss with what others add to it and to the gradient, where there are any."""
        return loss

    def _one(self, inputs: tuple[Tensor, ...], target: Tensor, share: float) -> float | Tensor:
        """Add a batch's gradient; returns its part of the loss."""
        if not share:  # its mean is 0 / 0
            return 0.0
        with self._autocast:
            outputs = self._net(*inputs)
            if self._precision is not None:
                outputs = outputs.float()
            if self._ensemble and outputs.dim() == 3:
                target = target.repeat_interleave(outputs.shape[1], dim=0)
                outputs = outputs.flatten(0, 1)
            loss = self._loss_of(outputs, target)
        if share != 1.0:
            loss = loss * share
        self._backward(loss if self._scaler is None else self._scaler.scale(loss))
        found: float | Tensor = self._told(loss)
        return found

    def _shares(self, batches: tuple[Any, ...]) -> list[float]:
        """What each batch counts in the mean over all rows of a group."""
        if len(batches) == 1:
            return [1.0]
        mass = self._mass
        counts = [len(target) if mass is None else float(mass(target)) for _, target in batches]
        whole = sum(counts)
        return [count / whole for count in counts] if whole else counts
