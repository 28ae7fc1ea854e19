"""One label of two: one output a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.target import TARGET
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import Link, Task, TaskName
from maas_magics.core.tasks.labels import OneLabel, kind_of_tensor
from maas_magics.core.tasks.multiclass import Multiclass

if TYPE_CHECKING:
    from torch import Tensor, nn


@tasks.register("binary")
class Binary(OneLabel, frozen=True, tag="binary"):
    """One label of two, by the logit of the second."""

    task: ClassVar[TaskName] = "binary"
    usual_link: ClassVar[Link] = "sigmoid"
    usual_metrics: ClassVar[tuple[str, ...]] = ("accuracy", "balanced_accuracy", "f1", "auc")
    metric_example: ClassVar[str] = "Precision or AveragePrecision"

    @classmethod
    def fit(cls, values: Array, names: tuple[str, ...], *, standardise: bool, ignored: int | None = None) -> Task:
        """Fit it to two labels."""
        found = super().fit(values, names, standardise=standardise)
        if len(found.classes) > 2:
            raise DataError(f"The target {names[0]!r} has {len(found.classes)} classes, not two.", "--task multiclass")
        return found

    @classmethod
    def fit_batch(cls, target: Tensor, outputs: Callable[[], Tensor], classes: Sequence[object] | None) -> Task:
        """Truth values, or 0 and 1."""
        kind = kind_of_tensor(target)
        return cls((TARGET,), (False, True) if kind == "bool" else (0, 1), kind=kind)

    @property
    def outputs(self) -> int:
        """The logit of the second label."""
        return 1

    def encode(self, values: Array) -> Array:
        """0 and 1, float32 (n, 1)."""
        return self.known(values).astype(np.float32)[:, None]

    def answering(self, row: tuple[int, ...]) -> Task | None:
        """One output, or one for each label, or for whole numbers that index as many outputs."""
        return self if row in ((), (1,)) else self.multiclass().answering(row)

    def multiclass(self) -> Multiclass:
        """The same labels with an output for each."""
        return msgspec.convert(msgspec.to_builtins(self) | {"task": "multiclass"}, Multiclass)

    def decoder(self) -> nn.Module:
        """Probabilities of both."""
        from maas_magics.core.tasks.decode import DecodeBoth

        return DecodeBoth(self)

    def truth(self, target: Tensor) -> Tensor:
        """Class indices, int64 (n,)."""
        return self.class_index(target)

    def class_index(self, target: Tensor) -> Tensor:
        """Class indices, int64 (n,)."""
        return target[:, 0].long()

    def mean_outputs(self, outputs: Tensor) -> Tensor:
        """Logit of the mean probability."""
        from maas_magics.core.tasks.losses import logit_of_mean

        return logit_of_mean(outputs)

    def loss(
        self, name: str, weights: Tensor | None, smoothing: float, reduction: str = "mean"
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Binary cross entropy."""
        from maas_magics.core.tasks.losses import binary_cross_entropy, check_of_labels

        check_of_labels(name, self)
        positive = None if weights is None else weights[1:] / weights[:1]
        return binary_cross_entropy(self, positive, smoothing, reduction)

    def torchmetrics_arguments(self) -> dict[str, Any]:
        """Its task."""
        return {"task": "binary"}

    def for_torchmetrics(self, decoded: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """The probability of the second class; every class's for a metric of several."""
        return decoded if name.startswith("Multiclass") else decoded[:, 1], target.long()

    def outputs_for(self, answer: Tensor) -> Tensor:
        """Its logit, or the probability itself where outputs are probabilities."""
        return answer[1:] if self.decoding == "identity" else answer[1:].logit(eps=1e-12)

    def usual_of(self, mean: Tensor) -> Tensor:
        """Shares of both."""
        import torch

        return torch.cat([1 - mean, mean])
