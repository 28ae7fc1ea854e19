"""A small transformer over the tokens of texts, from scratch."""

from __future__ import annotations

from functools import partial

from torch import nn

from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures
from maas_magics.core.networks.encoders import TextTransformer
from maas_magics.core.networks.tagger import over_texts
from maas_magics.core.tasks.base import Task


def transformer(
    features: NetworkInputs,
    outputs: int,
    *,
    task: Task,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    hidden: int = 128,
    dropout: float = 0.1,
) -> nn.Module:
    """Layers of attention over the tokens of each text.

    Parameters
    ----------
    features : NetworkInputs
        The columns, of which one or more are texts, or one is lists of words.
    outputs : int
        One for each class, label or quantity, or tag of a word; of two classes, one for both.
    task : Task
        What is learnt.
    width : int
        Width of an embedding, a multiple of ``heads``.
    layers : int
        Layers of attention.
    heads : int
        Heads of each layer.
    hidden : int
        Width of the layer before the answer.
    dropout : float
        Probability of dropping a number inside the layers.
    """
    text = partial(TextTransformer, width=width, layers=layers, heads=heads, dropout=dropout)
    return over_texts(features, outputs, task.of_words, text, hidden, of_pairs=task.of_pairs)


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW under one cycle.

    Parameters
    ----------
    rows : int
        Training rows; not used.
    task : Task
        The fitted target.
    """
    return Recipe(
        optimizer="AdamW",
        lr=1e-3,
        weight_decay=0.01,
        schedule="one-cycle",
        batch_size=32,
        epochs=12,
        patience=12 if task.of_words else 4,
        monitor=task.usual_monitor,
    )


MANY = 100_000
"""Training rows from which on it may be chosen; of a few thousand it learns less than filters do, which see
`maas_magics.core.architectures.textcnn.BETTER_FROM`."""

architectures.register("transformer")(
    Architecture("ports", transformer, recipe, suits={"text": MANY, "words": MANY}, cost=20, heavy=True, of_texts=True)
)
