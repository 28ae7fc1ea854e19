"""A tag for each word of a sentence: entities by BIO, parts of speech."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import TEXT
from maas_magics.core.data.tagged import is_tagged
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import Decision, Link, Task, TaskName
from maas_magics.core.tasks.labels import shares_of

if TYPE_CHECKING:
    from torch import Tensor, nn

NO_WORD = ""
"""The class, of index 0, of places behind the end of a sentence."""

OUTSIDE = "O"
"""The tag of a word that is part of no entity, and of one that the network does not get to see."""


@tasks.register("entities")
class Entities(Task, frozen=True, tag="entities"):
    """A tag for each word. Sentences differ in length: behind the end of one stands `NO_WORD`, the first class."""

    task: ClassVar[TaskName] = "entities"
    usual_link: ClassVar[Link] = "softmax"
    of_words: ClassVar[bool] = True
    decision: ClassVar[Decision] = "likeliest"
    usual_metrics: ClassVar[tuple[str, ...]] = ("span_f1", "accuracy")
    usual_monitor: ClassVar[str] = "span_f1"  # the loss grows again long before the spans get worse
    metric_example: ClassVar[str] = "span_recall"

    @classmethod
    def fit(cls, values: Array, names: tuple[str, ...], *, standardise: bool, ignored: int | None = None) -> Task:
        """Fit it to lists of tags."""
        if not is_tagged(values):
            raise DataError(
                f"The target {names[0]!r} is not a list of tags a row, which the task entities learns.",
                "['O', 'B-person', 'I-person', …], one for each word of a column of lists of words.",
            )
        counts = Counter(tag for row in values for tag in row)
        tags = sorted(tag for tag in counts if tag != OUTSIDE)
        if len(counts) < 2:
            raise DataError(
                f"The target {names[0]!r} has one tag only: {next(iter(counts), OUTSIDE)!r}.",
                "Give rows of at least two tags.",
            )
        shares = shares_of(counts[tag] for tag in (OUTSIDE, *tags))
        return cls(names[:1], (NO_WORD, OUTSIDE, *tags), kind=TEXT, usual=(0.0, *shares))

    @property
    def description(self) -> str:
        """With how many tags."""
        return f"{self.task}, {len(self.labels)} tags"

    @property
    def outputs(self) -> int:
        """One for each tag, of each word."""
        return len(self.classes) - 1

    @property
    def labels(self) -> tuple[str, ...]:
        """The tags."""
        return tuple(str(tag) for tag in self.classes[1:])

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """A tag for each word, and the probabilities of no word and of each tag."""
        return (
            TensorSpec("prediction", "BYTES", (-1, -1)),
            TensorSpec("probabilities", "FP32", (-1, -1, len(self.classes))),
        )

    def encode(self, values: Array) -> Array:
        """Class indices, int64 (n, words), 0 behind the end of a row."""
        return self.known(values)

    def known(self, values: Array) -> Array:
        """Class indices, int64 (n, words), 0 behind the end of a row."""
        indices = {tag: place for place, tag in enumerate(self.classes)}
        found = np.zeros((len(values), max(1, max(map(len, values), default=0))), dtype=np.int64)
        try:
            for row, tags in enumerate(values):
                found[row, : len(tags)] = [indices[tag] for tag in tags]
        except KeyError as error:
            raise DataError(
                f"The target holds {error.args[0]!r}, a tag the model was not trained on.",
                f"It knows: {', '.join(map(repr, self.labels[:12]))}.",
            ) from None
        return found

    def check_rows(self, values: Array) -> None:
        """Raise `DataError` where rows have no list of tags."""
        if not is_tagged(values):
            raise DataError("The target is not a list of tags a row, which the model answers.", "Give such lists.")

    # --- outputs and targets as tensors ---

    def decoder(self) -> nn.Module:
        """Probabilities (n, words, classes)."""
        from maas_magics.core.tasks.decode import DecodeWords

        return DecodeWords()

    def decide(self, decoded: Tensor) -> Tensor:
        """Index of the likeliest class of each word."""
        return decoded.argmax(dim=-1)

    def table(self, decoded: Tensor) -> Tensor:
        """Probabilities (n, words, classes)."""
        return decoded

    def scored(
        self, table: Tensor, truth: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Words of all sentences one after the other, with a place of class 0 behind each sentence."""
        from maas_magics.core.tasks.spans import with_ends

        width = min(table.shape[1], truth.shape[1])  # of either, there is nothing behind the longest sentence
        return with_ends(table[:, :width]), with_ends(truth[:, :width]), None

    def loss(
        self, name: str, weights: Tensor | None, smoothing: float, reduction: str = "mean"
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Cross entropy, the mean over words."""
        from torch.nn import functional

        if name not in ("auto", "cross_entropy"):
            raise OptionError(f"The loss {name!r} is not for tags; the task is entities.", "--loss auto")
        if reduction != "mean":
            raise OptionError("Rows of the task entities count alike.", "Drop --weights.")

        def loss(outputs: Tensor, target: Tensor) -> Tensor:
            if outputs.dim() == 2:  # one answer to every word
                outputs = outputs.unsqueeze(1).expand(-1, target.shape[1], -1)
            width = min(outputs.shape[1], target.shape[1])
            logits, wanted = outputs[:, :width, 1:].flatten(0, 1), target[:, :width].flatten() - 1
            total = functional.cross_entropy(
                logits, wanted, ignore_index=-1, label_smoothing=smoothing, reduction="sum"
            )
            return total / (wanted >= 0).sum().clamp(min=1)

        return loss

    def mass(self, weights: Tensor | None) -> Callable[[Tensor], Tensor] | None:
        """How many words cross entropy divides by."""
        return lambda target: (target > 0).sum()

    def metrics(self) -> Mapping[str, Callable[..., float]]:
        """Metrics of spans, and of words."""
        from maas_magics.core.tasks import metrics as whole
        from maas_magics.core.tasks.spans import OfWords, SpanCounts, SpanMetric

        count = SpanCounts([str(tag) for tag in self.classes])
        spans = {name: SpanMetric(count, name) for name in ("span_f1", "span_precision", "span_recall")}
        return {**spans, "accuracy": OfWords(whole.accuracy), "balanced_accuracy": OfWords(whole.balanced_accuracy)}

    def torchmetrics_arguments(self) -> dict[str, Any]:
        """None: its classes take no sentences."""
        raise OptionError("Classes of torchmetrics take no sentences.", "--metrics span_f1,span_recall")

    def share(self, known: Tensor) -> Tensor:
        """Share of each tag."""
        words = known[known > 0]
        return words.bincount(minlength=len(self.classes)).double() / max(1, len(words))

    def outputs_for(self, answer: Tensor) -> Tensor:
        """Logarithms of the probabilities."""
        return answer.clamp(min=1e-12).log()
