"""How much each row counts: its own weight, times that of its class."""

from __future__ import annotations

import torch
from torch import Tensor

from maas_magics.api.errors import DataError
from maas_magics.api.requests import TrainRequest
from maas_magics.core.data.roles import mean_weight
from maas_magics.core.training.rows.prepare import Prepared, joined
from maas_magics.core.training.weights import class_weights


class Counting:
    """Puts weights beside targets, and finds their mean while it does.

    Parameters
    ----------
    column : str or None
        Of the weights; where there is none, nothing is put anywhere.
    classes : Tensor or None
        Weight of each class.
    """

    def __init__(self, column: str | None, classes: Tensor | None) -> None:
        self.column, self._classes = column, classes
        self._total, self._rows, self._held, self._out = 0.0, 0, 0.0, 0

    @classmethod
    def of(cls, request: TrainRequest, prepared: Prepared) -> Counting:
        """What a request asks for."""
        if request.weights is None:
            return cls(None, None)
        target = prepared.train[1]
        return cls(request.weights, class_weights(request.class_weights, prepared.answers, target, prepared.counts))

    def joined(self, target: Tensor, weights: Tensor | None, *, held: bool = False) -> Tensor:
        """Target with the weights of its rows beside it, of training rows or held-out ones."""
        if self.column is None or weights is None:
            return target
        if self._classes is not None:
            weights = weights * self._classes[target.reshape(-1).to(torch.int64)]
        total = float(weights.sum())
        if held:
            self._held, self._out = self._held + total, self._out + len(weights)
        else:
            self._total, self._rows = self._total + total, self._rows + len(weights)
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
