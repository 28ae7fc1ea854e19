"""The default network for tables: MLPs that weigh the columns differently and share all else (TabM-mini)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures, widths
from maas_magics.core.networks.columns import ColumnNetwork
from maas_magics.core.networks.layers import BlockLinear
from maas_magics.core.tasks.base import Task

FEWEST_AVERAGED = 15
"""Steps that the average reaches over at least."""


class TabM(ColumnNetwork):
    """TabM-mini: ``members`` MLPs trained side by side, answering with their mean.

    They differ in the first layer, where each weighs the columns by numbers of its own, and in their heads (Gorishniy
    et al., "TabM", ICLR 2025, section 3.3). Of the first layer's products one serves all members; see `BlockLinear`.

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
        Probability of dropping a hidden unit, in all members at once.
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
        hidden: int | tuple[int, ...] = (128, 128),
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
        width, *others = widths(hidden)
        self.first = BlockLinear(self.chunks, width, members)
        self.layers = nn.ModuleList()
        for size in others:
            self.layers.append(nn.Linear(width, size))
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
        x = self._dropped(self.first(self.inputs(numeric, categorical)).relu())
        for layer in self.layers:
            x = self._dropped(layer(x).relu())
        answers = torch.baddbmm(self.head_bias, x, self.head)
        if self.training:
            return answers.transpose(0, 1)
        return self.task.mean_outputs(answers)

    def _dropped(self, x: Tensor) -> Tensor:
        """``[members, N, width]`` with units dropped; drawn once for all members, which costs an eighth of theirs."""
        if not self.training or not self.dropout:
            return x
        return x * nn.functional.dropout(torch.ones_like(x[0]), self.dropout)

    def parameter_groups(self) -> list[dict[str, object]]:
        """Weights decay; embeddings, adapters and biases do not.

        For regression the numeric embedding learns four times as fast.
        """
        weights: list[Any] = [self.head, self.first.weight, *(layer.weight for layer in self.layers)]
        return self.groups(weights, faster=4.0 if self.task.numeric else 1.0)


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW on larger batches for more rows, with an average of the weights over about an epoch.

    The average is as good at any time as weights are at the end of a decay, so the end need not be known
    beforehand: some epochs without a better one show it, fewer where an epoch has more steps.

    Parameters
    ----------
    rows : int
        Training rows.
    task : Task
        The fitted target.
    """
    batch_size = 32 if rows < 400 else 64 if rows < 1_000 else 128 if rows < 4_000 else 256 if rows < 16_000 else 512
    return Recipe(
        optimizer="AdamW",
        lr=3e-3,
        weight_decay=3e-4,
        schedule="linear",
        batch_size=batch_size,
        epochs=100 if rows < 16_000 else 64,
        patience=12 if rows < 1_000 else 8 if rows < 3_000 else 6,
        ema=1 - 1 / max(FEWEST_AVERAGED, rows // batch_size),
        clamp=True,
    )


architectures.register("tabm")(Architecture("tabular", TabM, recipe, suits={"table": 0}, cost=10))
