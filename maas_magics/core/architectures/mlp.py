"""Stand-in until the tuned network lands."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maas_magics.api.requests import Task
from maas_magics.core.architectures import Architecture, Features, Recipe, architectures


class MLP(nn.Module):
    """Layers of SELU over numbers and embedded categories."""

    def __init__(self, features: Features, outputs: int, *, task: Task, hidden: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, min(8, size)) for size in features.categories)
        width = features.numeric + sum(min(8, size) for size in features.categories)
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.SELU()]
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Float32 (n, p) and int64 (n, c) to (n, outputs)."""
        out: Tensor = self.layers(
            torch.cat([numeric, *(t(categorical[:, i]) for i, t in enumerate(self.tables))], dim=1)
        )
        return out


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW under a cosine."""
    return Recipe(optimizer="AdamW", lr=2e-3, schedule="cosine", epochs=30, batch_size=128)


architectures.register("mlp")(Architecture("tabular", MLP, recipe))
