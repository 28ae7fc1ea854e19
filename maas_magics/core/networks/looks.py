"""How tokens look: what tells a name of a word that no training row had."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from maas_magics.core.data.arrow import Array
from maas_magics.core.features.port import Port
from maas_magics.core.features.tokens import tokenizer

SHAPES = 8
"""None, signs, signs that mark names of accounts and topics, with digits, in capitals, with one, without, others."""

BEGINNINGS, ENDINGS = 500, 1_000
"""Vectors that the first two letters, and the last three, share by a hash (CRC-32 of their UTF-8)."""

UNREAD = 0.4
"""Share of the tokens whose own vector is left out in training: what is rare is then read by how it looks."""


def shape_of(token: str) -> int:
    """Number of the shape that a token has; 0 of an empty one."""
    if not any(letter.isalnum() for letter in token):
        return 0 if not token else 2 if token in "@#" else 1
    if any(letter.isdigit() for letter in token):
        return 3
    if token.isupper() and len(token) > 1:
        return 4
    return 5 if token[0].isupper() else 6 if token.islower() else 7


@lru_cache(maxsize=4)
def looks_of(source: str, size: int, padding: int) -> Array:
    """Of each token: its id in lower case, its shape, its beginning and its end, int64 (4, size); zeros of padding.

    Parameters
    ----------
    source : str
        The JSON of a tokenizer.
    size : int
        How many different tokens there are.
    padding : int
        Id of the padding token.
    """
    known = tokenizer(source, 0).get_vocab()
    found = np.zeros((4, size), dtype=np.int64)
    found[0] = np.arange(size)
    for token, place in known.items():
        if place != padding and place < size:
            lower = token.lower()
            begins, ends = (zlib.crc32(part.encode()) for part in (lower[:2], lower[-3:]))
            found[:, place] = known.get(lower, place), shape_of(token), begins % BEGINNINGS + 1, ends % ENDINGS + 1
    return found


class Looks(nn.Module):
    """A vector of each token by its letters, whether large or small, its shape, its beginning and its end.

    Parameters
    ----------
    port : Port
        Ids of tokens of its tokenizer.
    width : int
        Of a vector.
    """

    def __init__(self, port: Port, width: int) -> None:
        super().__init__()
        found = torch.from_numpy(looks_of(port.tokenizer, port.size, port.padding).copy())
        self.register_buffer("found", found, persistent=False)
        self.tables = nn.ModuleList(
            nn.Embedding(size, width, padding_idx=0) for size in (SHAPES, BEGINNINGS + 1, ENDINGS + 1)
        )
        for table in self.tables:
            nn.init.normal_(cast(nn.Embedding, table).weight, std=width**-0.5 / 2)
            with torch.no_grad():
                cast(nn.Embedding, table).weight[0].zero_()

    def forward(self, ids: Tensor, embedding: nn.Embedding) -> Tensor:
        """Vectors (n, tokens, width) of ids (n, tokens); ``embedding`` has those of the tokens themselves."""
        lower, *others = cast(Tensor, self.found)
        x: Tensor = embedding(lower[ids])
        if self.training:
            x = x * (torch.rand(ids.shape, device=ids.device) >= UNREAD).to(x.dtype).unsqueeze(-1)
        for table, each in zip(self.tables, others, strict=True):
            x = x + table(each[ids])
        return x
