"""A network that answers each pixel of a picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maas_magics.core.features.pictures import channels_last


class UNet(nn.Module):
    """Stages of convolutions, each on half the size, and back, with what each size saw (Ronneberger et al. 2015).

    Parameters
    ----------
    shape : tuple of int
        (height, width), (channels, height, width) or (height, width, channels).
    classes : int
    channels : sequence of int
        Width of each stage; stages stop when a side would fall below 2 pixels.
    dropout : float
        Probability of dropping a channel of the coarsest stage.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, channels: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.grey = len(shape) == 2
        self.last = len(shape) == 3 and channels_last(shape)
        row = (1, *shape) if self.grey else (shape[2], *shape[:2]) if self.last else shape
        self.sizes: list[tuple[int, int]] = [(row[1], row[2])]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        inner, used = row[0], list[int]()
        for width in channels:
            if used and min(self.sizes[-1]) < 4:
                break
            if used:
                self.sizes.append((self.sizes[-1][0] // 2, self.sizes[-1][1] // 2))
            self.down.append(_block(inner, width))
            used.append(width)
            inner = width
        self.dropout = nn.Dropout2d(dropout)
        for width in reversed(used[:-1]):
            self.up.append(_block(inner + width, width))
            inner = width
        self.head = nn.Conv2d(inner, classes, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Outputs (n, classes, height, width)."""
        image = inputs[-1]
        x = image.unsqueeze(1) if self.grey else image.permute(0, 3, 1, 2) if self.last else image
        seen: list[Tensor] = []
        for place, block in enumerate(self.down):
            if place:
                x = F.max_pool2d(x, 2)
            x = block(x)
            seen.append(x)
        x = self.dropout(x)
        for place, block in zip(reversed(range(len(self.up))), self.up, strict=True):
            x = block(torch.cat([F.interpolate(x, size=self.sizes[place], mode="nearest"), seen[place]], 1))
        out: Tensor = self.head(x)
        return out


def _block(inner: int, outer: int) -> nn.Module:
    layers: list[nn.Module] = []
    for first in (inner, outer):
        layers += [nn.Conv2d(first, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
    return nn.Sequential(*layers)
