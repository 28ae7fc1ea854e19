"""One training step with nothing around the arithmetic: forward, loss, backward, update.

A small network's step is mostly calls, not arithmetic, so the calls are few: the gradients lie in one
flat buffer (see `Optimizer`), and the checks that ``Tensor.backward`` makes each time are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.core.compat.optimizers import backward_engine
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.training.steps.optimizers import Optimizer


class TrainStep:
    """``step(inputs, target)`` takes one step on a batch and returns its loss before the step.

    An object and no closure: a traceback keeps the functions it came through alive, and with a closure the network.

    Parameters
    ----------
    net : nn.Module
        In training mode, one with ``members`` answers (n, members, outputs), and each member learns from every row.
    optimizer : Optimizer
        Over the parameters of ``net``. One that searches along a line may evaluate the loss several times.
    loss_of : Loss
    deferred : bool
        Whether the loss stays on its device, so that no one waits for it: the answer is then a tensor of one number.
    """

    def __init__(self, net: nn.Module, optimizer: Optimizer, loss_of: Loss, *, deferred: bool = False) -> None:
        self._net = net
        self._loss_of = loss_of
        self._ensemble = hasattr(net, "members")
        self._backward = make_backward()
        self._zero = optimizer.zero
        self._update = optimizer.step
        self._search: Any = optimizer.inner.step if optimizer.needs_closure else None
        self._told: Callable[[Tensor], Any] = Tensor.detach if deferred and self._search is None else Tensor.item

    def __call__(self, inputs: tuple[Tensor, ...], target: Tensor) -> float | Tensor:
        """Forward, loss, backward, update."""
        if self._search is not None:
            found: Any = self._search(partial(self._gradients, inputs, target))
            return float(found)
        loss = self._gradients(inputs, target)
        self._update()
        return loss

    def _gradients(self, inputs: tuple[Tensor, ...], target: Tensor) -> float | Tensor:
        self._zero()
        loss = self._loss(inputs, target)
        self._backward(loss)
        found: float | Tensor = self._told(loss)
        return found

    def _loss(self, inputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        outputs = self._net(*inputs)
        if self._ensemble and outputs.dim() == 3:
            target = target.repeat_interleave(outputs.shape[1], dim=0)
            outputs = outputs.flatten(0, 1)
        return self._loss_of(outputs, target)


def loss_on(
    net: Callable[..., Tensor],
    loss_of: Loss,
    inputs: tuple[Tensor, ...],
    target: Tensor,
    *,
    ensemble: bool,
    autocast: Any,
    widen: bool,
) -> Tensor:
    """Loss of a batch as `TrainStep` and `FullStep` compute it, for a graph of it."""
    with autocast:
        outputs = net(*inputs)
        if widen:
            outputs = outputs.float()
        if ensemble and outputs.dim() == 3:
            target = target.repeat_interleave(outputs.shape[1], dim=0)
            outputs = outputs.flatten(0, 1)
        return loss_of(outputs, target)


def make_backward() -> Callable[[Tensor], None]:
    """``loss.backward()`` of a loss of one number, straight to the engine that torch would call in the end."""
    run = backward_engine()
    one = torch.ones(())
    if run is None:
        return Tensor.backward

    def backward(loss: Tensor) -> None:
        if type(loss) is Tensor and loss.dtype is one.dtype and loss.device == one.device and not loss.dim():
            run((loss,), (one,), False, False, (), True, True)
        else:
            loss.backward()  # type: ignore[no-untyped-call]

    return backward
