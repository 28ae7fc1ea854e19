"""One label a row: what two classes and several have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec
import numpy as np

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.signature import DATATYPES, TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import key, kind_of, plain
from maas_magics.core.data.running import RunningStatistics
from maas_magics.core.tasks.base import Decision, Task

if TYPE_CHECKING:
    from torch import Tensor, nn


def shares_of(counts: Iterable[int]) -> tuple[float, ...]:
    """How large a part of the rows each label has, by how many rows have it."""
    numbers = list(counts)
    return tuple(number / sum(numbers) for number in numbers)


def kind_of_tensor(labels: Tensor) -> str:
    """Kind of labels that came as a tensor."""
    return str(labels.dtype).removeprefix("torch.")


def other_labels(own: Sequence[str], teacher: Sequence[str]) -> OptionError:
    """That a teacher has other labels than the rows."""
    return OptionError(
        f"The teacher answers the labels {', '.join(teacher[:8])}; those of the rows are {', '.join(own[:8])}.",
        "Name a teacher of the same labels, or drop --teacher.",
    )


class OneLabel(Task, frozen=True):
    """One label a row, of two or of more."""

    one_label: ClassVar[bool] = True
    decision: ClassVar[Decision] = "likeliest"

    @classmethod
    def fit(cls, values: Array, names: tuple[str, ...], *, standardise: bool, ignored: int | None = None) -> Task:
        """Fit it to labels of at least two classes."""
        if values.ndim > 1:
            raise DataError(
                f"A {cls.task} target is one column of labels; this one has {values.shape[1]}.", "--task multilabel"
            )
        kind, counts = kind_of(values), Counter(values.tolist())
        classes = tuple(plain(label, kind) for label in sorted(counts))
        if len(classes) < 2:
            raise DataError(
                f"The target {names[0]!r} has one class only: {classes[0]!r}.", "Give rows of at least two classes."
            )
        return cls((names[0],), classes, kind=kind, usual=shares_of(counts[label] for label in sorted(counts)))

    @property
    def known_width(self) -> int:
        """A class index."""
        return 1

    def as_known(self, part: Tensor) -> Tensor:
        """Class indices, int64 (n,)."""
        return part.reshape(-1).long()

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """The label, and the probability of each."""
        probabilities = TensorSpec("probabilities", "FP32", (-1, len(self.labels)))
        return TensorSpec("prediction", DATATYPES[self.label_array.dtype.name], (-1,)), probabilities

    def known(self, values: Array) -> Array:
        """Class indices, int64 (n,)."""
        indices = {key(label, self.kind): i for i, label in enumerate(self.label_array.tolist())}
        given = values.tolist()
        try:
            places = {label: indices[key(label, self.kind)] for label in set(given)}
        except KeyError as error:
            raise DataError(
                f"The target holds {error.args[0]!r}, a label the model was not trained on.",
                f"It knows: {', '.join(map(repr, self.classes[:12]))}.",
            ) from None
        return np.array([places[label] for label in given], dtype=np.int64)

    def encode(self, values: Array) -> Array:
        """Class indices, int64 (n,)."""
        return self.known(values)

    def counted(self, figures: RunningStatistics, counts: Array, standardise: bool) -> Task:
        """The same with the share of each label."""
        return msgspec.structs.replace(self, usual=shares_of(counts.tolist()))

    def decoder(self) -> nn.Module:
        """Probabilities (n, classes)."""
        from maas_magics.core.tasks.decode import Decode

        return Decode(self)

    def metrics(self) -> Mapping[str, Callable[..., float]]:
        """Metrics of labels."""
        from maas_magics.core.tasks.metrics import LABELS

        return LABELS

    def taught(self, answers: Array, teacher: Task) -> Array:
        """Probabilities of the labels, in the order of these."""
        if not (self.one_label and teacher.one_label):
            return super().taught(answers, teacher)
        if sorted(self.labels) != sorted(teacher.labels):
            raise other_labels(self.labels, teacher.labels)
        return np.asarray(answers[:, [teacher.labels.index(label) for label in self.labels]], np.float32)

    def likeness(
        self, temperature: float, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """How far the probabilities are from the teacher's, both softened."""
        from maas_magics.core.tasks.teaching import of_one_label

        return of_one_label(self, temperature)

    def share(self, known: Tensor) -> Tensor:
        """Share of each label."""
        return known.bincount(minlength=len(self.classes)).double() / max(1, len(known))
