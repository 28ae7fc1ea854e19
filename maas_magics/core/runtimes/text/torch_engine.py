"""Passes of a decoder in torch, with the keys and values of what it has read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maas_magics.core.data.arrow import Array
from maas_magics.core.networks.decoder import Decoder
from maas_magics.core.runtimes.text.pages import zeros


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
    sparing : bool
        Whether memory is taken for each token where it is read, in small pages, which take a few percent longer; on a
        CPU alone.
    """

    def __init__(self, decoder: Decoder, slots: int, length: int, sparing: bool = False) -> None:
        config = decoder.config
        self.slots, self.length = slots, length
        self._decoder, self._device = decoder, next(decoder.parameters()).device
        shape = (slots, config.groups, length, config.head)
        dtype = next(decoder.parameters()).dtype

        self._sparing = sparing and self._device.type == "cpu"

        def made() -> Tensor:
            """Zeros: what is not read yet has no weight, and 0 times what happens to be in memory may be no number."""
            if not self._sparing:
                return torch.zeros(shape, dtype=dtype, device=self._device)
            return torch.from_numpy(zeros((*shape[:-1], shape[-1] * dtype.itemsize), True, np.uint8)).view(dtype)

        self._keys = [made() for _ in range(config.layers)]
        self._values = [made() for _ in range(config.layers)]
        self.token_bytes = self.bytes_of_token(decoder)
        """Bytes of a token's keys and values."""
        self._filled = [0] * slots
        """Tokens of each slot that were ever written to."""

    @staticmethod
    def bytes_of_token(decoder: Decoder) -> int:
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
        self._fill(slot, end)
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
        for slot, place in zip(slots, places, strict=True):
            self._fill(slot, place + 1)
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
        self._fill(slot, tokens)
        for layer in (*self._keys, *self._values):
            layer[slot, :, :tokens] = layer[source, :, :tokens]

    @property
    def touched(self) -> int:
        """Tokens whose keys and values take memory."""
        return sum(self._filled) if self._sparing else self.slots * self.length

    @torch.inference_mode()
    def save(self, slot: int, start: int, end: int) -> Tensor:
        """A copy of the keys and values of some tokens of a text.

        Parameters
        ----------
        slot : int
            Where the text is.
        start, end : int
            Place of the first of them, and behind the last.
        """
        return torch.stack([layer[slot, :, start:end] for layer in (*self._keys, *self._values)])

    @torch.inference_mode()
    def restore(self, slot: int, start: int, data: Tensor, skip: int, end: int) -> None:
        """Put tokens that were saved into a text.

        Parameters
        ----------
        slot : int
            Where the text is.
        start : int
            Place of the first of them.
        data : Tensor
            What was saved.
        skip, end : int
            Which of its tokens are wanted: from the one to before the other.
        """
        self._fill(slot, start + end)
        for layer, one in zip((*self._keys, *self._values), data, strict=True):
            layer[slot, :, start + skip : start + end] = one[:, skip:end]

    def _fill(self, slot: int, tokens: int) -> None:
        self._filled[slot] = max(self._filled[slot], tokens)
