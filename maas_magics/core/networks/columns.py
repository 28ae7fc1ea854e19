"""What networks for tables begin with: numbers in embeddings, categories one-hot or in embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maas_magics.core.networks.layers import PiecewiseLinearEmbedding


class ColumnNetwork(nn.Module):
    """A network that takes float32 numbers (n, numeric) and int64 codes (n, categories).

    Parameters
    ----------
    numeric : int
        Numbers of a row.
    categories : sequence of int
        Codes of each categorical column, code 0 (missing or unseen) included.
    embedding : int or None
        Width of each number's embedding; None for ``512 // numeric`` within 4 to 12.
    bins : int
        Quantile bins of each number.
    onehot, category : int
        Columns of at most ``onehot`` known categories are one-hot; the others get an embedding of width ``category``.

    Attributes
    ----------
    chunks : tuple of int
        Width that each column has in `inputs`.
    """

    def __init__(
        self, numeric: int, categories: Sequence[int], *, embedding: int | None, bins: int, onehot: int, category: int
    ) -> None:
        super().__init__()
        self._categories = tuple(categories)
        if embedding is None:
            embedding = min(12, max(4, 512 // max(1, numeric)))
        self.numeric = PiecewiseLinearEmbedding(numeric, embedding, bins) if numeric else None
        self.categorical = nn.ModuleDict()
        chunks = [embedding] * numeric
        for column, count in enumerate(self._categories):
            if count - 1 > onehot:
                table = nn.Embedding(count, category)
                nn.init.zeros_(table.weight[0])  # missing or unseen: the centre
                self.categorical[str(column)] = table
            chunks.append(category if count - 1 > onehot else count - 1)
        self.chunks = tuple(chunks)

    def initialise(self, numeric: Tensor, categorical: Tensor) -> None:
        """Place the bins of the numeric columns on the training rows."""
        if self.numeric is not None:
            self.numeric.initialise(numeric)

    def inputs(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """All columns side by side, (n, sum of `chunks`)."""
        parts = [] if self.numeric is None else [self.numeric(numeric)]
        for column, count in enumerate(self._categories):
            codes = categorical[:, column]
            if str(column) in self.categorical:
                parts.append(self.categorical[str(column)](codes))
            elif count > 1:
                known = torch.arange(1, count, device=codes.device)
                parts.append((codes.unsqueeze(1) == known).to(numeric.dtype))  # code 0 is all zeros
        return torch.cat(parts, 1) if parts else numeric.new_zeros(len(numeric), 0)

    def groups(self, decaying: Sequence[Tensor], faster: float) -> list[dict[str, object]]:
        """Parameter groups: some weights decay; embeddings, adapters and biases do not.

        Parameters
        ----------
        decaying : sequence of Tensor
        faster : float
            Times the learning rate at which the numeric embedding learns.
        """
        bins = [] if self.numeric is None else list(self.numeric.parameters())
        ids = {id(parameter) for parameter in (*decaying, *bins)}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in ids]
        groups: list[dict[str, object]] = [
            {"params": list(decaying), "lr_factor": 1.0, "weight_decay_factor": 1.0},
            {"params": rest, "lr_factor": 1.0, "weight_decay_factor": 0.0},
        ]
        if bins:
            groups.append({"params": bins, "lr_factor": faster, "weight_decay_factor": 0.0})
        return groups
