"""One label of several: an output for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from maas_magics.api.errors import OptionError
from maas_magics.core.data.labels import TEXT
from maas_magics.core.data.target import TARGET
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import Link, Task, TaskName
from maas_magics.core.tasks.labels import OneLabel, kind_of_tensor

if TYPE_CHECKING:
    from torch import Tensor


@tasks.register("multiclass")
class Multiclass(OneLabel, frozen=True, tag="multiclass"):
    """One label of several."""

    task: ClassVar[TaskName] = "multiclass"
    usual_link: ClassVar[Link] = "softmax"
    exclusive: ClassVar[bool] = True
    usual_metrics: ClassVar[tuple[str, ...]] = ("accuracy", "balanced_accuracy", "f1")
    metric_example: ClassVar[str] = "MulticlassPrecision or CohenKappa"

    @classmethod
    def fit_batch(cls, target: Tensor, outputs: Callable[[], Tensor], classes: Sequence[object] | None) -> Task:
        """As many classes as the network has outputs, with the names that a dataset has for them."""
        answered = outputs()
        count = answered.shape[1] if answered.dim() == 2 else 0
        if classes is not None and len(classes) == count:
            return cls((TARGET,), tuple(map(str, classes)), kind=TEXT)
        return cls((TARGET,), tuple(range(count)), kind=kind_of_tensor(target))

    @property
    def description(self) -> str:
        """With how many classes."""
        return f"{self.task}, {len(self.classes)} classes"

    @property
    def outputs(self) -> int:
        """One for each class."""
        return len(self.classes)

    @property
    def target_width(self) -> int:
        """A class index."""
        return 1

    def as_encoded(self, part: Tensor) -> Tensor:
        """Class indices, int64 (n,)."""
        return part[:, 0].long()

    def answering(self, row: tuple[int, ...]) -> Task | None:
        """An output for each label, or for more, of which whole numbers are the indices."""
        width = math.prod(row)
        if len(row) != 1 or width < 2:
            return None
        if width == len(self.classes):
            return self
        if not all(_is_index(label, width) for label in self.classes):
            return None
        return msgspec.structs.replace(self, classes=tuple(range(width)), usual=())

    def encode_batch(self, target: Tensor) -> Tensor:
        """Class indices, int64 (n,)."""
        return target.reshape(-1).long()

    def mean_outputs(self, outputs: Tensor) -> Tensor:
        """Logarithm of the mean probability."""
        return outputs.log_softmax(-1).logsumexp(0) - math.log(len(outputs))

    def loss(
        self, name: str, weights: Tensor | None, smoothing: float, reduction: str = "mean"
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Cross entropy."""
        from maas_magics.core.tasks.losses import check_of_labels, cross_entropy

        check_of_labels(name, self)
        if name == "bce":
            raise OptionError(
                "The loss 'bce' is for one or several yes/no labels; the task is multiclass.", "--loss cross_entropy"
            )
        return cross_entropy(self, weights, smoothing, reduction)

    def mass(self, weights: Tensor | None) -> Callable[[Tensor], Tensor] | None:
        """The weights of its labels, by which cross entropy divides."""
        return None if weights is None else lambda target: weights[target].sum()

    def torchmetrics_arguments(self) -> dict[str, Any]:
        """Its task, and how many classes."""
        return {"task": "multiclass", "num_classes": len(self.classes)}

    def outputs_for(self, answer: Tensor) -> Tensor:
        """Logarithms, or the probabilities themselves where outputs are probabilities."""
        return answer if self.decoding == "identity" else answer.clamp(min=1e-12).log()


def _is_index(label: Any, width: int) -> bool:
    return isinstance(label, (int, float)) and not isinstance(label, bool) and label in range(width)
