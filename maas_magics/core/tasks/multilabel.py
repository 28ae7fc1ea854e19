"""Several labels a row, of which each holds or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.signature import DATATYPES, TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import kind_of_holding
from maas_magics.core.data.running import RunningStatistics
from maas_magics.core.data.target import TARGET
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import Decision, Link, Task, TaskName, floats
from maas_magics.core.tasks.labels import other_labels

if TYPE_CHECKING:
    from torch import Tensor, nn


@tasks.register("multilabel")
class Multilabel(Task, frozen=True, tag="multilabel"):
    """Several labels a row, each by its logit."""

    task: ClassVar[TaskName] = "multilabel"
    usual_link: ClassVar[Link] = "sigmoid"
    decision: ClassVar[Decision] = "each"
    usual_metrics: ClassVar[tuple[str, ...]] = ("accuracy", "f1")
    metric_example: ClassVar[str] = "Precision or HammingDistance"

    @classmethod
    def fit(cls, values: Array, names: tuple[str, ...], *, standardise: bool, ignored: int | None = None) -> Task:
        """Fit it to columns of 0 and 1."""
        if values.ndim != 2 or not set(np.unique(floats(values, names)).tolist()) <= {0.0, 1.0}:
            raise DataError("A multilabel target is several columns of 0 and 1.", "Name them: --target a,b,c")
        shares = tuple(floats(values, names).mean(axis=0).tolist())
        return cls(names, (False, True), flat=False, kind=kind_of_holding(values), usual=shares)

    @classmethod
    def fit_batch(cls, target: Tensor, outputs: Callable[[], Tensor], classes: Sequence[object] | None) -> Task:
        """As many labels as the target has numbers."""
        width = target.shape[1] if target.dim() == 2 else 1
        names = tuple(f"{TARGET}{i}" for i in range(width))
        return cls(names, (False, True), flat=False, kind=kind_of_holding(target.numpy()))

    @property
    def outputs(self) -> int:
        """One for each label."""
        return len(self.names)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the target's columns."""
        return self.names

    def as_known(self, part: Tensor) -> Tensor:
        """Zeros and ones, float32 (n, k)."""
        return part.float()

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Whether each label holds, and the probability of it."""
        probabilities = TensorSpec("probabilities", "FP32", (-1, len(self.names)))
        datatype = DATATYPES[self.label_array.dtype.name]
        return TensorSpec("prediction", datatype, (-1, len(self.names))), probabilities

    def encode(self, values: Array) -> Array:
        """Zeros and ones, float32 (n, k)."""
        return floats(values, self.names).astype(np.float32)

    def known(self, values: Array) -> Array:
        """Zeros and ones, float32 (n, k)."""
        return self.encode(values)

    def counted(self, figures: RunningStatistics, counts: Array, standardise: bool) -> Task:
        """The same with the share of each label."""
        return msgspec.structs.replace(self, usual=tuple(figures.mean.tolist()))

    def answering(self, row: tuple[int, ...]) -> Task | None:
        """One output for each label."""
        return self if row == (len(self.names),) else None

    def decoder(self) -> nn.Module:
        """Probabilities (n, k)."""
        from maas_magics.core.tasks.decode import Decode

        return Decode(self)

    def decide(self, decoded: Tensor) -> Tensor:
        """Whether each label holds, bool (n, k)."""
        return decoded >= 0.5

    def mean_outputs(self, outputs: Tensor) -> Tensor:
        """Logit of the mean probability."""
        from maas_magics.core.tasks.losses import logit_of_mean

        return logit_of_mean(outputs)

    def loss(
        self, name: str, weights: Tensor | None, smoothing: float, reduction: str = "mean"
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Binary cross entropy of each label."""
        from maas_magics.core.tasks.losses import binary_cross_entropy, check_of_labels

        check_of_labels(name, self)
        if name == "cross_entropy":
            raise OptionError("The loss 'cross_entropy' is for one label a row; the task is multilabel.", "--loss bce")
        return binary_cross_entropy(self, weights, smoothing, reduction)

    def taught(self, answers: Array, teacher: Task) -> Array:
        """The probability that each label holds, in the order of these."""
        if not isinstance(teacher, Multilabel):
            return super().taught(answers, teacher)
        if sorted(self.names) != sorted(teacher.names):
            raise other_labels(self.names, teacher.names)
        return np.asarray(answers[:, [teacher.names.index(name) for name in self.names]], np.float32)

    def likeness(
        self, temperature: float, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """How far the probability of each label is from the teacher's, both softened."""
        from maas_magics.core.tasks.teaching import of_each_label

        return of_each_label(self, temperature)

    def metrics(self) -> Mapping[str, Callable[..., float]]:
        """Metrics of labels that may hold together."""
        from maas_magics.core.tasks.metrics import LABELS

        return {name: metric for name, metric in LABELS.items() if name != "balanced_accuracy"}

    def torchmetrics_arguments(self) -> dict[str, Any]:
        """Its task, and how many labels."""
        return {"task": "multilabel", "num_labels": len(self.names)}

    def smoothed(self, shares: Tensor, smoothing: float) -> Tensor:
        """Each label is smoothed by itself."""
        return shares * (1 - smoothing) + smoothing / 2

    def outputs_for(self, answer: Tensor) -> Tensor:
        """Logits, or the probabilities themselves where outputs are probabilities."""
        return answer if self.decoding == "identity" else answer.logit(eps=1e-12)
