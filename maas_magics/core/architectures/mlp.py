"""The default network for tables: MLPs that share their weights (TabM) on piecewise-linear embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures, widths
from maas_magics.core.networks.layers import PiecewiseLinearEmbedding, SharedLinear
from maas_magics.core.tasks.base import Task


class MLP(nn.Module):
    """TabM: ``members`` MLPs trained side by side, answering with their mean.

    Parameters
    ----------
    features
        The columns.
    outputs
        One for each class, label or quantity; of two classes, one for both.
    task
        What is learnt.
    hidden
        Widths of the hidden layers; one number is one layer.
    members
        Size of the ensemble.
    dropout
        Probability of dropping a hidden unit.
    embedding, bins
        Width of each number's embedding (None: ``512 // numeric`` within 4 to 12) and its number of quantile bins.
    onehot, category
        Columns of at most ``onehot`` known categories are one-hot; the others get an embedding of width ``category``.
    """

    def __init__(
        self,
        features: NetworkInputs,
        outputs: int,
        *,
        task: Task,
        hidden: int | tuple[int, ...] = (192, 192),
        members: int = 8,
        dropout: float = 0.1,
        embedding: int | None = None,
        bins: int = 24,
        onehot: int = 9,
        category: int = 8,
    ) -> None:
        super().__init__()
        self.features, self.task, self.members = features, task, members
        self.dropout, self.onehot = dropout, onehot
        if embedding is None:
            embedding = min(12, max(4, 512 // max(1, features.numeric)))
        self.numeric = PiecewiseLinearEmbedding(features.numeric, embedding, bins) if features.numeric else None
        self.categorical = nn.ModuleDict()
        chunks = [embedding] * features.numeric
        for column, count in enumerate(features.categories):
            if count - 1 > onehot:
                table = nn.Embedding(count, category)
                nn.init.zeros_(table.weight[0])  # missing or unseen: the centre
                self.categorical[str(column)] = table
            chunks.append(category if count - 1 > onehot else count - 1)
        width = sum(chunks)
        self.layers = nn.ModuleList()
        for index, size in enumerate(widths(hidden)):
            self.layers.append(SharedLinear(width, size, members, tuple(chunks) if index == 0 else None))
            width = size
        bound = 1 / math.sqrt(max(width, 1))
        self.head = nn.Parameter(torch.empty(members, width, outputs).uniform_(-bound, bound))
        self.head_bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def initialise(self, numeric: Tensor, categorical: Tensor) -> None:
        """Place the bins of the numeric columns on the training rows."""
        if self.numeric is not None:
            self.numeric.initialise(numeric)

    def _inputs(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        parts = [] if self.numeric is None else [self.numeric(numeric)]
        for column, count in enumerate(self.features.categories):
            codes = categorical[:, column]
            if str(column) in self.categorical:
                parts.append(self.categorical[str(column)](codes))
            elif count > 1:
                known = torch.arange(1, count, device=codes.device)
                parts.append((codes.unsqueeze(1) == known).to(self.head.dtype))  # code 0 is all zeros
        return torch.cat(parts, 1) if parts else self.head.new_zeros(len(numeric), 0)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Return ``[N, members, outputs]`` in training mode and the ensemble's ``[N, outputs]`` in evaluation mode."""
        x = self._inputs(numeric, categorical).unsqueeze(0)
        for layer in self.layers:
            x = F.dropout(layer(x).relu(), self.dropout, self.training)
        answers = torch.baddbmm(self.head_bias, x, self.head)
        if self.training:
            return answers.transpose(0, 1)
        return self.task.mean_outputs(answers)

    def parameter_groups(self) -> list[dict[str, object]]:
        """Weights decay; embeddings, adapters and biases do not.

        For regression the numeric embedding learns four times as fast.
        """
        decay = [self.head, *(layer.weight for layer in self.layers)]
        bins = [] if self.numeric is None else list(self.numeric.parameters())
        ids = {id(parameter) for parameter in (*decay, *bins)}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in ids]
        groups: list[dict[str, object]] = [
            {"params": decay, "lr_factor": 1.0, "weight_decay_factor": 1.0},
            {"params": rest, "lr_factor": 1.0, "weight_decay_factor": 0.0},
        ]
        if bins:
            faster = 4.0 if self.task.numeric else 1.0
            groups.append({"params": bins, "lr_factor": faster, "weight_decay_factor": 0.0})
        return groups


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW under a cosine; larger batches and fewer epochs for more rows."""
    batch_size = 32 if rows < 400 else 64 if rows < 1_000 else 128 if rows < 4_000 else 256 if rows < 16_000 else 512
    epochs, patience = (150, 25) if rows < 3_000 else (100, 20) if rows < 16_000 else (64, 16)
    return Recipe(
        optimizer="AdamW",
        lr=2e-3,
        weight_decay=3e-4,
        schedule="cosine",
        batch_size=batch_size,
        epochs=epochs,
        patience=patience,
        clamp=True,
    )


architectures.register("mlp")(Architecture("tabular", MLP, recipe))
