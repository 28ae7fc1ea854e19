"""Passes of a decoder in torch, with the keys and values of what it has read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maas_magics.core.data.arrow import Array
from maas_magics.core.networks.decoder import Decoder


class TorchEngine:
    """A decoder with slots: each holds the keys and values of one text.

    Parameters
    ----------
    decoder : Decoder
        In eval mode.
    slots : int
        Texts at a time.
    length : int
        Tokens of each, at most.
    """

    def __init__(self, decoder: Decoder, slots: int, length: int) -> None:
        config = decoder.config
        self.slots, self.length = slots, length
        self._decoder, self._device = decoder, next(decoder.parameters()).device
        shape = (slots, config.groups, length, config.head)
        dtype = next(decoder.parameters()).dtype
        # Zeros: what is not read yet has no weight, and 0 times what happens to be in memory may be no number.
        self._keys = [torch.zeros(shape, dtype=dtype, device=self._device) for _ in range(config.layers)]
        self._values = [torch.zeros_like(keys) for keys in self._keys]

    @staticmethod
    def token_bytes(decoder: Decoder) -> int:
        """Bytes of the keys and values of one token."""
        config, dtype = decoder.config, next(decoder.parameters()).dtype
        return 2 * dtype.itemsize * config.layers * config.groups * config.head

    @torch.inference_mode()
    def read(self, slot: int, ids: Sequence[int], start: int) -> Array:
        """Read some tokens of one text, and give the logits of the one that follows, float32 (vocabulary,).

        Parameters
        ----------
        slot : int
            Where the text is.
        ids : sequence of int
            The tokens.
        start : int
            Place of the first of them; those before it were read.
        """
        end = start + len(ids)
        places = torch.arange(start, end, device=self._device)[None]
        mask = None
        if start:
            mask = (torch.arange(end, device=self._device)[None, :] <= places[0][:, None])[None, None]

        def kept(layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            keys, values = self._keys[layer], self._values[layer]
            keys[slot, :, start:end], values[slot, :, start:end] = k[0], v[0]
            return keys[slot : slot + 1, :, :end], values[slot : slot + 1, :, :end]

        hidden = self._decoder(torch.tensor([list(ids)], device=self._device), places, mask, kept)
        return np.asarray(self._decoder.logits(hidden[0, -1]).float().cpu().numpy())

    @torch.inference_mode()
    def step(self, slots: Sequence[int], ids: Sequence[int], places: Sequence[int]) -> Array:
        """Read one token of each of several texts, and give the logits that follow, float32 (texts, vocabulary).

        Parameters
        ----------
        slots, ids, places : sequence of int
            Where each text is, its token, and the token's place.
        """
        rows, at = torch.tensor(slots, device=self._device), torch.tensor(places, device=self._device)
        end = max(places) + 1
        mask = (torch.arange(end, device=self._device)[None, :] <= at[:, None])[:, None, None]
        dense = list(slots) == list(range(len(slots)))

        def kept(layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            keys, values = self._keys[layer], self._values[layer]
            keys[rows, :, at], values[rows, :, at] = k[:, :, 0], v[:, :, 0]
            if dense:
                return keys[: len(slots), :, :end], values[: len(slots), :, :end]
            return keys[rows, :, :end], values[rows, :, :end]

        hidden = self._decoder(torch.tensor(ids, device=self._device)[:, None], at[:, None], mask, kept)
        return np.asarray(self._decoder.logits(hidden[:, 0]).float().cpu().numpy())

    @torch.inference_mode()
    def copy(self, source: int, slot: int, tokens: int) -> None:
        """Give a text the first tokens of another one.

        Parameters
        ----------
        source, slot : int
            Where they are, and where they go.
        tokens : int
            How many.
        """
        for each in (self._keys, self._values):
            for layer in each:
                layer[slot, :, :tokens] = layer[source, :, :tokens]
