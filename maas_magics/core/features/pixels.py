"""Pictures as a network for pictures gets them, in torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Pixels(nn.Module):
    """Standardises all pixels alike, or those of each channel.

    Parameters
    ----------
    center, scale : sequence of float, (1,) or (channels, 1, 1)
        What is subtracted from the pixels, all or those of a channel, and what they are then multiplied by.
    double : bool
        Whether float32 is too coarse for the pixels as they come.
    """

    def __init__(self, center: Sequence[Any], scale: Sequence[Any], double: bool) -> None:
        super().__init__()
        dtype = torch.float64 if double else torch.float32
        self.register_buffer("center", torch.tensor(center, dtype=dtype), persistent=False)
        self.center: Tensor
        self.register_buffer("scale", torch.tensor(scale, dtype=dtype), persistent=False)
        self.scale: Tensor

    def forward(self, values: Tensor) -> Tensor:
        """Numbers (n, …) to float32 of the same shape."""
        return ((values.to(self.center.dtype) - self.center) * self.scale).to(torch.float32)
