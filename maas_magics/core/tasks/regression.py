"""Quantities, one or several a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.signature import Datatype, TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.running import RunningStatistics, figures
from maas_magics.core.data.target import TARGET
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import Decision, Link, Task, TaskName, floats

if TYPE_CHECKING:
    from torch import Tensor, nn


@tasks.register("regression")
class Regression(Task, frozen=True, tag="regression"):
    """One quantity or several a row, learnt in units of their standard deviation where the loss allows it.

    Attributes
    ----------
    wide : bool
        Whether answers have more digits than float32 holds, though they are not scaled back.
    """

    wide: bool = False

    task: ClassVar[TaskName] = "regression"
    usual_link: ClassVar[Link] = "identity"
    numeric: ClassVar[bool] = True
    decision: ClassVar[Decision] = ""
    usual_metrics: ClassVar[tuple[str, ...]] = ("rmse", "mae", "r2")
    metric_example: ClassVar[str] = "MeanAbsolutePercentageError"

    @classmethod
    def fit(cls, values: Array, names: tuple[str, ...], *, standardise: bool, ignored: int | None = None) -> Task:
        """Fit it to quantities that are not all the same."""
        flat, axes = values.ndim == 1, values.shape[1:] if values.ndim > 2 else ()
        numbers = floats(values, names).reshape((-1, 1) if axes else (len(values), -1))
        if (numbers == numbers[0]).all():
            raise DataError(
                f"The target {', '.join(map(repr, names))} has the value {numbers[0, 0]:g} in every row.",
                "Give rows in which it varies.",
            )
        return cls(names, flat=flat, axes=axes).counted(figures(numbers), np.zeros(0), standardise)

    @classmethod
    def fit_batch(cls, target: Tensor, outputs: Callable[[], Tensor], classes: Sequence[object] | None) -> Task:
        """Quantities as they are."""
        if target.dim() > 2:
            return cls((TARGET,), (), (0.0,), (1.0,), False, axes=tuple(target.shape[1:]))
        names = (TARGET,) if target.dim() == 1 else tuple(f"{TARGET}{i}" for i in range(target.shape[1]))
        return cls(names, (), (0.0,) * len(names), (1.0,) * len(names), target.dim() == 1)

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one row's answer."""
        return self.shape if self.shape is not None else self.axes or (() if self.flat else (len(self.center),))

    @property
    def outputs(self) -> int:
        """One for each quantity."""
        return math.prod(self.axes) if self.axes else len(self.center)

    @property
    def labels(self) -> tuple[str, ...]:
        """There are none."""
        return ()

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """One output. Quantities that are scaled back have more digits than float32 holds."""
        datatype: Datatype = "FP64" if self.standardised or self.wide else "FP32"
        return (TensorSpec("prediction", datatype, (-1, *self.row)),)

    def encode(self, values: Array) -> Array:
        """Standardised quantities, float32 (n, k)."""
        with np.errstate(over="ignore"):  # a quantity past float32 is infinitely far off, which its loss shows
            standard = (self.quantities(values) - np.array(self.center)) / np.array(self.scale)
            return np.asarray(standard, dtype=np.float32)

    def known(self, values: Array) -> Array:
        """Quantities in their own units, float64 (n, k)."""
        return self.quantities(values)

    def counted(self, figures: RunningStatistics, counts: Array, standardise: bool) -> Task:
        """The same with mean and standard deviation of each quantity; 0 and 1 where it is not standardised."""
        usual = tuple(figures.mean.tolist())
        center, scale = figures.mean, np.where(figures.spread > 0, figures.spread, 1.0)
        if not standardise:
            center, scale = np.zeros_like(center), np.ones_like(scale)
        return msgspec.structs.replace(self, center=tuple(center.tolist()), scale=tuple(scale.tolist()), usual=usual)

    def check_rows(self, values: Array) -> None:
        """Raise `DataError` where rows have other numbers."""
        if not self.axes:
            super().check_rows(values)
        elif values.shape[1:] != self.axes:
            raise DataError(
                f"The target has rows of shape {values.shape[1:]}; the model was trained on {self.axes}.",
                "Give the targets it answers.",
            )

    def clamped(self, values: Array) -> Task:
        """The same, with predictions kept in the range of ``values``, the training targets."""
        numbers = values.reshape(-1, 1) if self.axes else self.quantities(values)
        return msgspec.structs.replace(
            self, low=tuple(numbers.min(axis=0).tolist()), high=tuple(numbers.max(axis=0).tolist())
        )

    def same_encoding(self, other: Task) -> bool:
        """Quantities stay as they are."""
        return other.numeric

    def answering(self, row: tuple[int, ...]) -> Task | None:
        """As many numbers as the target has, or any others, as quantiles are."""
        width = math.prod(row)
        if self.axes:
            fits = row == (width,) or _without_ones(row) == _without_ones(self.axes)
        else:
            fits = row in ((), (width,), (width, 1))
        return self if fits and width == self.outputs else msgspec.structs.replace(self, shape=row)

    def difference(self, before: Array, after: Array) -> float:
        """Largest difference of two sets of answers, by their size.

        That is the target's standard deviation where it is known, else the largest answer beyond 1: sums in another
        order change a price of a million by more than a share of one.
        """
        apart = np.abs(before.astype(np.float64) - after.astype(np.float64))
        largest = np.abs(before.astype(np.float64)).max(initial=1.0)
        return float((apart / (np.array(self.scale) if self.standardised else largest)).max(initial=0.0))

    def decoder(self) -> nn.Module:
        """Numbers in the target's units."""
        from maas_magics.core.tasks.decode import DecodeQuantities

        return DecodeQuantities(self)

    def decide(self, decoded: Tensor) -> Tensor:
        """Quantities are answered as they are."""
        return decoded

    def truth(self, target: Tensor) -> Tensor:
        """Quantities in their own units, float64 (n, k)."""
        exact = target.double().reshape(len(target), -1)
        return exact * exact.new_tensor(self.scale) + exact.new_tensor(self.center)

    def constant(self, known: Tensor) -> Tensor:
        """The mean of each quantity; one for all of a target of several axes."""
        found = super().constant(known)
        return found.expand(self.outputs) if self.axes else found

    def mean_outputs(self, outputs: Tensor) -> Tensor:
        """Mean over the members."""
        return outputs.mean(0)

    def loss(
        self, name: str, weights: Tensor | None, smoothing: float, reduction: str = "mean"
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """One of `maas_magics.core.tasks.losses.REGRESSION`; the mean squared error by itself."""
        from maas_magics.core.tasks.losses import REGRESSION, quantities

        if name != "auto" and name not in REGRESSION:
            raise OptionError(f"The loss {name!r} is for labels; the task is regression.", "--loss mse")
        return quantities("mse" if name == "auto" else name, reduction)

    def taught(self, answers: Array, teacher: Task) -> Array:
        """The quantities, as a target of them is encoded."""
        found = answers.reshape(len(answers), -1)
        if not teacher.numeric or self.shape is not None:
            return super().taught(answers, teacher)
        if found.shape[1] != self.outputs:
            raise OptionError(
                f"The teacher answers {found.shape[1]} numbers a row; the rows have {self.outputs}.",
                "Name a teacher of the same target, or drop --teacher.",
            )
        return self.encode(answers.reshape(len(answers), *(() if self.flat else self.axes or (-1,))))

    def likeness(
        self, temperature: float, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss against the target, with the teacher's quantities in its place."""
        return loss

    def metrics(self) -> Mapping[str, Callable[..., float]]:
        """Metrics of quantities."""
        from maas_magics.core.tasks.metrics import QUANTITIES

        return QUANTITIES

    def torchmetrics_arguments(self) -> dict[str, Any]:
        """Nothing: they take numbers."""
        return {}

    def for_torchmetrics(self, decoded: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """One number a row as (n,)."""
        return (decoded.reshape(-1), target.reshape(-1)) if self.flat else (decoded, target)

    def smoothed(self, shares: Tensor, smoothing: float) -> Tensor:
        """Quantities are not smoothed."""
        return shares

    def outputs_for(self, answer: Tensor) -> Tensor:
        """The answer, standardised."""
        return (answer - answer.new_tensor(self.center)) / answer.new_tensor(self.scale)

    def usual_of(self, mean: Tensor) -> Tensor:
        """The mean in the target's own units."""
        return mean * mean.new_tensor(self.scale) + mean.new_tensor(self.center)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
