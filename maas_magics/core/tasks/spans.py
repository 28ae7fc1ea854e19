"""Metrics of entities: spans of tagged words that are right as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maas_magics.core.data.arrow import Array
from maas_magics.core.tasks import metrics as whole
from maas_magics.core.tasks.accumulators import Accumulator
from maas_magics.core.tasks.bio import GOES_ON, OUTSIDE, STAYS_OPEN, parted


class SpanCounts:
    """How many spans are right, predicted and true.

    Parameters
    ----------
    classes : sequence of str
        Tags by class index; index 0 is no word, which ends every span.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        parts = [parted(tag) for tag in classes]
        labels = {label: number for number, label in enumerate(sorted({label for _, label in parts}))}
        self._inside = np.array([place > 0 and tag != OUTSIDE for place, tag in enumerate(classes)])
        self._label = np.array([labels[label] for _, label in parts])
        self._goes_on = np.array([prefix in GOES_ON for prefix, _ in parts])
        self._open = np.array([prefix in STAYS_OPEN for prefix, _ in parts])

    def __call__(self, predicted: Array, true: Array) -> Array:
        """Right, predicted and true spans, int64 (3,), of class indices (n,) of words, 0 between sentences."""
        predicted = np.where(true == 0, 0, predicted)
        starts, ends = self._ends(predicted)
        true_starts, true_ends = self._ends(true)
        both = starts & true_starts
        right = both & (ends == true_ends) & (self._label[predicted] == self._label[true])
        return np.array([right.sum(), starts.sum(), true_starts.sum()], dtype=np.int64)

    def _ends(self, codes: Array) -> tuple[Array, Array]:
        """Where spans begin, bool (n,), and where the one that begins at a place ends, int64 (n,)."""
        inside, label = self._inside[codes], self._label[codes]
        goes_on = np.zeros(len(codes), dtype=bool)
        goes_on[1:] = (
            inside[1:] & inside[:-1] & (label[1:] == label[:-1]) & self._goes_on[codes[1:]] & self._open[codes[:-1]]
        )
        starts = inside & ~goes_on
        last = inside.copy()
        last[:-1] &= ~goes_on[1:]
        ends = np.full(len(codes), -1, dtype=np.int64)
        ends[starts] = np.flatnonzero(last)
        return starts, ends


class SpanMetric:
    """A figure of spans that are right where first word, last word and label are; rows all count alike.

    Parameters
    ----------
    count : SpanCounts
        Counts spans that are right, predicted and true.
    name : {"span_f1", "span_precision", "span_recall"}
    """

    metric = whole.f1
    higher_is_better = True

    def __init__(self, count: SpanCounts, name: str) -> None:
        self._count, self._name = count, name
        self._total = np.zeros(3, dtype=np.int64)

    def __call__(self, decoded: Tensor, target: Tensor, weights: Any = None) -> float:
        """The figure of some sentences."""
        return self._figure(self._counted(decoded, target))

    def accumulator(self, make: Any) -> Accumulator:
        """The same with counts of its own, some sentences at a time."""
        return SpanMetric(self._count, self._name)

    def update(self, decoded: Tensor, target: Tensor, weights: Any = None) -> None:
        """Add the counts of some sentences."""
        self._total = self._total + self._counted(decoded, target)

    def result(self) -> float:
        """The figure of all sentences so far."""
        return self._figure(self._total)

    def _counted(self, decoded: Tensor, target: Tensor) -> Array:
        return self._count(decoded.argmax(dim=-1).cpu().numpy(), target.cpu().numpy())

    def _figure(self, counts: Array) -> float:
        right, predicted, true = (int(count) for count in counts)
        of = {"span_precision": predicted, "span_recall": true, "span_f1": (predicted + true) / 2}[self._name]
        return right / of if of else 0.0


class OfWords:
    """A metric of labels, of the words alone: what stands between sentences is left out.

    Parameters
    ----------
    metric : Metric
        Of decoded answers and labels.
    """

    higher_is_better = True

    def __init__(self, metric: whole.Metric) -> None:
        self.metric = metric

    def __call__(self, decoded: Tensor, target: Tensor, weights: Any = None) -> float:
        """The metric of some sentences."""
        there = target > 0
        return self.metric(decoded[there], target[there])

    def accumulator(self, make: Any) -> Accumulator:
        """What takes it some sentences at a time."""
        return _WordsInParts(make(self.metric))


class _WordsInParts:
    def __init__(self, inner: Accumulator) -> None:
        self._inner = inner

    def update(self, decoded: Tensor, target: Tensor, weights: Any = None) -> None:
        there = target > 0
        if bool(there.any()):
            self._inner.update(decoded[there], target[there])

    def result(self) -> float:
        return self._inner.result()


def with_ends(values: Tensor) -> Tensor:
    """Words of sentences, (n, words, …), one after the other, with one place of zeros behind each sentence."""
    end = torch.zeros_like(values[:, :1])
    return torch.cat([values, end], dim=1).flatten(0, 1)
