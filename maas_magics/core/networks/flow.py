"""A transformer over the patches of a noisy picture and the words of its caption: which way the picture lies."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FASTEST = 1_000.0
"""Turns of the fastest of the waves that a time is told by."""


class Block(nn.Module):
    """Attention among all tokens, and a layer for each, scaled and moved by the time (Peebles & Xie 2023).

    Parameters
    ----------
    width, heads : int
        Of a token, and parts of it that attend by themselves.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.of_time = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.of_time.weight)
        nn.init.zeros_(self.of_time.bias)

    def forward(self, x: Tensor, time: Tensor, seen: Tensor) -> Tensor:
        """Tokens, (n, tokens, width).

        Parameters
        ----------
        x : Tensor, shape (n, tokens, width)
        time : Tensor, shape (n, width)
        seen : Tensor, bool, shape (n, 1, 1, tokens)
            Tokens that are there.
        """
        scale1, move1, gate1, scale2, move2, gate2 = self.of_time(time)[:, None].chunk(6, -1)
        h = self.qkv(self.norm1(x) * (1 + scale1) + move1)
        n, tokens, width = x.shape
        query, key, value = h.view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        h = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        x = x + (1 + gate1) * self.joined(h.transpose(1, 2).reshape(n, tokens, width))
        h = self.norm2(x) * (1 + scale2) + move2
        made: Tensor = self.down(nn.functional.gelu(self.up(h)))
        moved: Tensor = x + (1 + gate2) * made
        return moved


class Flow(nn.Module):
    """The velocity from noise to the picture that a caption describes.

    Two digits of 8 × 8 pixels side by side, in pairs that were never seen, came out right after 20 to 40 CPU seconds
    with patches of 4 pixels, and after 60 hardly ever with those of 2. To answer the clean picture instead, from which
    the velocity follows, was slower at first, and no better in the end. A UNet that attends to the words took 40, and
    twice as long for a picture.

    Parameters
    ----------
    shape : tuple of int
        (channels, height, width) of a picture.
    patch : int
        Pixels of the side of a patch; a picture is filled up to whole ones.
    vocabulary, padding, longest : int
        Different tokens of captions, the one behind their end, and tokens of a caption at most.
    width, layers, heads : int
        Of the transformer.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        patch: int,
        vocabulary: int,
        padding: int,
        longest: int,
        width: int,
        layers: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.channels, self.height, self.width = shape
        self.patch, self.padding = patch, padding
        self.rows, self.columns = -(-self.height // patch), -(-self.width // patch)
        numbers = self.channels * patch * patch
        self.enter = nn.Linear(numbers, width)
        self.place = nn.Parameter(torch.randn(self.rows * self.columns, width) * 0.1)
        self.words = nn.Embedding(vocabulary, width)
        self.word_place = nn.Parameter(torch.randn(longest, width) * 0.1)
        nn.init.normal_(self.words.weight, std=0.3)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        waves = torch.exp(torch.linspace(0, math.log(FASTEST), width // 2))
        self.register_buffer("waves", waves, persistent=False)
        self.waves: Tensor
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, numbers)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, numeric: Tensor, codes: Tensor, words: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Velocities, float32 (n, channels × height × width).

        Parameters
        ----------
        numeric, codes : Tensor, shape (n, 0)
            Nothing: columns beside the caption.
        words : Tensor, int64, shape (n, tokens)
            Ids of a caption; padding alone where there is none.
        noisy : Tensor, shape (n, channels, height, width)
        time : Tensor, shape (n, 1)
            From 0, noise, to 1, the picture.
        """
        there = (words != self.padding)[:, None, None, :]
        patches = self.place + self.enter(self._patches(noisy))
        captions = self.words(words) + self.word_place[: words.shape[1]]
        x = torch.cat([patches, captions], 1)
        turns = time * self.waves
        waves = self.time(torch.cat([turns.sin(), turns.cos()], -1))
        count = self.rows * self.columns
        seen = torch.cat([torch.ones_like(there[..., :1]).expand(-1, -1, -1, count), there], -1)
        for block in self.blocks:
            x = block(x, waves, seen)
        return self._picture(self.leave(self.norm(x[:, :count]))).flatten(1)

    def _patches(self, x: Tensor) -> Tensor:
        """Patches of pictures, (n, patches, numbers)."""
        size = self.patch
        down, across = self.rows * size - self.height, self.columns * size - self.width
        if down or across:
            x = nn.functional.pad(x, (0, across, 0, down))
        x = x.view(-1, self.channels, self.rows, size, self.columns, size)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(-1, self.rows * self.columns, self.channels * size * size)

    def _picture(self, x: Tensor) -> Tensor:
        """Pictures of patches, (n, channels, height, width)."""
        size = self.patch
        x = x.view(-1, self.rows, self.columns, self.channels, size, size).permute(0, 3, 1, 4, 2, 5)
        x = x.reshape(-1, self.channels, self.rows * size, self.columns * size)
        return x[:, :, : self.height, : self.width]
