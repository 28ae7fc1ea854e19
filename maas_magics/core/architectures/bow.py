"""Linear and logistic regression on the words of texts: quick, and a figure for other networks to pass."""

from __future__ import annotations

from torch import nn

from maas_magics.api.errors import OptionError
from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures
from maas_magics.core.architectures.linear import Linear
from maas_magics.core.networks.bag_of_words import BagOfWords
from maas_magics.core.tasks.base import Task

EARLIER = ({"pairs": 2**16, "letters": 0}, {"letters": 0})
"""How many weights versions have which do not say it."""

PAIRS, WEIGHTS = 2**18, 2**21
"""Weights for two tokens in a row, for each output and for all of them, at most: some thousand texts have more pairs
than 65,536, and what shares a weight by chance costs more than a point of accuracy."""


LETTERS, FEW = 2**17, 16
"""Weights for letters in a row, and outputs up to which there are any: those of all tokens are summed in each step."""


def bow(
    features: NetworkInputs, outputs: int, *, task: Task, pairs: int | None = None, letters: int | None = None
) -> nn.Module:
    """A bag of words: weights for each token, its letters, and each two in a row, and output; no order counts.

    Parameters
    ----------
    features : NetworkInputs
        The columns, of which one or more are texts.
    outputs : int
        One for each class, label or quantity; of two classes, one for both.
    task : Task
        What is learnt.
    pairs : int or None
        Weights for two tokens in a row, which share them by a hash; 0 for none. Where nothing is said, 262,144, or
        fewer of more than eight outputs.
    letters : int or None
        Weights for three to five letters in a row within a token, likewise. Where nothing is said, 131,072; none of
        more than sixteen outputs.
    """
    if task.of_words or task.of_pairs or any(port.kind != "text" for port in features.ports):
        raise OptionError("bow is for texts with an answer each, and for numbers and categories.", "--model auto")
    pairs = min(PAIRS, max(1, WEIGHTS // outputs)) if pairs is None else pairs
    if pairs < 0:
        raise OptionError(f"pairs is {pairs}; 0 or more was expected.", "--set pairs=262144")
    letters = (LETTERS if outputs <= FEW else 0) if letters is None else letters
    if letters < 0:
        raise OptionError(f"letters is {letters}; 0 or more was expected.", "--set letters=131072")
    return BagOfWords(Linear(features, outputs, task=task), features.ports, outputs, pairs, letters)


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW at a falling rate, some 1,000 steps at least.

    Parameters
    ----------
    rows : int
        Training rows.
    task : Task
        The fitted target; not used.
    """
    batch_size = 32 if rows < 4_000 else 64
    return Recipe(
        optimizer="AdamW",
        lr=0.03,
        weight_decay=0.01,
        schedule="linear",
        batch_size=batch_size,
        epochs=min(100, max(20, 1_000 // max(1, rows // batch_size))),
        patience=5,
    )


architectures.register("bow")(
    Architecture("ports", bow, recipe, suits={"text": 0}, cost=1, of_texts=True, earlier=EARLIER)
)
