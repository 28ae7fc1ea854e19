"""Sounds as pretrained networks are given them, in torch, as part of every export."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maas_magics.core.data.arrow import Array

WINDOW, HOP = 400, 160
"""Samples of a frame of Whisper's (a Hann window), and from one to the next, at 16,000 a second."""


def ends(samples: Tensor) -> Tensor:
    """How many samples a sound has before the zeros that it is padded with, int64 (n, 1)."""
    there = (samples != 0).to(torch.int64) * torch.arange(1, samples.shape[1] + 1, device=samples.device)
    return there.amax(1, keepdim=True)


FOURIER = 512
"""Samples of a frame of Kaldi's with the zeros behind it."""


class Standardised(nn.Module):
    """Samples of mean 0 and variance 1 for each sound by itself, as wav2vec 2.0 takes them; padding stays 0."""

    def forward(self, samples: Tensor) -> Tensor:
        """Float32 (n, length) of samples (n, length)."""
        there = torch.arange(samples.shape[1], device=samples.device) < ends(samples)
        many = there.sum(1, keepdim=True).clamp(min=1)
        mean = samples.sum(1, keepdim=True) / many
        away = torch.where(there, samples - mean, 0.0)
        spread = away.square().sum(1, keepdim=True) / many
        return away / torch.sqrt(spread + 1e-7)


class WhisperMel(nn.Module):
    """The log-mel spectrogram of Whisper (Radford et al. 2022): decibels within 80 of the loudest, about −1…1.

    Parameters
    ----------
    bands : int
        Bands of the mel scale.
    rate : int
        Samples a second.
    """

    def __init__(self, bands: int, rate: int) -> None:
        super().__init__()
        turns = 2 * np.pi * np.outer(np.arange(WINDOW // 2 + 1), np.arange(WINDOW)) / WINDOW
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
        basis = np.concatenate([np.cos(turns) * hann, np.sin(turns) * hann])
        self.register_buffer("basis", torch.tensor(basis[:, None], dtype=torch.float32), persistent=False)
        self.basis: Tensor
        self.register_buffer("bank", torch.tensor(slaney_bank(rate, bands), dtype=torch.float32), persistent=False)
        self.bank: Tensor

    def forward(self, samples: Tensor) -> Tensor:
        """Float32 (n, bands, length // 160) of samples (n, length) within −1…1."""
        wide = F.pad(samples.unsqueeze(1), (WINDOW // 2, WINDOW // 2), mode="reflect")
        parts = F.conv1d(wide, self.basis, stride=HOP)[:, :, :-1]
        half = self.bank.shape[1]
        power = parts[:, :half].square() + parts[:, half:].square()
        found = torch.log10(torch.matmul(self.bank, power).clamp(min=1e-10))
        loudest = found.amax((1, 2), keepdim=True)
        return (torch.maximum(found, loudest - 8.0) + 4.0) / 4.0


class KaldiMel(nn.Module):
    """The log-mel spectrogram of Kaldi's ``fbank`` as transformers computes it; 0 behind a sound, then both levelled.

    Each frame loses its mean, then 0.97 of the sample before from each: with the window and the transform of Fourier
    that is one convolution.

    Parameters
    ----------
    bands : int
        Bands of the mel scale.
    rate : int
        Samples a second.
    mean, spread : float
        What is taken off, and what it is divided by.
    """

    def __init__(self, bands: int, rate: int, mean: float, spread: float) -> None:
        super().__init__()
        self.mean, self.spread = mean, spread
        places = np.arange(WINDOW)
        turns = 2 * np.pi * np.outer(np.arange(FOURIER // 2 + 1), places) / FOURIER
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * places / (WINDOW - 1))
        before = np.eye(WINDOW) - 0.97 * np.eye(WINDOW, k=-1)
        before[0, 0] = 1 - 0.97
        ready = hann[:, None] * before @ (np.eye(WINDOW) - 1 / WINDOW)
        basis = np.concatenate([np.cos(turns), np.sin(turns)]) @ ready
        self.register_buffer("basis", torch.tensor(basis[:, None], dtype=torch.float32), persistent=False)
        self.basis: Tensor
        self.register_buffer("bank", torch.tensor(kaldi_bank(rate, bands), dtype=torch.float32), persistent=False)
        self.bank: Tensor

    def forward(self, samples: Tensor) -> Tensor:
        """Float32 (n, frames, bands) of samples (n, length) within −1…1."""
        parts = F.conv1d(samples.unsqueeze(1), self.basis, stride=HOP)
        half = self.bank.shape[1]
        power = parts[:, :half].square() + parts[:, half:].square()
        found = torch.log(torch.matmul(self.bank, power).clamp(min=float(np.finfo(np.float32).eps)))
        frames = torch.div(ends(samples) - WINDOW, HOP, rounding_mode="floor") + 1
        there = torch.arange(found.shape[2], device=samples.device) < frames
        return (torch.where(there.unsqueeze(1), found, 0.0).transpose(1, 2) - self.mean) / self.spread


class RecordingMel(WhisperMel):
    """The same of recordings of several lengths, with a band behind the others: whether a frame is in the recording."""

    def forward(self, samples: Tensor) -> Tensor:
        """Float32 (n, bands + 1, length // 160) of samples (n, length), NaN behind the end of a recording."""
        there = ~torch.isnan(samples)
        frames = there[:, ::HOP][:, : samples.shape[1] // HOP]
        made = super().forward(torch.where(there, samples, 0.0))
        return torch.cat([made, frames.to(made.dtype).unsqueeze(1)], 1)


def slaney_bank(rate: int, bands: int) -> Array:
    """Triangular filters of equal area, (bands, frequencies of a frame), as Slaney's Auditory Toolbox places them.

    Its mel is linear to 1,000 Hz, 200/3 Hz each, and logarithmic above, 27 to a factor of 6.4.
    """
    step = np.log(6.4) / 27
    top = 15 + np.log(rate / 2 / 1000) / step if rate > 2000 else rate / 2 * 3 / 200
    mel = np.linspace(0, top, bands + 2)
    edges = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (mel - 15)))
    at = np.arange(WINDOW // 2 + 1) * rate / WINDOW
    up = (at - edges[:-2, None]) / np.diff(edges)[:-1, None]
    down = (edges[2:, None] - at) / np.diff(edges)[1:, None]
    found: Array = np.clip(np.minimum(up, down), 0, None) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return found


def kaldi_bank(rate: int, bands: int) -> Array:
    """Triangular filters, (bands, frequencies of a frame), triangles of Kaldi's mel scale from 20 Hz up.

    Mel is 1127 · ln(1 + f / 700).
    """

    def mel(frequency: Array) -> Array:
        return np.asarray(1127 * np.log(1 + frequency / 700))

    low, high = mel(np.array([20.0, rate // 2])).tolist()
    edges = np.linspace(low, high, bands + 2)
    at = mel(np.arange(FOURIER // 2 + 1) * rate / FOURIER)
    up = (at - edges[:-2, None]) / np.diff(edges)[:-1, None]
    down = (edges[2:, None] - at) / np.diff(edges)[1:, None]
    found: Array = np.clip(np.minimum(up, down), 0, None)
    return found
