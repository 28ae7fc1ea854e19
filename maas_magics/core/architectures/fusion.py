"""The default network for tables with texts, pictures or sounds: an encoder for each, fused by layers."""

from __future__ import annotations

from functools import partial

from torch import nn

from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures
from maas_magics.core.networks.encoders import TextCNN
from maas_magics.core.networks.tagger import over_texts
from maas_magics.core.tasks.base import Task


def fusion(
    features: NetworkInputs, outputs: int, *, task: Task, hidden: int = 128, dropout: float = 0.2, looks: bool = True
) -> nn.Module:
    """Filters over texts, convolutions over pictures and sounds; numbers and categories beside them.

    Parameters
    ----------
    features : NetworkInputs
        The columns.
    outputs : int
        One for each class, label or quantity; of two classes, one for both.
    task : Task
        What is learnt.
    hidden : int
        Width of the layer before the answer.
    dropout : float
        Probability of dropping a number of a vector.
    looks : bool
        Whether words that are tagged are read by their shape, beginning and end as well.
    """
    text = partial(TextCNN, looks=looks and task.of_words)
    return over_texts(features, outputs, task.of_words, text, hidden, dropout, of_pairs=task.of_pairs)


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW at a falling rate, with an average of the weights over about an epoch.

    Parameters
    ----------
    rows : int
        Training rows.
    task : Task
        The fitted target.
    """
    batch_size = 32 if rows < 4_000 else 64
    return Recipe(
        optimizer="AdamW",
        lr=2e-3,
        weight_decay=0.01,
        schedule="linear",
        batch_size=batch_size,
        epochs=30 if rows < 4_000 else 12,
        patience=12 if task.of_words else 6,  # no span is right for some epochs, where entities are rare
        ema=None if rows < 1_000 else 1 - 1 / max(15, rows // batch_size),
        monitor=task.usual_monitor,
    )


architectures.register("fusion")(
    Architecture(
        "ports",
        fusion,
        recipe,
        suits={"image": 0, "audio": 0, "mixed": 0, "words": 0},
        cost=10,
        earlier=({"looks": False},),
    )
)
