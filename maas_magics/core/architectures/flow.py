"""Pictures from words: a small text-conditioned rectified flow, from scratch."""

from __future__ import annotations

from torch import nn

from maas_magics.api.errors import OptionError
from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures
from maas_magics.core.networks.flow import Flow
from maas_magics.core.tasks.base import Task

PATCHES = 64
"""Patches of a picture at most, where no one says how large they are."""

STEPS, BATCH = 1_500, 64
"""Steps of a training of usual length, and rows of each."""


def flow(
    features: NetworkInputs,
    outputs: int,
    *,
    task: Task,
    width: int = 96,
    layers: int = 4,
    heads: int = 4,
    patch: int = 0,
    words: int = 64,
) -> nn.Module:
    """Layers of attention over the patches of a picture and the words of its caption.

    Parameters
    ----------
    features : NetworkInputs
        The caption, and what a sampler hands on.
    outputs : int
        Numbers of a picture.
    task : Task
        What is learnt.
    width : int
        Width of a token, a multiple of ``heads``.
    layers : int
        Layers of attention.
    heads : int
        Heads of each layer.
    patch : int
        Pixels of the side of a patch; 0 for 4, or more where there would be more than 64 patches.
    words : int
        Tokens of a caption at most.
    """
    text = next((port for port in features.ports if port.kind == "text"), None)
    if text is None or not any(port.kind == "latent" for port in features.ports) or len(task.row) != 3:
        raise OptionError("flow draws pictures, from captions alone.", "--target picture --text caption --model flow")
    if width % (2 * heads):
        raise OptionError(f"width is {width}; a multiple of twice the heads, {2 * heads}, was expected.", "")
    channels, height, wide = task.row
    return Flow(
        (channels, height, wide), patch or side(height, wide), text.size, text.padding, words, width, layers, heads
    )


def side(height: int, width: int) -> int:
    """Pixels of the side of a patch.

    Parameters
    ----------
    height, width : int
        Of a picture.
    """
    found = 4
    while -(-height // found) * -(-width // found) > PATCHES:
        found *= 2
    return found


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW under one cycle, and an average of the weights over the last hundreds of steps.

    Parameters
    ----------
    rows : int
        Training rows.
    task : Task
        The fitted target; not used.
    """
    size = BATCH if rows >= 4 * BATCH else BATCH // 2
    return Recipe(
        optimizer="AdamW",
        lr=1e-3,
        schedule="one-cycle",
        batch_size=size,
        epochs=min(max(-(-STEPS * size // max(rows, 1)), 5), 300),
        ema=0.995,
        optimizer_params={"betas": (0.9, 0.99)},
    )


architectures.register("flow")(Architecture("captioned", flow, recipe))
