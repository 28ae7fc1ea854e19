"""MLPs that share their weights (TabM) on piecewise-linear embeddings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures, widths
from maas_magics.core.networks.columns import ColumnNetwork
from maas_magics.core.networks.layers import SharedLinear
from maas_magics.core.tasks.base import Task


class MLP(ColumnNetwork):
    """TabM: ``members`` MLPs trained side by side, answering with their mean.

    Parameters
    ----------
    features : NetworkInputs
        The columns.
    outputs : int
        One for each class, label or quantity; of two classes, one for both.
    task : Task
        What is learnt.
    hidden : int or tuple of int
        Widths of the hidden layers; one number is one layer.
    members : int
        Size of the ensemble.
    dropout : float
        Probability of dropping a hidden unit.
    embedding, bins : int or None, int
        Width of each number's embedding (None: ``512 // numeric`` within 4 to 12) and its number of quantile bins.
    onehot, category : int
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
        super().__init__(
            features.numeric, features.categories, embedding=embedding, bins=bins, onehot=onehot, category=category
        )
        self.task, self.members, self.dropout = task, members, dropout
        chunks = self.chunks
        width = sum(chunks)
        self.layers = nn.ModuleList()
        for index, size in enumerate(widths(hidden)):
            self.layers.append(SharedLinear(width, size, members, chunks if index == 0 else None))
            width = size
        bound = 1 / math.sqrt(max(width, 1))
        self.head = nn.Parameter(torch.empty(members, width, outputs).uniform_(-bound, bound))
        self.head_bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Outputs, float32 (n, members, outputs) in training mode, and the ensemble's (n, outputs) in evaluation mode.

        Parameters
        ----------
        numeric : Tensor, float32 (n, p)
            Numbers, standardised; NaN is imputed before.
        categorical : Tensor, int64 (n, c)
            Code of each category; 0 for missing or unknown.
        """
        x = self.inputs(numeric, categorical).unsqueeze(0)
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
        weights: list[Any] = [self.head, *(layer.weight for layer in self.layers)]
        return self.groups(weights, faster=4.0 if self.task.numeric else 1.0)


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW under a cosine; larger batches and fewer epochs for more rows.

    Parameters
    ----------
    rows : int
        Training rows.
    task : Task
        The fitted target.
    """
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
