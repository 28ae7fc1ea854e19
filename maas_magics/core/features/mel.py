"""Mel spectrograms in torch, as part of every export."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maas_magics.core.data.arrow import Array

WINDOW = 0.025
"""Seconds of a frame (a Hann window)."""

HOP = 0.010
"""Seconds from one frame to the next."""

FLOOR = 1e-6
"""Power below which nothing is heard."""


class LogMel(nn.Module):
    """The logarithm of a sound's power in bands of the mel scale, standardised for each sound by itself.

    The transform of Fourier is a convolution with cosines and sines, which every format of export has.

    Parameters
    ----------
    rate : int
        Samples a second.
    bands : int
        Bands of the mel scale.
    """

    def __init__(self, rate: int, bands: int) -> None:
        super().__init__()
        self.hop = round(HOP * rate)
        window = round(WINDOW * rate)
        turns = 2 * np.pi * np.outer(np.arange(window // 2 + 1), np.arange(window)) / window
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
        basis = np.concatenate([np.cos(turns) * hann, np.sin(turns) * hann])
        self.register_buffer("basis", torch.tensor(basis[:, None], dtype=torch.float32), persistent=False)
        self.basis: Tensor
        self.register_buffer("bank", torch.tensor(bank(rate, window, bands), dtype=torch.float32), persistent=False)
        self.bank: Tensor

    def forward(self, samples: Tensor) -> Tensor:
        """Float32 (n, bands, frames) of samples (n, length) within −1…1."""
        parts = F.conv1d(samples.unsqueeze(1), self.basis, stride=self.hop)
        half = self.bank.shape[1]
        power = parts[:, :half].square() + parts[:, half:].square()
        found = torch.log(torch.matmul(self.bank, power).clamp(min=FLOOR))
        mean = found.mean((1, 2), keepdim=True)
        spread = (found - mean).square().mean((1, 2), keepdim=True).sqrt()
        return (found - mean) / (spread + 1e-3)


def frames(samples: int, rate: int) -> int:
    """Frames of so many samples."""
    return max(0, samples - round(WINDOW * rate)) // round(HOP * rate) + 1


def bank(rate: int, window: int, bands: int) -> Array:
    """Triangular filters over the frequencies of a frame, (bands, window // 2 + 1), evenly apart in mel.

    Mel as in HTK: 2595 · log10(1 + f / 700).
    """
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    at = np.arange(window // 2 + 1) * rate / window
    up = (at - edges[:-2, None]) / np.diff(edges)[:-1, None]
    down = (edges[2:, None] - at) / np.diff(edges)[1:, None]
    found: Array = np.clip(np.minimum(up, down), 0, None)
    return found
