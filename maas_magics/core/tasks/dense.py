"""A label at each position of a row: a mask of a picture, a tag for each token."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.signature import DATATYPES, TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import kind_of, plain
from maas_magics.core.tasks.base import Task, TaskName
from maas_magics.core.tasks.labels import shares_of
from maas_magics.core.tasks.multiclass import Multiclass

if TYPE_CHECKING:
    from torch import Tensor, nn


class Dense(Multiclass, frozen=True, tag="dense"):
    """One label of several at each position; targets are (n, positions), the positions in one axis.

    Attributes
    ----------
    last : bool
        Whether the network has the classes in its last axis, (n, …, classes), rather than behind the rows,
        (n, classes, …), as torch's losses take them.
    """

    last: bool = False

    task: ClassVar[TaskName] = "dense"
    one_label: ClassVar[bool] = False
    metric_example: ClassVar[str] = "MulticlassJaccardIndex"

    @property
    def positions(self) -> int:
        """How many a row has."""
        return math.prod(self.axes)

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one row's labels."""
        return self.axes

    @property
    def outputs(self) -> int:
        """One for each class at each position."""
        return len(self.classes) * self.positions

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """The labels, and the probability of each at each position, in the last axis."""
        probabilities = TensorSpec("probabilities", "FP32", (-1, *self.axes, len(self.classes)))
        return TensorSpec("prediction", DATATYPES[self.label_array.dtype.name], (-1, *self.axes)), probabilities

    def check_rows(self, values: Array) -> None:
        """Raise `DataError` where rows have other positions."""
        if values.shape[1:] != self.axes:
            raise DataError(
                f"The target has {values.shape[1:]} labels a row; the model was trained on {self.axes}.",
                "Give the targets it answers.",
            )

    def encode(self, values: Array) -> Array:
        """Class indices, int64 (n, positions)."""
        return super().known(values.reshape(-1)).reshape(len(values), -1)

    def known(self, values: Array) -> Array:
        """Class indices of every position, int64 (n · positions,)."""
        return super().known(values.reshape(-1))

    def answering(self, row: tuple[int, ...]) -> Task | None:
        """Classes behind the rows, or last."""
        for last, places, width in ((False, row[1:], row[:1]), (True, row[:-1], row[-1:])):
            if places == self.axes and width:
                wide = Multiclass(self.names, self.classes).answering(width)
                if wide is not None:
                    return msgspec.structs.replace(self, classes=wide.classes, last=last)
        return None

    def by_class(self, outputs: Tensor) -> Tensor:
        """Outputs of a network as (n, classes, positions)."""
        if self.last:
            return outputs.reshape(len(outputs), -1, len(self.classes)).transpose(1, 2)
        return outputs.reshape(len(outputs), len(self.classes), -1)

    def decoder(self) -> nn.Module:
        """Probabilities (n, …, classes)."""
        from maas_magics.core.tasks.decode import DecodePositions

        return DecodePositions(self.decoding, self.axes, len(self.classes), self.last)

    def decide(self, decoded: Tensor) -> Tensor:
        """Index of the likeliest class at each position."""
        return decoded.argmax(dim=-1)

    def table(self, decoded: Tensor) -> Tensor:
        """Probabilities of every position, (n · positions, classes)."""
        return decoded.reshape(-1, len(self.classes))

    def truth(self, target: Tensor) -> Tensor:
        """Class indices of every position, int64 (n · positions,)."""
        return target.reshape(-1)

    def row_weights(self, weights: Tensor) -> Tensor:
        """Each position counts as its row does."""
        return weights.repeat_interleave(self.positions)

    def class_index(self, target: Tensor) -> Tensor:
        """As encoded."""
        return target

    def encode_batch(self, target: Tensor) -> Tensor:
        """Class indices, int64 (n, positions)."""
        return target.reshape(len(target), -1).long()

    def mean_outputs(self, outputs: Tensor) -> Tensor:
        """Networks by name answer a label a row."""
        raise OptionError("A network by name answers one label a row, not one at each position.", "Give a module.")

    def loss(
        self, name: str, weights: Tensor | None, smoothing: float, reduction: str = "mean"
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Cross entropy, the mean over positions."""
        each = super().loss(name, weights, smoothing, reduction)
        return lambda outputs, target: each(self.by_class(outputs), target)

    def outputs_for(self, answer: Tensor) -> Tensor:
        """The same at each position, as the network lays them out."""
        one = super().outputs_for(answer)
        return one.repeat(self.positions) if self.last else one.repeat_interleave(self.positions)


def fit_dense(values: Array, names: tuple[str, ...]) -> Task:
    """Fit the task of a label at each position to a target (n, …)."""
    kind = kind_of(values)
    found, counts = np.unique(values, return_counts=True)
    if len(found) < 2:
        raise DataError(
            f"The target {names[0]!r} has one class only: {found[0]!r}.", "Give rows of at least two classes."
        )
    classes: tuple[Any, ...] = tuple(plain(label, kind) for label in found.tolist())
    return Dense(names, classes, flat=False, kind=kind, usual=shares_of(counts.tolist()), axes=values.shape[1:])
