"""A residual network for pictures of any size: one vector a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

LARGE = 96
"""Height or width from which a picture is halved twice before the first stage, as He et al. do with 224."""


class ResidualEncoder(nn.Module):
    """Stages of residual blocks (He et al. 2016), each after the first of half the size, and the mean over places.

    Parameters
    ----------
    shape : tuple of int
        Channels, height and width of a picture.
    widths : sequence of int
        Channels of each stage; stages stop when a side would fall below 2 pixels.
    blocks : int
        Blocks of a stage, of two 3×3 convolutions each.
    """

    def __init__(self, shape: tuple[int, ...], widths: Sequence[int] = (32, 64, 128, 256), blocks: int = 2) -> None:
        super().__init__()
        channels, side = shape[0], min(shape[1:])
        large = side >= LARGE
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 7 if large else 3, 2 if large else 1, 3 if large else 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
            nn.MaxPool2d(2) if large else nn.Identity(),
        )
        side = side // 4 if large else side
        stages: list[nn.Module] = []
        inner = widths[0]
        for place, width in enumerate(widths):
            if place and side < 4:
                break
            side = side // 2 if place else side
            for block in range(blocks):
                stages.append(_Block(inner, width, 2 if place and not block else 1))
                inner = width
        self.stages = nn.Sequential(*stages)
        self.size = inner

    def forward(self, pictures: Tensor) -> Tensor:
        """Vectors (n, size) of pictures (n, channels, height, width)."""
        return cast(Tensor, self.stages(self.stem(pictures))).mean((2, 3))


class _Block(nn.Module):
    def __init__(self, inner: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, width, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        nn.init.zeros_(self.second_norm.weight)  # a block begins as the identity (Goyal et al. 2017)
        self.short: nn.Module = nn.Identity()
        if inner != width or stride > 1:
            self.short = nn.Sequential(nn.Conv2d(inner, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.short(x))
