"""A network for masks: a class for each pixel of a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from maas_magics.api.errors import OptionError
from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures, widths
from maas_magics.core.networks.one_picture import KIND
from maas_magics.core.networks.unet import UNet
from maas_magics.core.tasks.base import Task


def unet(
    features: NetworkInputs,
    outputs: int,
    *,
    task: Task,
    channels: int | Sequence[int] = (32, 64, 96, 128),
    dropout: float = 0.1,
) -> nn.Module:
    """Convolutions down to a coarse picture and back up, from scratch.

    Parameters
    ----------
    features : NetworkInputs
        One array of pictures, or one column of files that hold pictures.
    outputs : int
        A number for each class of each pixel.
    task : Task
        The fitted target: a class for each pixel.
    channels : int or sequence of int
        Width of each stage, one number for one stage.
    dropout : float
        Probability of dropping a channel of the coarsest stage.
    """
    shape = features.image or next((port.shape for port in features.ports if port.kind == KIND), ())
    if not shape or len(features.ports) > 1 or features.numeric or features.categories:
        raise OptionError("unet looks at one column of pictures.", "--features COLUMN, --feature COLUMN=image")
    axes = task.row
    if len(axes) != 2 or not task.exclusive or outputs != len(task.classes) * math.prod(axes):
        raise OptionError("unet answers a class for each pixel; the target has no masks.", "--model auto")
    if not any(axes == shape[start : start + 2] for start in range(len(shape) - 1)):
        raise OptionError(f"The masks have the size {axes}, and the pictures {shape}.", "Give masks of their size.")
    return UNet(shape, len(task.classes), widths(channels), dropout)


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW under one cycle.

    Parameters
    ----------
    rows : int
        Training rows.
    task : Task
        The fitted target.
    """
    return Recipe(
        optimizer="AdamW",
        lr=3e-3,
        weight_decay=0.01,
        schedule="one-cycle",
        batch_size=16,
        epochs=15 if rows > 2_000 else 30,
        monitor=task.usual_monitor,
    )


architectures.register("unet")(Architecture("ports", unet, recipe, arrays="image", of_pixels=True, suits={"pixels": 0}))
