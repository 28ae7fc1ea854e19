"""Metrics of vectors of pairs: whether the second of a pair is found by the first, among those of all rows."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from maas_magics.core.tasks import metrics as whole
from maas_magics.core.tasks.accumulators import Accumulator

CANDIDATES = 10_000
"""Pairs among which each is looked for at most: those of more come some at a time, so that memory stays small."""

QUERIES = 512
"""Queries that are compared with all candidates at once."""


def pairs_of(target: Tensor) -> Tensor:
    """Places of the first row of each pair whose two rows are there, int64 (pairs,).

    Parameters
    ----------
    target : Tensor, shape (n, 2)
        Number of each row's value, and of its pair; the rows of a pair follow one another.
    """
    return (target[1:, 1] == target[:-1, 1]).nonzero()[:, 0]


def ranks(vectors: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """How many wrong candidates are more like a pair's first value than the best right one, and how many as like.

    Candidates are the different second values. Right are those that stand beside the same first value in any row;
    the query itself is neither right nor wrong.

    Parameters
    ----------
    vectors : Tensor, shape (n, d)
        Of the two values of each pair, one after the other.
    target : Tensor, shape (n, 2)
        Number of each row's value, and of its pair.

    Returns
    -------
    above : Tensor, shape (pairs,)
        Of type int64.
    ties : Tensor, shape (pairs,)
        The same.
    """
    first = pairs_of(target)
    vectors = functional.normalize(vectors.float(), dim=1)
    asked, answer = target[first, 0], target[first + 1, 0]
    values, place = torch.unique(answer, return_inverse=True)
    at = torch.empty_like(values)
    at[place] = first + 1
    candidates = vectors[at]
    above, ties = [], []
    for start in range(0, len(first), QUERIES):
        query = asked[start : start + QUERIES]
        scores = vectors[first[start : start + QUERIES]] @ candidates.T
        right = torch.zeros_like(scores, dtype=torch.bool)
        rows, columns = (query[:, None] == asked).nonzero(as_tuple=True)
        right[rows, place[columns]] = True
        wrong = ~right & (values != query[:, None])
        best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
        above.append(((scores > best) & wrong).sum(1))
        ties.append(((scores == best) & wrong).sum(1))
    return torch.cat(above), torch.cat(ties)


class Ranks:
    """Ranks of the newest rows, which several metrics are taken of."""

    def __init__(self) -> None:
        self._of: Any = lambda: None
        self._found = torch.zeros(0), torch.zeros(0)

    def __call__(self, vectors: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """What `ranks` answers."""
        if self._of() is not vectors:
            self._found = ranks(vectors, target)
            self._of = weakref.ref(vectors)
        return self._found


class RetrievalMetric:
    """The mean of a figure of each pair's rank. Those as like as the right one are before it as likely as behind it.

    Parameters
    ----------
    name : str
        ``"mrr"``, the mean of 1 over the rank, or ``"recall@K"``, the share of ranks of at most K.
    found : Ranks
        Shared by metrics of the same rows.
    """

    metric = staticmethod(whole.accuracy)  # one of the package, so that it is taken of a constant answer as well
    higher_is_better = True

    def __init__(self, name: str, found: Ranks) -> None:
        self.name, self._ranks = name, found
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._total, self._count, self._waiting = 0.0, 0, 0

    def __call__(self, decoded: Tensor, target: Tensor, weights: Any = None) -> float:
        """The metric of some rows."""
        pairs = 2 * CANDIDATES
        if len(target) <= pairs:
            return _mean([self._figures(*self._ranks(decoded, target))])
        found = zip(torch.split(decoded, pairs), torch.split(target, pairs), strict=True)
        return _mean([self._figures(*ranks(*part)) for part in found])

    def accumulator(self, make: Any) -> Accumulator:
        """The same with rows of its own, some at a time."""
        return RetrievalMetric(self.name, self._ranks)

    def update(self, decoded: Tensor, target: Tensor, weights: Any = None) -> None:
        """Keep some rows, and count them once there are `CANDIDATES`."""
        self._kept.append((decoded, target))
        self._waiting += len(target)
        if self._waiting >= 2 * CANDIDATES:
            self._take()

    def result(self) -> float:
        """The metric of all rows so far."""
        if self._kept:
            self._take()
        return self._total / self._count if self._count else float("nan")

    def _take(self) -> None:
        decoded, target = zip(*self._kept, strict=True)
        self._kept, self._waiting = [], 0
        figures = self._figures(*ranks(torch.cat(decoded), torch.cat(target)))
        self._total, self._count = self._total + float(figures.sum()), self._count + len(figures)

    def _figures(self, above: Tensor, ties: Tensor) -> Tensor:
        """Of each pair, float64 (pairs,)."""
        _, _, most = self.name.partition("@")
        if most:
            return ((int(most) - above) / (ties + 1).double()).clamp(0, 1)
        last = int((above + ties).max()) + 1 if len(above) else 0
        places = torch.arange(1, last + 1, dtype=torch.float64, device=above.device)
        harmonic = torch.cat([places.new_zeros(1), (1 / places).cumsum(0)])
        return (harmonic[above + ties + 1] - harmonic[above]) / (ties + 1)


def _mean(parts: Sequence[Tensor]) -> float:
    figures = torch.cat(list(parts))
    return float(figures.mean()) if len(figures) else float("nan")
