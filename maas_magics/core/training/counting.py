"""What stands beside a row's target: how much it counts, its weight times that of its class; or a teacher's answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from maas_magics.api.errors import DataError
from maas_magics.core.batches.changed import with_answers
from maas_magics.core.batches.prepare import Prepared, joined
from maas_magics.core.data.roles import mean_weight
from maas_magics.core.tasks.class_weights import class_weights


class Counting:
    """Puts weights beside targets, and finds their mean, and that of the targets, while it does.

    Parameters
    ----------
    column : str or None
        Of the weights; where there is none, nothing is put anywhere.
    classes : Tensor or None
        Weight of each class.
    labels : int
        How many there are where the target holds their places.
    taught : Tensor or None
        A teacher's answers to all training rows.
    """

    def __init__(
        self, column: str | None, classes: Tensor | None, labels: int = 0, taught: Tensor | None = None
    ) -> None:
        self.column, self._classes, self._labels, self._taught = column, classes, labels, taught
        self._total, self._rows, self._held, self._out = 0.0, 0, 0.0, 0
        self._sums: Tensor | float = 0.0

    @classmethod
    def of(cls, column: str | None, asked: Any, prepared: Prepared) -> Counting:
        """By a column of weights, and by class weights that were requested."""
        if column is None:
            return cls(None, None, taught=prepared.taught)
        target = prepared.train[1]
        answers = prepared.answers
        # Those of several heads weigh the loss of each, not rows: see `maas_magics.core.training.steps.weighting`.
        classes = None if answers.parts else class_weights(asked, answers, target, prepared.counts)
        return cls(column, classes, len(answers.classes))

    def joined(self, target: Tensor, weights: Tensor | None, *, held: bool = False) -> Tensor:
        """Target with the weights of its rows beside it, or a teacher's answers; of training rows or held-out ones."""
        if self._taught is not None and not held:
            return joined(target, self._taught)
        if self.column is None or weights is None:
            return target
        if self._classes is not None:
            weights = weights * self._classes[target.reshape(-1).to(torch.int64)]
        total = float(weights.sum())
        if held:
            self._held, self._out = self._held + total, self._out + len(weights)
        else:
            self._total, self._rows = self._total + total, self._rows + len(weights)
            self._sums = self._sums + _sums(target, weights.double(), self._labels)
        return joined(target, weights)

    def mean(self) -> float | None:
        """Mean weight of the training rows; None where all rows count alike.

        Raises
        ------
        DataError
            If no training row, or no held-out row, counts.
        """
        if self.column is None:
            return None
        mean = mean_weight(self.column, self._total, self._rows)
        if self._out and not self._held:
            raise DataError(f"The weights {self.column!r} of the held-out rows are all 0.", "Hold other rows out.")
        return mean

    def counted(self, prepared: Prepared) -> Prepared:
        """The same with the mean weight, and with the constant answer that is usual among rows that count so.

        Raises
        ------
        DataError
            As `mean` does.
        """
        mean, answers = self.mean(), prepared.answers
        if mean and answers.usual and isinstance(self._sums, Tensor):
            found = self._sums / self._total
            usual = tuple(answers.usual_of(found).tolist())
            prepared = with_answers(prepared, msgspec.structs.replace(answers, usual=usual))
        return replace(prepared, mean_weight=mean)


def _sums(target: Tensor, weights: Tensor, labels: int) -> Tensor:
    """Weighted sum of each number of an encoded target, or the weight of each label, float64 (k,)."""
    if not target.is_floating_point():
        return torch.bincount(target.reshape(-1), weights, minlength=labels)
    return (target.reshape(len(target), -1).double() * weights[:, None]).sum(0)
