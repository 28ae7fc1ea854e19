"""Sounds that are varied for training, a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from maas_magics.core.features.draw import Draw


def varied(samples: Tensor, how: Mapping[str, float], draw: Draw) -> Tensor:
    """Sounds that begin earlier or later, are louder or softer, or lie in noise.

    Parameters
    ----------
    samples : Tensor, float32 (n, length)
        Within −1…1.
    how : mapping of str to float
        Some of those of sounds, with their strengths.
    draw : Draw
        Random numbers for these rows.
    """
    x = samples
    if "shift" in how:
        length = x.shape[1]
        by = (draw.within("shift", how["shift"]) * length).round().long()
        at = torch.arange(length) - by[:, None]
        x = torch.where((at >= 0) & (at < length), x.gather(1, at.clamp(0, max(0, length - 1))), 0.0)
    if "noise" in how:
        loud = x.square().mean(1, keepdim=True).sqrt() * how["noise"] * draw.uniform("loudness")
        x = x + loud * (draw.uniform("noise", x.shape[1]) - 0.5) * 12**0.5
    if "gain" in how:
        x = x * 10 ** (draw.within("gain", how["gain"])[:, None] / 20)
    return x


def masked(spectrogram: Tensor, how: Mapping[str, float], draw: Draw) -> Tensor:
    """Spectrograms with some frames and some bands at their mean (Park et al. 2019, SpecAugment).

    Parameters
    ----------
    spectrogram : Tensor, float32 (n, bands, frames)
        Standardised, so that the mean is 0.
    how : mapping of str to float
        ``mask``: the largest share of frames, and of bands.
    draw : Draw
        Random numbers for these rows.
    """
    if "mask" not in how:
        return spectrogram
    for axis, name in ((1, "bands"), (2, "frames")):
        size = spectrogram.shape[axis]
        long = draw.uniform(f"long {name}")[:, 0] * how["mask"] * size
        start = draw.uniform(name)[:, 0] * (size - long)
        at = torch.arange(size) + 0.5
        hidden = (at >= start[:, None]) & (at < (start + long)[:, None])
        spectrogram = spectrogram.masked_fill(hidden.unsqueeze(3 - axis), 0.0)
    return spectrogram
