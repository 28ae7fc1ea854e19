"""A weight for each token and for each two tokens in a row, wherever they stand in a text."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from maas_magics.core.features.port import Port
from maas_magics.core.networks.padding import before_padding

STEP, OTHER = 1_000_003, 8_191
"""Factors that two ids are mixed by; their products stay far below what int64 holds."""


class Bag(nn.Module):
    """Weighted sum of what occurs in a text, over the root of how much there is (as of vectors of length 1).

    Pairs of tokens share a table of a fixed size by a hash of their ids (Weinberger et al. 2009): two pairs that meet
    there share a weight.

    Parameters
    ----------
    port : Port
        Ids of tokens, int64 (n, tokens), or those of windows of a text, (n, windows, tokens).
    outputs : int
    pairs : int
        Weights for pairs of tokens; 0 for none.
    """

    def __init__(self, port: Port, outputs: int, pairs: int) -> None:
        super().__init__()
        self.padding, self.pairs, self.windowed = port.padding, pairs, len(port.shape) > 1
        self.one = nn.Embedding(port.size, outputs, padding_idx=port.padding)
        self.two = nn.Embedding(pairs + 1, outputs, padding_idx=0) if pairs else None
        for table in (self.one, self.two):
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
        return cast(Tensor, total / count.clamp(min=1).to(total.dtype).sqrt())


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
    """

    def __init__(self, columns: nn.Module, ports: tuple[Port, ...], outputs: int, pairs: int) -> None:
        super().__init__()
        self.columns = columns
        self.settled = {"pairs": pairs}
        self.bags = nn.ModuleList(Bag(port, outputs, pairs) for port in ports)

    def forward(self, numeric: Tensor, categorical: Tensor, *texts: Tensor) -> Tensor:
        """Outputs, float32 (n, outputs)."""
        total: Tensor = self.columns(numeric, categorical)
        for bag, ids in zip(self.bags, texts, strict=True):
            total = total + bag(ids)
        return total
