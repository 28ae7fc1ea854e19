"""Base classes of modules that torch keeps to itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn
from torch.nn.modules import batchnorm

_OPEN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_BATCH_NORMS: tuple[type[Any], ...] = (*_OPEN, getattr(batchnorm, "_BatchNorm", _OPEN[0]))
"""Seen in torch 2.6 to 2.13."""

_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_NORMS: tuple[type[Any], ...] = (*_BATCH_NORMS, *_INSTANCE_NORMS, getattr(batchnorm, "_NormBase", _OPEN[0]))
"""Seen in torch 2.6 to 2.13."""


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a module takes statistics over the rows of a batch.

    Private is ``_BatchNorm``, which others derive layers from. Seen in torch 2.6 to 2.13; else torch's own are known.
    """
    return isinstance(module, _BATCH_NORMS)


def is_norm(module: nn.Module) -> bool:
    """Whether a module may keep running statistics: a batch-norm or an instance-norm.

    Private is ``_NormBase``, the base of both. Seen in torch 2.6 to 2.13; else torch's own are known.
    """
    return isinstance(module, _NORMS)


class MovedModule(nn.Module):
    """A module that is notified when its state was moved or converted, in `moved`.

    Private is ``nn.Module._apply``, through which ``to``, ``cuda``, ``half`` and all others go. Seen in torch 2.6 to
    2.13.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.moved()
        return self

    def moved(self) -> None:
        """Called after each."""
