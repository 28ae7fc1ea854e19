"""A label at each position of a row: a mask of a picture, a tag for each token."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np

from maas_magics.api.errors import DataError, ModelError, OptionError
from maas_magics.api.signature import DATATYPES, TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import kind_of, plain
from maas_magics.core.data.target import TARGET
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import Task, TaskName
from maas_magics.core.tasks.labels import kind_of_tensor, shares_of
from maas_magics.core.tasks.multiclass import Multiclass

if TYPE_CHECKING:
    from torch import Tensor, nn


IGNORED = -100
"""Label that torch's losses ignore by default."""


@tasks.register("dense")
class Dense(Multiclass, frozen=True, tag="dense"):
    """One label of several at each position; targets are (n, positions), the positions in one axis.

    Attributes
    ----------
    last : bool
        Whether the network has the classes in its last axis, (n, …, classes), rather than behind the rows,
        (n, classes, …), as torch's losses take them.
    ignored : int or None
        Label of positions that have no part in loss and metrics; it is encoded as itself.
    """

    last: bool = False
    ignored: int | None = None

    task: ClassVar[TaskName] = "dense"
    one_label: ClassVar[bool] = False
    metric_example: ClassVar[str] = "MulticlassJaccardIndex"

    @classmethod
    def fit(cls, values: Array, names: tuple[str, ...], *, standardise: bool, ignored: int | None = None) -> Task:
        """Fit it to the labels of a target (n, …); of itself -100 is ignored, as torch's losses do."""
        if values.ndim < 2:
            raise DataError("A dense target has a label at each position of a row, (n, …); this one has one a row.", "")
        found, counts = np.unique(values, return_counts=True)
        return cls.of_labels(found, counts, values.shape[1:], names, ignored)

    @classmethod
    def of_labels(
        cls, found: Array, counts: Array, axes: tuple[int, ...], names: tuple[str, ...], ignored: int | None = None
    ) -> Dense:
        """Fit it to labels, in order, and how often each is there.

        Parameters
        ----------
        found : ndarray, shape (labels,)
            Labels, each once.
        counts : ndarray, shape (labels,)
            How often each is there.
        axes : tuple of int
            Shape of one row's target.
        names : tuple of str
            Of the target.
        ignored : int, optional
            Label of positions that the loss ignores.

        Raises
        ------
        DataError
            If there is one label only.
        """
        kind = kind_of(found)
        ignored = IGNORED if ignored is None else ignored
        there = found != ignored
        ignores = not 0 <= ignored < there.sum()  # else it is a class like the others; held-out rows may have it alone
        if ignores:
            found, counts = found[there], counts[there]
        if len(found) < 2:
            raise DataError(
                f"The target {names[0]!r} has one class only: {found[0]!r}.", "Give rows of at least two classes."
            )
        classes: tuple[Any, ...] = tuple(plain(label, kind) for label in found.tolist())
        return cls(
            names,
            classes,
            flat=False,
            kind=kind,
            usual=shares_of(counts.tolist()),
            axes=axes,
            ignored=ignored if ignores else None,
        )

    @classmethod
    def fit_batch(cls, target: Tensor, outputs: Callable[[], Tensor], classes: Sequence[object] | None) -> Task:
        """As many classes as the network has outputs at each position."""
        axes, shape = tuple(target.shape[1:]), tuple(outputs().shape)
        width = shape[1] if shape[2:] == axes else shape[-1] if shape[1:-1] == axes else 0
        if not width:
            raise ModelError(
                f"The network returns {shape} where the target is {tuple(target.shape)}; an output for each class at "
                "each position was expected.",
                f"(n, classes, {', '.join(map(str, axes))})",
            )
        kind = kind_of_tensor(target)
        return cls((TARGET,), tuple(range(width)), flat=False, kind=kind, axes=axes, ignored=IGNORED)

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Of masks, how far their areas and those of the answers are the same."""
        return ("mean_iou", "accuracy") if len(self.axes) == 2 and self.shape is None else super().default_metrics

    def metrics(self) -> Mapping[str, Callable[..., float]]:
        """Metrics of labels, and of areas."""
        from maas_magics.core.tasks.metrics import mean_iou

        return {**super().metrics(), "mean_iou": mean_iou}

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
    def target_width(self) -> int:
        """A class index for each position."""
        return self.positions

    @property
    def known_width(self) -> int:
        """A class index for each position."""
        return self.positions

    def as_encoded(self, part: Tensor) -> Tensor:
        """Class indices, int64 (n, positions)."""
        return part.long()

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
        return self.known(values).reshape(len(values), -1)

    def known(self, values: Array) -> Array:
        """Class indices of every position, int64 (n · positions,)."""
        labels, places = np.unique(values.reshape(-1), return_inverse=True)
        found = np.full(len(labels), self.ignored or 0, dtype=np.int64)
        there = np.ones(len(labels), dtype=bool) if self.ignored is None else labels != self.ignored
        found[there] = super().known(labels[there])
        return found[places.reshape(-1)]

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

    def scored(
        self, table: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Positions whose label is not ignored."""
        if self.ignored is None:
            return table, truth, weights
        there = truth != self.ignored
        return table[there], truth[there], None if weights is None else weights[there]

    def share(self, known: Tensor) -> Tensor:
        """Share of each label, the ignored one left out."""
        return super().share(self.scored(known, known)[1])

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
        ignored = self.ignored
        if ignored is None or ignored == IGNORED:
            return lambda outputs, target: each(self.by_class(outputs), target)
        return lambda outputs, target: each(self.by_class(outputs), target.masked_fill(target == ignored, IGNORED))

    def mass(self, weights: Tensor | None) -> Callable[[Tensor], Tensor] | None:
        """How many labels, or what they weigh, cross entropy divides by."""
        if weights is None and self.ignored is None:
            return None

        def mass(target: Tensor) -> Tensor:
            labels = target.reshape(-1)
            labels = labels if self.ignored is None else labels[labels != self.ignored]
            return labels.new_tensor(len(labels)) if weights is None else weights[labels].sum()

        return mass

    def outputs_for(self, answer: Tensor) -> Tensor:
        """The same at each position, as the network lays them out."""
        one = super().outputs_for(answer)
        return one.repeat(self.positions) if self.last else one.repeat_interleave(self.positions)
