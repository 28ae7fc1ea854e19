"""Networks and rows that every training library gets the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

RATE = 1e-3
"""Learning rate of Adam everywhere."""


@dataclass(frozen=True)
class Workload:
    """One training.

    Attributes
    ----------
    build : callable
        Makes the network, with the same weights each time.
    x, y, xv, yv : Tensor
        Training and validation rows; an integer target is one of ``classes`` labels.
    hidden : tuple of int
        Widths, where the network is nothing but dense layers.
    """

    name: str
    build: Callable[[], nn.Module]
    x: Tensor
    y: Tensor
    xv: Tensor
    yv: Tensor
    batch: int
    epochs: int
    classes: int = 0
    hidden: tuple[int, ...] = ()

    @property
    def loss(self) -> nn.Module:
        """What is learnt by."""
        return nn.CrossEntropyLoss() if self.classes else nn.MSELoss()

    @property
    def samples(self) -> int:
        """Training rows seen in the end."""
        return len(self.x) * self.epochs

    def figure(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Accuracy, or mean squared error."""
        return (outputs.argmax(1) == target).float().mean() if self.classes else (outputs - target).square().mean()


class Encoder(nn.Module):
    """Two layers of a transformer encoder over tokens, and the mean of what they answer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 256, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(128, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, length) to logits (n, 4)."""
        answered: Tensor = self.head(self.layers(self.embedding(tokens)).mean(1))
        return answered


def dense(*widths: int) -> nn.Module:
    """Linear layers of some widths with ReLU between them."""
    pairs = list(zip(widths, widths[1:], strict=False))
    layers = [layer for a, b in pairs for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def convolutional() -> nn.Module:
    """Two convolutions on 28 × 28 and a dense layer."""
    two = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    two += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*two, nn.Flatten(), nn.Linear(32 * 7 * 7, 10))


def seeded(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """``build`` with the same weights each time."""

    def make() -> nn.Module:
        torch.manual_seed(0)
        return build()

    return make


def workloads() -> list[Workload]:
    """The four trainings; the last two are arithmetic more than calls, and shorter."""
    made = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> tuple[Tensor, Tensor]:
        return tuple(torch.randn(n, *shape, generator=made) for n in (rows, rows // 5))  # type: ignore[return-value]

    def labels(most: int) -> tuple[Tensor, Tensor]:
        return tuple(torch.randint(0, most, (n,), generator=made) for n in (rows, rows // 5))  # type: ignore[return-value]

    found = []
    rows = 25_600
    (x, xv), (y, yv) = normal(64), labels(10)
    build = seeded(lambda: dense(64, 256, 256, 10))
    found.append(Workload("64→256→256→10, batch 128", build, x, y, xv, yv, 128, 8, 10, (256, 256)))
    rows = 32_000
    (x, xv), (y, yv) = normal(10), normal(10)
    build = seeded(lambda: dense(10, 20, 10))
    found.append(Workload("10→20→10, batch 32", build, x, y, xv, yv, 32, 8, 0, (20,)))
    rows = 3_200
    (x, xv), (y, yv) = normal(1, 28, 28), labels(10)
    found.append(Workload("two convolutions, 28×28, batch 64", seeded(convolutional), x, y, xv, yv, 64, 2, 10))
    rows = 640
    y, yv = labels(4)
    x, xv = (torch.randint(0, 256, (n, 64), generator=made) for n in (rows, rows // 5))
    found.append(Workload("encoder, length 64, batch 32", seeded(Encoder), x, y, xv, yv, 32, 2, 4))
    return found
