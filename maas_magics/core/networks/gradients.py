"""Modules that take gradients while they answer, as of an energy by its places."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.core.networks.modules import preserve_rng


def keep_gradients(net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Let a module that cannot answer in torch's inference mode leave it while it answers.

    Held-out rows and predictions run in that mode, where no gradient can be had, not even under
    ``torch.enable_grad()``.

    Parameters
    ----------
    net : nn.Module
        In eval mode. Its class is changed where it must be.
    inputs : tuple of Tensor
        Some rows that it has answered.
    """
    try:
        with preserve_rng(), torch.inference_mode():
            net(*inputs)
        return
    except Exception:  # whatever the module raises
        kind: Any = type(net)

    def forward(self: Any, *arrays: Any, **named: Any) -> Any:
        if not torch.is_inference_mode_enabled():
            return kind.forward(self, *arrays, **named)
        with torch.inference_mode(False), torch.no_grad():
            return kind.forward(self, *map(_usual, arrays), **{key: _usual(value) for key, value in named.items()})

    of = getattr(kind, "of", kind)
    net.__class__ = type(kind.__name__, (kind,), {"forward": forward, "of": of, "__module__": kind.__module__})


def _usual(value: Any) -> Any:
    """A tensor that may take part in gradients."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value
