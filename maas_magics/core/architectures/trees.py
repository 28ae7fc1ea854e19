"""Gradient-boosted trees, ``--model trees``: scikit-learn grows them, and torch answers with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from maas_magics.api.errors import require
from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures
from maas_magics.core.compat.boosting import Tree, base_of, trees_of
from maas_magics.core.tasks.base import Task

ONE_HOT = 64
"""Most codes of a category that are asked one by one; of others it is asked where their mean target lies."""

LARGE = 2_000_000
"""Numbers of a table from which on several threads grow a tree; of fewer each waits for the others all the time."""

ABSENT = -12.0
"""Logit of a class that no training row has."""


class Trees(nn.Module):
    """An ensemble of trees, which grows by some rounds at a time.

    All trees are walked down together, one decision of each at a time, by indices into flat tables of their nodes. A
    row is answered as scikit-learn does, to float32.

    Parameters
    ----------
    features : NetworkInputs
        The columns of the rows.
    outputs : int
        Numbers that the network puts out for a row.
    task : Task
        What is learnt: classes of which one holds, labels that hold or not, or quantities.
    rounds : int
        Trees for each output that an epoch adds.
    leaves : int
        Most leaves of a tree.
    depth : int
        Most decisions on the way to a leaf.
    rows_of_leaf : int
        Least training rows of a leaf.
    l2 : float
        Penalty on the values of leaves.
    """

    feature: Tensor
    threshold: Tensor
    below: Tensor
    value: Tensor
    roots: Tensor

    def __init__(
        self,
        features: NetworkInputs,
        outputs: int,
        *,
        task: Task,
        rounds: int = 10,
        leaves: int = 31,
        depth: int = 8,
        rows_of_leaf: int = 20,
        l2: float = 0.0,
    ) -> None:
        super().__init__()
        least = {"rounds": (rounds, 1), "leaves": (leaves, 2), "depth": (depth, 1), "rows_of_leaf": (rows_of_leaf, 1)}
        for name, (value, low) in least.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ValueError(f"{name} is {value!r}; a whole number of {low} or more was expected")
        if not isinstance(l2, (int, float)) or not l2 >= 0:
            raise ValueError(f"l2 is {l2!r}; a number of 0 or more was expected")
        self.outputs, self.rounds, self.depth = outputs, rounds, depth
        self._one, self._quantities = task.exclusive, task.numeric
        self._grown: dict[str, Any] = {
            "max_leaf_nodes": leaves,
            "max_depth": depth,
            "min_samples_leaf": rows_of_leaf,
            "l2_regularization": l2,
        }
        self._boosters: list[Any] = []
        self.base = nn.Parameter(torch.zeros(outputs))
        self.sizes = features.categories
        self.means = nn.ParameterList(
            nn.Parameter(torch.zeros(size), requires_grad=False) for size in self.sizes if size > ONE_HOT
        )
        self.register_buffer("feature", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(1))
        self.register_buffer("below", torch.zeros(2, dtype=torch.int64))  # left and right of each node
        self.register_buffer("value", torch.zeros(1))
        self.register_buffer("roots", torch.zeros(outputs, dtype=torch.int64))
        self.register_load_state_dict_pre_hook(_as_many_nodes)  # type: ignore[no-untyped-call]

    def _columns(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """What trees decide by, float32 (n, columns): numbers, whether a category is a code, the mean of its code."""
        found, means = [numeric], iter(self.means)
        for place, size in enumerate(self.sizes):
            codes = categorical[:, place]
            found.append(
                functional.one_hot(codes, size).to(numeric.dtype)
                if size <= ONE_HOT
                else next(means)[codes].unsqueeze(1).to(numeric.dtype)
            )
        return torch.cat(found, dim=1)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Outputs, float32 (n, outputs).

        Parameters
        ----------
        numeric : Tensor, float32 (n, p)
            Numbers.
        categorical : Tensor, int64 (n, c)
            Code of each category; 0 for missing or unknown.
        """
        x = self._columns(numeric, categorical)
        node = self.roots.unsqueeze(0) + torch.zeros(len(x), 1, dtype=torch.int64, device=x.device)
        for _ in range(self.depth):
            right = x.gather(1, self.feature[node]) > self.threshold[node]
            node = self.below[2 * node + right.long()]
        values = self.value[node].reshape(len(x), -1, self.outputs).sum(1)
        return values + self.base.to(values.dtype)

    # --- learning ---

    def learn(self, inputs: Sequence[Tensor], target: Tensor, weights: Tensor | None, rate: float, seed: int) -> None:
        """Grow some rounds more on all training rows.

        Parameters
        ----------
        inputs : sequence of Tensor
            As `forward` takes them.
        target : Tensor, shape (n,) or (n, outputs)
            Encoded target.
        weights : Tensor or None, shape (n,)
            Of rows.
        rate : float
            Learning rate: what each tree's values are multiplied with.
        seed : int
            Of what is drawn.
        """
        numeric, categorical = (x.detach().cpu() for x in inputs)
        wanted = target.detach().cpu().reshape(len(target), -1).numpy().astype(np.float64)
        if not self._boosters:
            self._place_means(categorical, wanted, weights)
        rows = self._columns(numeric, categorical).detach().numpy().astype(np.float64)
        given = None if weights is None else weights.detach().cpu().numpy().astype(np.float64)
        known = len(self.roots) // self.outputs if self.value.abs().sum() else 0
        heads = [wanted[:, 0]] if self._one else list(wanted.T)
        if not self._boosters:
            self._boosters = [self._made(rate, seed) for _ in heads]
        for booster, labels in zip(self._boosters, heads, strict=True):
            booster.set_params(max_iter=known + self.rounds, learning_rate=rate)
            if not self._alike(labels):
                with _threads(rows.size):
                    booster.fit(rows, labels if self._quantities else labels.astype(np.int64), given)
        self._take(heads)

    def _made(self, rate: float, seed: int) -> Any:
        require("sklearn", "scikit-learn", "Boosted trees", "maas-magics[trees]")
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingRegressor if self._quantities else HistGradientBoostingClassifier
        return kind(early_stopping=False, warm_start=True, random_state=seed, learning_rate=rate, **self._grown)

    def _place_means(self, categorical: Tensor, wanted: Any, weights: Tensor | None) -> None:
        """Mean target of each code of categories with many; of classes, the share of the most frequent one."""
        numbers = wanted[:, 0]
        counts = np.ones(len(numbers)) if weights is None else weights.detach().cpu().double().numpy()
        counts = counts / max(counts.mean(), 1e-12)
        if self._one:
            numbers = (numbers == np.bincount(numbers.astype(np.int64), counts).argmax()).astype(np.float64)
        places = [place for place, size in enumerate(self.sizes) if size > ONE_HOT]
        for mean, place in zip(self.means, places, strict=True):
            codes = categorical[:, place].numpy()
            rows = np.bincount(codes, counts, minlength=len(mean))
            sums = np.bincount(codes, numbers * counts, minlength=len(mean))
            # One row of the mean of all beside those of a code, so that a rare one does not give its own row away.
            mean.data = torch.from_numpy((sums + np.average(numbers, weights=counts)) / (rows + 1)).float()

    def _take(self, heads: Sequence[Any]) -> None:
        """The trees of the boosters, as tables of nodes."""
        base, grown = self._by_output(heads)
        feature, threshold = [np.zeros(1, np.int64)], [np.zeros(1, np.float32)]
        below, value = [np.zeros(2, np.int64)], [np.zeros(1, np.float32)]  # node 0 is a leaf that adds nothing
        roots, nodes = [], 1
        for turn in range(max(1, *map(len, grown))):
            for trees in grown:
                if turn >= len(trees):
                    roots.append(0)
                    continue
                tree = trees[turn]
                roots.append(nodes)
                feature.append(tree.feature)
                threshold.append(tree.threshold)
                below.append(np.stack([tree.left, tree.right], axis=1).reshape(-1) + nodes)
                value.append(tree.value)
                nodes += len(tree.value)
        found: dict[str, list[Any]] = {
            "feature": feature,
            "threshold": threshold,
            "below": below,
            "value": value,
            "roots": [np.array(roots)],
        }
        for name, parts in found.items():
            setattr(self, name, torch.from_numpy(np.concatenate(parts)).to(self.base.device))
        with torch.no_grad():
            self.base.copy_(torch.tensor(base))

    def _by_output(self, heads: Sequence[Any]) -> tuple[list[float], list[list[Tree]]]:
        """What each output begins with, and its trees."""
        base = [ABSENT] * self.outputs
        grown: list[list[Tree]] = [[] for _ in range(self.outputs)]
        if self._one:
            booster = self._boosters[0]
            begin, trees = base_of(booster), trees_of(booster)
            classes = [int(label) for label in booster.classes_]
            if len(classes) == 2:  # scikit-learn has one logit for two, that of the second
                base[classes[0]], classes = 0.0, classes[1:]
            for place, label in enumerate(classes):
                base[label] = float(begin[place])
                grown[label] = [of_round[place] for of_round in trees]
            return base, grown
        for output, (booster, labels) in enumerate(zip(self._boosters, heads, strict=True)):
            if self._alike(labels):
                base[output] = -ABSENT if labels[0] else ABSENT
            else:
                base[output] = float(base_of(booster)[0])
                grown[output] = [of_round[0] for of_round in trees_of(booster)]
        return base, grown

    def _alike(self, labels: Any) -> bool:
        """Whether all rows have the same label, of which no booster learns."""
        return not self._quantities and bool((labels == labels[0]).all())


def _as_many_nodes(net: nn.Module, state: Mapping[str, Tensor], prefix: str, *rest: Any) -> None:
    """Make room for the nodes of a state that is loaded."""
    for name in ("feature", "threshold", "below", "value", "roots"):
        if f"{prefix}{name}" in state:
            setattr(net, name, getattr(net, name).new_zeros(state[f"{prefix}{name}"].shape))


def _threads(numbers: int) -> Any:
    """A context with the threads that such a table is grown by."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(torch.get_num_threads() if numbers >= LARGE else 1, user_api="openmp")


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


architectures.register("trees")(
    Architecture("tabular", Trees, recipe, learns=True, suits={"table": 0, "pictures": 0}, cost=2, requires="sklearn")
)
