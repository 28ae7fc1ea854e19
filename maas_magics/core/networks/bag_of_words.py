"""A weight for each token, for each two in a row, and for the letters of a token, wherever they stand in a text."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maas_magics.core.features.port import Port
from maas_magics.core.networks.letters import letters_of
from maas_magics.core.networks.padding import before_padding

STEP, OTHER = 1_000_003, 8_191
"""Factors that two ids are mixed by; their products stay far below what int64 holds."""


class Bag(nn.Module):
    """Weighted sum of what occurs in a text, over the root of how much there is (as of vectors of length 1).

    Pairs of tokens share a table of a fixed size by a hash of their ids (Weinberger et al. 2009): two pairs that meet
    there share a weight. So do some letters in a row within a token, whose weights it has beside its own (Bojanowski et
    al. 2017): what a rare word means is seen in others that it has letters in common with.

    Parameters
    ----------
    port : Port
        Ids of tokens, int64 (n, tokens), or those of windows of a text, (n, windows, tokens).
    outputs : int
    pairs : int
        Weights for pairs of tokens; 0 for none.
    letters : int
        Weights for letters in a row; 0 for none.
    """

    def __init__(self, port: Port, outputs: int, pairs: int, letters: int = 0) -> None:
        super().__init__()
        letters = letters if port.tokenizer else 0
        self.padding, self.pairs, self.windowed = port.padding, pairs, len(port.shape) > 1
        self.one = nn.Embedding(port.size, outputs, padding_idx=port.padding)
        self.two = nn.Embedding(pairs + 1, outputs, padding_idx=0) if pairs else None
        self.three = nn.Embedding(letters + 1, outputs, padding_idx=0) if letters else None
        if letters:
            codes = torch.from_numpy(letters_of(port.tokenizer, port.size, letters))
            self.register_buffer("codes", codes, persistent=False)
            self.register_buffer("many", (codes > 0).sum(1).float(), persistent=False)
        for table in (self.one, self.two, self.three):
            if table is not None:
                nn.init.zeros_(table.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Sums, float32 (n, outputs), of ids (n, tokens), or (n, windows, tokens)."""
        there = before_padding(ids, self.padding)
        ids, there = (ids.flatten(1), there.flatten(1)) if self.windowed else (ids, there)
        total, count = self.one(ids).sum(1), there.sum(1, keepdim=True)
        if self.two is not None:
            both = there[:, 1:] & there[:, :-1]
            code = (ids[:, :-1] * STEP + ids[:, 1:] * OTHER) % self.pairs + 1
            total = total + self.two(torch.where(both, code, torch.zeros_like(code))).sum(1)
            count = count + both.sum(1, keepdim=True)
        found = total / count.clamp(min=1).to(total.dtype).sqrt()
        if self.three is not None:
            of_token = self.three(self.codes).sum(1)
            many = cast(Tensor, self.many)[ids].sum(1, keepdim=True)
            found = found + F.embedding(ids, of_token).sum(1) / many.clamp(min=1).sqrt()
        return cast(Tensor, found)


class BagOfWords(nn.Module):
    """Linear or logistic regression on the tokens of texts, beside numbers and categories.

    Parameters
    ----------
    columns : nn.Module
        From numbers and codes (n, p), (n, c) to sums (n, outputs).
    ports : tuple of Port
        Of texts.
    outputs : int
    pairs : int
        Weights for pairs of tokens of a text; 0 for none.
    letters : int
        Weights for letters in a row within a token; 0 for none.
    """

    def __init__(self, columns: nn.Module, ports: tuple[Port, ...], outputs: int, pairs: int, letters: int = 0) -> None:
        super().__init__()
        self.columns = columns
        self.settled = {"pairs": pairs, "letters": letters}
        self.bags = nn.ModuleList(Bag(port, outputs, pairs, letters) for port in ports)

    def forward(self, numeric: Tensor, categorical: Tensor, *texts: Tensor) -> Tensor:
        """Outputs, float32 (n, outputs)."""
        total: Tensor = self.columns(numeric, categorical)
        for bag, ids in zip(self.bags, texts, strict=True):
            total = total + bag(ids)
        return total
