"""Modules that change the rows that they are handed, as ``x.div_(255)`` in a ``forward`` does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.core.networks.modules import copied, preserve_rng


def keep_rows(net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Let a module that changes what it is handed get copies, so that rows are the same each time it is called.

    Parameters
    ----------
    net : nn.Module
        In eval mode. Its class is changed where it must be, so that it does so wherever it is called or exported.
    inputs : tuple of Tensor
        Some rows; they stay as they are.
    """
    if not (_changes(net, inputs) or _changes(_learning(net), inputs)):
        return
    kind: Any = type(net)

    def forward(self: Any, *arrays: Any, **named: Any) -> Any:
        return kind.forward(self, *map(_own, arrays), **{key: _own(value) for key, value in named.items()})

    of = getattr(kind, "of", kind)
    net.__class__ = type(kind.__name__, (kind,), {"forward": forward, "of": of, "__module__": kind.__module__})


def own_copies(inputs: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Copies of some rows, for one that may change them."""
    return tuple(map(_own, inputs))


def _own(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _learning(net: nn.Module) -> nn.Module | None:
    """A copy in training mode, whose buffers may change; None where there is none to be had."""
    try:
        return copied(net).train()
    except Exception:  # whatever its parts raise
        return None


def _changes(net: nn.Module | None, inputs: tuple[Tensor, ...]) -> bool:
    """Whether a module leaves other numbers in what it is handed."""
    if net is None:
        return False
    given = own_copies(inputs)
    try:
        with preserve_rng(), torch.no_grad():
            net(*given)
    except Exception:  # whatever the module raises; it may have changed them until there
        pass
    return any(not torch.equal(_bits(x), _bits(before)) for x, before in zip(given, inputs, strict=True))


def _bits(x: Tensor) -> Tensor:
    """Numbers as bytes, in which NaN equals NaN."""
    return x.contiguous().reshape(-1).view(torch.uint8)
