"""Which token comes next: a text is what a model reads, and what it writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from maas_magics.api.errors import OptionError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.tasks import metrics as whole
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import Decision, Link, Task, TaskName

if TYPE_CHECKING:
    from torch import Tensor, nn


@tasks.register("language")
class Language(Task, frozen=True, tag="language"):
    """A text that goes on. Outputs are the surprise of a network at each token, in nats; the target is its bytes.

    Attributes
    ----------
    surprise : float
        Mean surprise, in nats, of one who knows how frequent each token of the training rows is, and nothing else.
    """

    surprise: float = 0.0

    task: ClassVar[TaskName] = "language"
    usual_link: ClassVar[Link] = "identity"
    runtime: ClassVar[str] = "text"
    decision: ClassVar[Decision] = ""
    usual_metrics: ClassVar[tuple[str, ...]] = ("perplexity", "bits_per_byte")
    metric_example: ClassVar[str] = "a function"

    @classmethod
    def fit(cls, values: Array, names: tuple[str, ...], *, standardise: bool, ignored: int | None = None) -> Task:
        """None is fitted to values alone; see `maas_magics.core.batches.language`."""
        raise OptionError("The task language reads a column of texts by itself.", "Give nothing else for a target.")

    @property
    def description(self) -> str:
        """Of which columns."""
        return f"{self.task} of {' and '.join(self.names)}"

    @property
    def outputs(self) -> int:
        """None of a row's own."""
        return 0

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """The text that follows."""
        return (TensorSpec("text", "BYTES", (-1, 1), "the text that follows"),)

    def encode(self, values: Array) -> Array:
        """Bytes of each token, float32 (n, tokens); 0 for one that does not count."""
        return values.astype(np.float32)

    def known(self, values: Array) -> Array:
        """Bytes of each token, float32 (n, tokens); 0 for one that does not count."""
        return self.encode(values)

    # --- of exports, whose answers are surprise and the likeliest token: (n, tokens, 2) ---

    def difference(self, before: Array, after: Array) -> float:
        """Largest difference of surprise, relative to its size."""
        return super().difference(before[..., 0], after[..., 0])

    def compare(self, before: Array, after: Array) -> dict[str, float]:
        """Share of tokens behind which both think the same token likeliest."""
        read = before[..., 0] > 0
        return {"greedy_agreement": float((before[read, 1] == after[read, 1]).mean())} if read.any() else {}

    # --- as tensors ---

    def decoder(self) -> nn.Module:
        """Surprise, as it is."""
        from maas_magics.core.tasks.decode import AsTheyAre

        return AsTheyAre()

    def table(self, decoded: Tensor) -> Tensor:
        """Surprise, (n, tokens)."""
        return decoded if decoded.dim() < 3 else decoded[..., 0]

    def loss(
        self, name: str, weights: Tensor | None, smoothing: float, reduction: str = "mean"
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Mean surprise of the tokens that count."""
        if name not in ("auto", "cross_entropy"):
            raise OptionError(f"The loss {name!r} is not for tokens; the task is language.", "--loss auto")
        if smoothing:
            raise OptionError("Label smoothing is for labels; the task is language.", "Drop --label-smoothing.")
        if reduction != "mean":
            raise OptionError("Rows of the task language count alike.", "Drop --weights.")
        return mean_surprise

    def mass(self, weights: Tensor | None) -> Callable[[Tensor], Tensor]:
        """Tokens of a batch that count."""
        return _counted

    def metrics(self) -> Mapping[str, Callable[..., float]]:
        """Perplexity of tokens, and bits for each byte of the text, which no tokenizer changes."""
        return {"perplexity": Perplexity(), "bits_per_byte": BitsPerByte()}

    def torchmetrics_arguments(self) -> dict[str, Any]:
        """None: its classes take logits."""
        raise OptionError("Classes of torchmetrics take logits.", "--metrics perplexity,bits_per_byte")

    def constant_table(self, known: Tensor) -> Tensor:
        """Surprise of one who knows how frequent tokens are."""
        import torch

        return torch.full_like(known, self.surprise)

    def constant_outputs(self, known: Tensor, classes: Tensor | None, smoothing: float) -> Tensor:
        """Surprise of one who knows how frequent tokens are."""
        return self.constant_table(known[0]).double()


def is_language(task: Any) -> bool:
    """Whether a task that was requested is to learn a language.

    Parameters
    ----------
    task : Any
        Name of a task, or whatever else a request may hold.
    """
    return isinstance(task, str) and task in tasks and issubclass(tasks.get(task), Language)


def mean_surprise(outputs: Tensor, target: Tensor) -> Tensor:
    """The mean surprise of tokens that count, in nats.

    Parameters
    ----------
    outputs, target : Tensor, shape (n, tokens)
        Surprise at each token, and its bytes.
    """
    there = target > 0
    return (outputs * there).sum() / there.sum().clamp(min=1)


def _counted(target: Tensor) -> Tensor:
    return (target > 0).sum()


class _OfSurprise:
    """A metric of all surprise, and what it is shared out over."""

    metric = staticmethod(whole.accuracy)  # one of the package, so that it is taken of a constant answer as well
    higher_is_better = False

    def share(self, total: float, tokens: float, size: float) -> float:
        """From the sum of the surprise, and the number of tokens and of their bytes."""
        raise NotImplementedError

    def accumulator(self, of: Any) -> _Sums:
        """What takes it some rows at a time."""
        return _Sums(self)

    def __call__(self, decoded: Tensor, target: Tensor, weights: Tensor | None = None) -> float:
        """The metric of some rows."""
        found = _Sums(self)
        found.update(decoded, target)
        return found.result()


class _Sums:
    def __init__(self, metric: _OfSurprise) -> None:
        self._metric, self._total, self._tokens, self._bytes = metric, 0.0, 0.0, 0.0

    def update(self, decoded: Tensor, target: Tensor, weights: Tensor | None = None) -> None:
        """Take in some rows."""
        there = target > 0
        self._total += float((decoded.double() * there).sum())
        self._tokens += float(there.sum())
        self._bytes += float(target.double().sum())

    def result(self) -> float:
        """The metric of all of them."""
        return self._metric.share(self._total, self._tokens, self._bytes)


class Perplexity(_OfSurprise):
    """Of how many tokens, all as likely, the next one would be as surprising."""

    def share(self, total: float, tokens: float, size: float) -> float:
        """E to the mean surprise."""
        return math.exp(min(total / max(tokens, 1.0), 700.0))


class BitsPerByte(_OfSurprise):
    """Bits that each byte of the text takes."""

    def share(self, total: float, tokens: float, size: float) -> float:
        """The surprise in bits, over bytes."""
        return total / math.log(2) / max(size, 1.0)
