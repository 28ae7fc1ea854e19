"""Pictures with noise, and the way from it back to them: what a network that draws pictures learns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DROPPED = 0.1
"""Share of the captions that are left out in training: guidance takes the difference (Ho & Salimans 2022)."""

MEAN, SPREAD = -0.4, 1.0
"""Of the times' logits: most of what is learnt is learnt at the noisier half (Esser et al. 2024)."""

MEASURED = 1_024
"""Noisy pictures at least by which a network is measured, where there are fewer held-out ones."""


Noisy = tuple[tuple[Tensor, ...], Tensor]
"""Inputs of a network, and the velocities that it learns."""


@dataclass(frozen=True)
class Captioned:
    """Captions and pictures of some rows.

    Attributes
    ----------
    words : Tensor, int64, shape (n, tokens)
        Ids of the captions.
    pictures : Tensor, uint8, shape (n, channels, height, width)
    padding : int
        Id behind the end of a caption.
    """

    words: Tensor
    pictures: Tensor
    padding: int

    def __len__(self) -> int:
        return len(self.pictures)

    def to(self, device: torch.device) -> Captioned:
        """The same on a device."""
        return Captioned(self.words.to(device), self.pictures.to(device), self.padding)

    def noised(self, rows: Tensor, seed: int, dropped: float = DROPPED) -> Noisy:
        """What a network gets of some rows, with noise and times by a seed, and the velocities that it learns.

        Parameters
        ----------
        rows : Tensor, int64
            Their places.
        seed : int
            The same noise for the same seed and number of rows.
        dropped : float
            Share of captions that are left out.
        """
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(rows), *self.pictures.shape[1:], generator=random)
        times = torch.sigmoid(MEAN + SPREAD * torch.randn(len(rows), generator=random))
        left_out = torch.rand(len(rows), generator=random) < dropped
        return self._mixed(rows, noise, times, left_out)

    def measured(self, seed: int) -> Noisy:
        """The same of all rows, several times where they are few, at times spread evenly over the likely ones."""
        rows = torch.arange(len(self)).repeat(max(1, -(-MEASURED // max(len(self), 1))))
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(rows), *self.pictures.shape[1:], generator=random)
        shares = (torch.randperm(len(rows), generator=random) + 0.5) / len(rows)
        times = torch.sigmoid(MEAN + SPREAD * torch.special.ndtri(shares.double()).float())
        return self._mixed(rows, noise, times, torch.zeros(len(rows), dtype=torch.bool))

    def _mixed(self, rows: Tensor, noise: Tensor, times: Tensor, left_out: Tensor) -> Noisy:
        device = self.pictures.device
        rows, noise, times = rows.to(device), noise.to(device), times.to(device)
        clean = self.pictures.index_select(0, rows).float() / 127.5 - 1
        words = self.words.index_select(0, rows)
        words = torch.where(left_out.to(device)[:, None], torch.full_like(words, self.padding), words)
        share = times[:, None, None, None]
        nothing = torch.zeros(len(rows), 0, device=device)
        inputs = nothing, nothing.long(), words, share * clean + (1 - share) * noise, times[:, None]
        return inputs, (clean - noise).flatten(1)
