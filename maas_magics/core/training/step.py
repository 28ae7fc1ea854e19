"""One training step with nothing around the arithmetic: forward, loss, backward, update.

A small network's step is mostly calls, not arithmetic, so the calls are few: the gradients lie in one
flat buffer (see `Optimizer`), and the checks that ``Tensor.backward`` makes each time are left out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from maas_magics.core.training.losses import Loss
from maas_magics.core.training.optimizers import Optimizer

TrainOn = Callable[[tuple[Tensor, ...], Tensor], float]
"""``train_on(inputs, target)`` takes one step on a batch and answers its loss before the step."""


def make_step(net: nn.Module, optimizer: Optimizer, loss_of: Loss) -> TrainOn:
    """The step an optimizer wants: a plain one, or one that may ask for the loss several times.

    Parameters
    ----------
    net : nn.Module
        In training mode, one with ``members`` answers (n, members, outputs), and each member learns from every row.
    optimizer : Optimizer
        Over the parameters of ``net``.
    loss_of : Loss
    """
    ensemble = hasattr(net, "members")
    backward = make_backward()
    zero, update = optimizer.zero, optimizer.step

    def forward(inputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        outputs = net(*inputs)
        if ensemble and outputs.dim() == 3:
            target = target.repeat_interleave(outputs.shape[1], dim=0)
            outputs = outputs.flatten(0, 1)
        return loss_of(outputs, target)

    def plain(inputs: tuple[Tensor, ...], target: Tensor) -> float:
        zero()
        loss = forward(inputs, target)
        backward(loss)
        update()
        return loss.item()

    def searching(inputs: tuple[Tensor, ...], target: Tensor) -> float:
        def closure() -> float:
            zero()
            loss = forward(inputs, target)
            backward(loss)
            return loss.item()

        return float(optimizer.inner.step(closure))

    return searching if optimizer.needs_closure else plain


def make_backward() -> Callable[[Tensor], None]:
    """``loss.backward()`` of a loss of one number, straight to the engine that torch would call in the end."""
    run = torch.autograd.Variable._execution_engine.run_backward
    one = torch.ones(())

    def backward(loss: Tensor) -> None:
        if type(loss) is Tensor and loss.dtype is one.dtype and loss.device == one.device and not loss.dim():
            run((loss,), (one,), False, False, (), True, True)
        else:
            loss.backward()  # type: ignore[no-untyped-call]

    return backward
