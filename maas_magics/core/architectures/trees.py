"""Gradient-boosted trees, which scikit-learn grows: ``--model trees``."""

from __future__ import annotations

from maas_magics.core.architectures import Architecture, Recipe, architectures
from maas_magics.core.networks.trees import Trees
from maas_magics.core.tasks.base import Task


def recipe(rows: int, task: Task) -> Recipe:
    """At most 300 rounds at a rate of 0.1, fewer where 50 of them bring nothing.

    Parameters
    ----------
    rows : int
        Training rows: all of them make a step.
    task : Task
        The fitted target; not used.
    """
    return Recipe(optimizer="SGD", lr=0.1, batch_size=max(1, rows), epochs=30, patience=5)


architectures.register("trees")(Architecture("tabular", Trees, recipe, learns=True))
