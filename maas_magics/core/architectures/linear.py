"""Linear and logistic regression, trained as a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures
from maas_magics.core.tasks.base import Task


class Linear(nn.Module):
    """One weighted sum for each output; a category has a weight for each of its values.

    Parameters
    ----------
    features : NetworkInputs
        The columns of the rows.
    outputs : int
        Numbers that the network puts out for a row.
    task : Task
        The fitted target; not used.
    """

    def __init__(self, features: NetworkInputs, outputs: int, *, task: Task) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features.numeric, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.tables = nn.ModuleList(nn.Embedding(size, outputs, padding_idx=0) for size in features.categories)
        for table in self.tables:
            nn.init.zeros_(table.weight)  # type: ignore[arg-type]

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Outputs, float32 (n, outputs).

        Parameters
        ----------
        numeric : Tensor, float32 (n, p)
            Numbers, standardised.
        categorical : Tensor, int64 (n, c)
            Code of each category; 0 for missing or unknown.
        """
        total = torch.addmm(self.bias, numeric, self.weight)
        for i, table in enumerate(self.tables):
            total = total + table(categorical[:, i])
        return total


def recipe(rows: int, task: Task) -> Recipe:
    """Adam under a cosine, some 2,000 steps at least.

    Parameters
    ----------
    rows : int
        Training rows.
    task : Task
        The fitted target; not used.
    """
    batch_size = 32 if rows < 2_000 else 256
    steps = max(1, rows // batch_size)
    return Recipe(
        lr=0.02,
        schedule="cosine",
        batch_size=batch_size,
        epochs=min(200, max(20, 2_000 // steps)),
        weight_decay=1e-4,
        optimizer="AdamW",
    )


architectures.register("linear")(Architecture("tabular", Linear, recipe, suits={"table": 0, "pictures": 0}, cost=1))
