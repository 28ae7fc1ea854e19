"""What networks make of a text, a picture or a sound: one vector a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maas_magics.core.features.port import Port
from maas_magics.core.networks.looks import Looks
from maas_magics.core.networks.padding import before_padding


class TextCNN(nn.Module):
    """The mean of a text's embeddings beside the strongest answer of each filter to some tokens in a row (Kim 2014).

    Parameters
    ----------
    port : Port
        Ids of tokens, int64 (n, tokens).
    width : int
        Of an embedding.
    filters : int
        For each number of tokens.
    tokens : tuple of int
        In a row.
    dropout : float
        Probability of dropping a number of an embedding.
    looks : bool
        Whether embeddings are those of tokens and of how they look; see `Looks`.
    """

    def __init__(
        self,
        port: Port,
        width: int = 128,
        filters: int = 64,
        tokens: tuple[int, ...] = (2, 3, 4),
        dropout: float = 0.3,
        looks: bool = False,
    ) -> None:
        super().__init__()
        self.padding, self.tokens = port.padding, tokens
        self.embedding = nn.Embedding(port.size, width, padding_idx=port.padding)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        with torch.no_grad():
            self.embedding.weight[port.padding].zero_()
        self.looks = Looks(port, width) if looks else None
        self.dropout = nn.Dropout(dropout)
        self.filters = nn.ModuleList(
            nn.Sequential(nn.ConstantPad1d((0, size - 1), 0.0), nn.Conv1d(width, filters, size), nn.ReLU())
            for size in tokens
        )
        self.size = width + filters * len(tokens)
        self.width = width + 2 * filters * len(tokens)

    def states(self, ids: Tensor) -> Tensor:
        """Vectors (n, tokens, width): each token's embedding, and the filters' answers that begin or end there."""
        x = self.dropout(self._embedded(ids)).transpose(1, 2)
        found = [x]
        for size, filters in zip(self.tokens, self.filters, strict=True):
            behind = filters(F.pad(x, (size - 1, 0)))
            found += [behind[:, :, size - 1 :], behind[:, :, : ids.shape[1]]]
        return torch.cat(found, 1).transpose(1, 2)

    def _embedded(self, ids: Tensor) -> Tensor:
        found: Tensor = self.embedding(ids) if self.looks is None else self.looks(ids, self.embedding)
        return found

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (n, size) of ids (n, tokens)."""
        there = before_padding(ids, self.padding).unsqueeze(1)
        x = self.dropout(self._embedded(ids)).transpose(1, 2)
        found = [masked_mean(x, there)]
        found += [filters(x).masked_fill(~there, 0.0).amax(2) for filters in self.filters]
        return torch.cat(found, 1)


class TextTransformer(nn.Module):
    """A small encoder of layers of attention over a text's tokens, and their mean (Vaswani et al. 2017, pre-norm).

    Parameters
    ----------
    port : Port
        Ids of tokens, int64 (n, tokens).
    width, layers, heads : int
    dropout : float
    longest : int
        Tokens that have a place of their own; those behind share the last.
    """

    def __init__(
        self, port: Port, width: int = 128, layers: int = 2, heads: int = 4, dropout: float = 0.1, longest: int = 512
    ) -> None:
        super().__init__()
        self.padding, self.longest = port.padding, longest
        self.embedding = nn.Embedding(port.size, width, padding_idx=port.padding)
        self.places = nn.Embedding(longest, width)
        for table in (self.embedding, self.places):
            nn.init.normal_(table.weight, std=0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.size = self.width = width

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (n, size) of ids (n, tokens)."""
        return masked_mean(self.states(ids).transpose(1, 2), before_padding(ids, self.padding).unsqueeze(1))

    def states(self, ids: Tensor) -> Tensor:
        """Vectors (n, tokens, width) of ids (n, tokens)."""
        there = before_padding(ids, self.padding)
        place = torch.arange(ids.shape[1], device=ids.device).clamp(max=self.longest - 1)
        x = self.embedding(ids) + self.places(place)
        # Attention over nothing has no mean: of a text without tokens the first place is looked at.
        hidden = ~there & (place > 0)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=hidden)
        normed: Tensor = self.norm(x)
        return normed


class ConvolutionalEncoder(nn.Module):
    """Stages of two convolutions, each of half the size and twice the channels, and the mean of what is left.

    Residual where sizes allow, as He et al. (2016); batch normalisation after each convolution.

    Parameters
    ----------
    channels : int
        Of the input (n, channels, height, width).
    widths : tuple of int
        Channels of each stage.
    """

    def __init__(self, channels: int, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for width in widths:
            self.stages.append(_Stage(channels, width))
            channels = width
        self.size = channels

    def forward(self, pictures: Tensor) -> Tensor:
        """Vectors (n, size) of pictures (n, channels, height, width)."""
        return self.maps(pictures).mean((2, 3))

    def maps(self, pictures: Tensor) -> Tensor:
        """What is left of pictures (n, channels, height, width) behind the stages, (n, size, height, width)."""
        for stage in self.stages:
            pictures = stage(pictures)
        return pictures


class _Stage(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))
        self.short = nn.Conv2d(channels, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(y)) + self.short(x[:, :, ::2, ::2]))


class SoundEncoder(nn.Module):
    """Convolutions over a mel spectrogram, as over a picture.

    Where the port is ``banded``, each band's mean over time is taken off first, which is mostly what a voice and a room
    add (cepstral mean normalisation, Atal 1974), and stands beside the result; and only frames are averaged: a pitch
    that rises is not one that falls.

    Parameters
    ----------
    port : Port
        A mel spectrogram (bands, frames).
    widths : tuple of int
        Channels of each stage.
    """

    def __init__(self, port: Port, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        self.inner = ConvolutionalEncoder(1, widths)
        self.banded, self.size = port.banded, self.inner.size
        if port.banded:
            bands = port.shape[0]
            for _ in widths:
                bands = (bands + 1) // 2
            self.size = self.inner.size * bands + port.shape[0]

    def forward(self, mel: Tensor) -> Tensor:
        """Vectors (n, size) of mel spectrograms (n, bands, frames)."""
        if not self.banded:
            return cast(Tensor, self.inner(mel.unsqueeze(1)))
        level = mel.mean(2, keepdim=True)
        found = self.inner.maps((mel - level).unsqueeze(1)).mean(3).flatten(1)
        return torch.cat([found, level.squeeze(2)], 1)


class Windowed(nn.Module):
    """The mean of an encoder's vectors of the windows of a text.

    Parameters
    ----------
    inner : nn.Module
        Makes a vector of one window.
    padding : int
        The token id of what is no token; windows of nothing else do not count.
    """

    def __init__(self, inner: nn.Module, padding: int) -> None:
        super().__init__()
        self.inner, self.padding = inner, padding
        self.size = cast(int, inner.size)
        initialise = getattr(inner, "initialise", None)
        if callable(initialise):
            self.initialise = initialise

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (n, size) of ids (n, windows, tokens)."""
        rows, windows, _ = ids.shape
        there = (ids != self.padding).any(2)
        vectors: Tensor = self.inner(ids.flatten(0, 1)).reshape(rows, windows, self.size)
        return masked_mean(vectors.transpose(1, 2), there.unsqueeze(1))


def masked_mean(x: Tensor, there: Tensor) -> Tensor:
    """Mean of (n, width, tokens) over the tokens that are there, bool (n, 1, tokens); zeros where none is."""
    kept = there.to(x.dtype)
    return (x * kept).sum(2) / kept.sum(2).clamp(min=1.0)


def encoder_of(port: Port, text: Callable[[Port], nn.Module] = TextCNN) -> nn.Module:
    """What makes a vector of what comes by a port; of its ``size``."""
    if port.kind == "text":
        return text(port) if len(port.shape) == 1 else Windowed(text(port), port.padding)
    if port.kind == "audio":
        return SoundEncoder(port)
    return ConvolutionalEncoder(port.shape[0])
