"""Pictures that are varied for training, a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from maas_magics.core.features.draw import Draw

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness of a picture (ITU-R BT.601)."""


MOVES = ("flip", "crop", "rotate")
"""Ways that move pixels, and change none."""


def varied(pictures: Tensor, how: Mapping[str, float], draw: Draw, nearest: bool = False) -> Tensor:
    """Pictures that are mirrored, cut, turned, of other colours, or covered in part.

    Parameters
    ----------
    pictures : Tensor, shape (n, channels, height, width)
        Of any type.
    how : mapping of str to float
        Some of those of pictures, with their strengths.
    draw : Draw
        Random numbers for these rows.
    nearest : bool
        Whether each pixel is the nearest one, and not a mean of several.

    Returns
    -------
    Tensor, float32 (n, channels, height, width)
        Within the same range.
    """
    x = pictures.to(torch.float32)
    if "flip" in how:
        x = torch.where((draw.uniform("flip") < how["flip"]).view(-1, 1, 1, 1), x.flip(3), x)
    if "crop" in how or "rotate" in how:
        x = _seen_from_elsewhere(x, how, draw, "nearest" if nearest else "bilinear")
    if "color" in how:
        x = _coloured(x, how["color"], draw)
    if "erase" in how:
        x = _covered(x, how["erase"], draw)
    return x


def _seen_from_elsewhere(x: Tensor, how: Mapping[str, float], draw: Draw, mode: str) -> Tensor:
    """A part of each picture, turned, as large as the picture; what lies outside is mirrored in."""
    height, width = x.shape[2:]
    area = 1 - how.get("crop", 0.0) * draw.uniform("area")[:, 0]
    stretch = torch.exp(draw.within("stretch", math.log(4 / 3) * min(1.0, how.get("crop", 0.0) / 0.3)))
    down, across = (area.sqrt() / stretch.sqrt()).clamp(max=1.0), (area.sqrt() * stretch.sqrt()).clamp(max=1.0)
    angle = draw.within("angle", math.radians(how.get("rotate", 0.0)))
    cos, sin, wide = angle.cos(), angle.sin(), width / height
    left, top = draw.within("left", 1.0) * (1 - across), draw.within("top", 1.0) * (1 - down)
    theta = torch.stack(
        [
            torch.stack([cos * across, -sin * down / wide, left], 1),
            torch.stack([sin * across * wide, cos * down, top], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode=mode, padding_mode="reflection", align_corners=False)


def _coloured(x: Tensor, most: float, draw: Draw) -> Tensor:
    """Brighter or darker, of more or less contrast and colour, within the range that each picture has."""
    lowest, highest = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)

    def by(name: str) -> Tensor:
        return draw.within(name, most).view(-1, 1, 1, 1)

    if x.shape[1] == 3:
        grey = (x * x.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
        x = grey + (x - grey) * (1 + by("saturation"))
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (1 + by("contrast")) + (highest - lowest) * by("brightness") / 2
    return torch.minimum(torch.maximum(x, lowest), highest)


def _covered(x: Tensor, most: float, draw: Draw) -> Tensor:
    """A rectangle of each picture in its mean colour (Zhong et al. 2020, Random Erasing)."""
    height, width = x.shape[2:]
    side = (most * draw.uniform("covered")[:, 0]).sqrt()
    inside = []
    for name, size in (("row", height), ("column", width)):
        long = side * size
        start = draw.uniform(name)[:, 0] * (size - long)
        at = torch.arange(size) + 0.5
        inside.append((at >= start[:, None]) & (at < (start + long)[:, None]))
    there = (inside[0][:, :, None] & inside[1][:, None, :]).unsqueeze(1)
    return torch.where(there, x.mean((2, 3), keepdim=True), x)
