"""Layers of the networks for tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PiecewiseLinearEmbedding(nn.Module):
    r"""Embed each number with its position in the quantile bins of its own feature.

    With edges :math:`b_0 < \dots < b_T` of a feature, the piecewise-linear encoding (Gorishniy et al., "On Embeddings
    for Numerical Features in Tabular Deep Learning", NeurIPS 2022, eq. 1) clamped at both ends is

    .. math:: \mathrm{PLE}_t(x) = \min(1, \max(0, (x - b_{t-1}) / (b_t - b_{t-1})))

    and the embedding is :math:`e(x) = u x + v + W\,\mathrm{PLE}(x)`. ``W`` starts at zero (as in version "B" of the
    authors' package), so that training starts from a linear embedding and bends it where the data say so.

    Parameters
    ----------
    features
        Number of columns.
    size
        Width of each embedding.
    bins
        Number of bins ``T``; features with fewer distinct quantiles leave the last ones unused (always 0).
    """

    lower: Tensor
    slope: Tensor

    def __init__(self, features: int, size: int, bins: int) -> None:
        super().__init__()
        self.register_buffer("lower", torch.zeros(features, bins))
        self.register_buffer("slope", torch.zeros(features, bins))
        self.linear = nn.Parameter(torch.empty(features, 1, size).uniform_(-1, 1))
        self.bias = nn.Parameter(torch.empty(features, 1, size).uniform_(-1, 1))
        self.weight = nn.Parameter(torch.zeros(features, bins, size))

    @torch.no_grad()
    def initialise(self, values: Tensor, limit: int = 20_000) -> None:
        """Place the bin edges at the quantiles of the training rows ``values`` of shape ``[N, features]``."""
        bins = self.lower.shape[1]
        self.lower.zero_()
        self.slope.zero_()
        step = -(-len(values) // limit)
        grid = torch.linspace(0, 1, bins + 1, dtype=values.dtype, device=values.device)
        for feature, quantiles in enumerate(torch.quantile(values[::step], grid, dim=0).T):
            edges = torch.unique(quantiles)
            count = len(edges) - 1
            self.lower[feature, :count] = edges[:-1]
            self.slope[feature, :count] = 1 / (edges[1:] - edges[:-1])

    def forward(self, values: Tensor) -> Tensor:
        """Map ``[N, features]`` to ``[N, features * size]``."""
        columns = values.unsqueeze(-1)
        encoding = ((columns - self.lower) * self.slope).clamp(0, 1).transpose(0, 1)
        embedded = torch.baddbmm(self.bias, encoding, self.weight) + columns.transpose(0, 1) * self.linear
        return embedded.transpose(0, 1).flatten(1)


class SharedLinear(nn.Module):
    r"""``members`` linear layers with one weight and a rank-one adapter each (BatchEnsemble).

    .. math:: l_k(x_k) = s_k \odot \big(W (r_k \odot x_k)\big) + b_k

    (Wen et al. 2020, eq. 5; TabM, Gorishniy et al., ICLR 2025, section 3.3.) TabM starts every adapter at one but the
    very first ``r``, which is random and makes the members differ.

    Parameters
    ----------
    inputs, outputs, members
        Sizes.
    chunks
        Widths of the blocks of inputs that share one random :math:`r_k \sim N(0, 1)`, one block a feature.
        None for ones.
    """

    def __init__(self, inputs: int, outputs: int, members: int, chunks: tuple[int, ...] | None = None) -> None:
        super().__init__()
        bound = 1 / math.sqrt(max(inputs, 1))
        self.weight = nn.Parameter(torch.empty(inputs, outputs).uniform_(-bound, bound))
        r = torch.ones(members, 1, inputs)
        if chunks is not None:
            r = torch.randn(members, 1, len(chunks)).repeat_interleave(torch.tensor(chunks, dtype=torch.long), dim=2)
        self.r = nn.Parameter(r)
        self.s = nn.Parameter(torch.ones(members, 1, outputs))
        self.bias = nn.Parameter(torch.empty(1, 1, outputs).uniform_(-bound, bound).repeat(members, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[members or 1, N, inputs]`` to ``[members, N, outputs]``."""
        return torch.addcmul(self.bias, (x * self.r) @ self.weight, self.s)


class BlockLinear(nn.Module):
    r"""``members`` linear layers on the same rows, with one weight and their own weighing of blocks of inputs.

    .. math:: l_k(x) = s_k \odot \sum_g r_{kg} W_g x_g + b_k

    A `SharedLinear` whose :math:`r_k` is the same number for all inputs of a block: the products :math:`W_g x_g` are
    then those of all members, which leaves one product of the whole weight where that layer takes one a member.

    Parameters
    ----------
    chunks
        Widths of the columns among the inputs; neighbours share a block where there are more columns than ``blocks``.
    outputs, members
        Sizes.
    blocks
        Most blocks. The members' answers are made of one ``[N, outputs]`` for each, so many of them cost more than the
        products do.
    """

    def __init__(self, chunks: Sequence[int], outputs: int, members: int, blocks: int = 16) -> None:
        super().__init__()
        chunks = [width for width in chunks if width]
        each = -(-len(chunks) // blocks)
        self.sizes = [sum(chunks[start : start + each]) for start in range(0, len(chunks), max(1, each))]
        self.members = members
        bound = 1 / math.sqrt(max(sum(chunks), 1))
        self.weight = nn.Parameter(torch.empty(sum(chunks), outputs).uniform_(-bound, bound))
        self.r = nn.Parameter(torch.randn(members, len(self.sizes)))
        self.s = nn.Parameter(torch.ones(members, 1, outputs))
        self.bias = nn.Parameter(torch.empty(1, 1, outputs).uniform_(-bound, bound).repeat(members, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, inputs]`` to ``[members, N, outputs]``."""
        if not self.sizes:
            return self.bias.expand(-1, len(x), -1)
        blocks = zip(torch.split(x, self.sizes, 1), torch.split(self.weight, self.sizes), strict=True)
        products = torch.stack([part @ weight for part, weight in blocks])
        weighed = (self.r @ products.flatten(1)).reshape(self.r.shape[0], -1, self.weight.shape[1])
        return torch.addcmul(self.bias, weighed, self.s)
