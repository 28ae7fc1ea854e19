"""A convolutional network for image-shaped arrays of any size."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures, widths
from maas_magics.core.features.pictures import channels_last
from maas_magics.core.tasks.base import Task


class CNN(nn.Module):
    """Stages of two 3×3 convolutions with batch normalisation, each halving the picture, then a mean over places.

    Parameters
    ----------
    features : NetworkInputs
        ``image`` is (height, width), (channels, height, width) or (height, width, channels).
    outputs : int
        Numbers that the network puts out for a row.
    task : Task
        The fitted target; not used.
    channels : int or sequence of int
        Width of each stage, one number for one stage; stages stop when a side would fall below 2 pixels.
    dropout : float
        Share of the last features hidden in training.
    """

    def __init__(
        self,
        features: NetworkInputs,
        outputs: int,
        *,
        task: Task,
        channels: int | Sequence[int] = (32, 64, 128),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        shape = features.image
        self.axes: tuple[int, ...] | None
        sides: tuple[int, ...]
        if len(shape) == 2:
            self.axes, inner, sides = None, 1, shape
        elif channels_last(shape):
            self.axes, inner, sides = (0, 3, 1, 2), shape[2], shape[:2]
        else:
            self.axes, inner, sides = (0, 1, 2, 3), shape[0], shape[1:]
        stages: list[nn.Module] = []
        side = min(sides)
        for width in widths(channels):
            stages += [*_convolution(inner, width), *_convolution(width, width)]
            inner = width
            if side < 4:
                break
            stages.append(nn.MaxPool2d(2))
            side //= 2
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(inner, outputs))

    def forward(self, image: Tensor) -> Tensor:
        """Outputs, float32 (n, outputs).

        Parameters
        ----------
        image : Tensor, float32 (n, …)
            Pictures, standardised, in the layout of the training rows.
        """
        x = image.unsqueeze(1) if self.axes is None else image.permute(self.axes)
        out: Tensor = self.head(self.stages(x).mean(dim=(2, 3)))
        return out


def _convolution(inner: int, outer: int) -> list[nn.Module]:
    return [nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW under one cycle.

    Parameters
    ----------
    rows : int
        Training rows.
    task : Task
        The fitted target; not used.
    """
    return Recipe(
        optimizer="AdamW",
        lr=3e-3,
        weight_decay=0.01,
        schedule="one-cycle",
        batch_size=64,
        epochs=15 if rows > 5_000 else 30,
    )


architectures.register("cnn")(Architecture("image", CNN, recipe, suits={"pictures": 0}, cost=50))
