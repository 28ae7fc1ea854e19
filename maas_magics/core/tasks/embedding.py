"""A vector of each value, near those of the values that it stands beside in a row: search, similarity, clusters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import Decision, Link, Task, TaskName

if TYPE_CHECKING:
    from torch import Tensor, nn

SCALE = 20.0
"""What cosines are multiplied by in the loss, as in sentence-transformers' MultipleNegativesRankingLoss."""

NEGATIVES = 4_096
"""Pairs of a batch that are negatives of each other at most: the loss of more is the mean over parts."""


@tasks.register("embedding")
class Embedding(Task, frozen=True, tag="embedding"):
    """A vector of length 1 for each value of two columns; rows come as two, one for each column.

    Attributes
    ----------
    size : int
        Numbers of a vector; 0 until the network is known.
    """

    size: int = 0

    task: ClassVar[TaskName] = "embedding"
    usual_link: ClassVar[Link] = "identity"
    of_pairs: ClassVar[bool] = True
    decision: ClassVar[Decision] = ""
    usual_metrics: ClassVar[tuple[str, ...]] = ("recall@1", "recall@10", "mrr")
    usual_monitor: ClassVar[str] = "mrr"
    metric_example: ClassVar[str] = "a function"

    @classmethod
    def fit(cls, values: Array, names: tuple[str, ...], *, standardise: bool, ignored: int | None = None) -> Task:
        """Fit it to numbers of values and of pairs, int64 (n, 2)."""
        if len(names) != 2 or values.ndim != 2 or values.dtype.kind != "i":
            raise DataError("The task embedding learns pairs of values.", "--pairs question,answer names two columns.")
        if len(np.unique(values[:, 0])) < 3:
            raise DataError(
                f"The columns {names[0]!r} and {names[1]!r} have one pair only: nothing tells it from others.",
                "Give rows of at least two different pairs.",
            )
        return cls(names)

    def of_network(self, net: nn.Module) -> Task:
        """The same with the size of the network's vectors."""
        return msgspec.structs.replace(self, size=int(getattr(net, "size", 0)))

    @property
    def description(self) -> str:
        """Of which columns."""
        return f"{self.task} of {self.names[0]} and {self.names[1]}"

    @property
    def outputs(self) -> int:
        """Numbers of a vector."""
        return self.size

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Vectors."""
        return (TensorSpec("prediction", "FP32", (-1, self.size), "a vector of length 1"),)

    def encode(self, values: Array) -> Array:
        """Numbers of values and of pairs, int64 (n, 2)."""
        return self.known(values)

    def known(self, values: Array) -> Array:
        """Numbers of values and of pairs, int64 (n, 2)."""
        return values.astype(np.int64)

    # --- outputs and targets as tensors ---

    def decoder(self) -> nn.Module:
        """Vectors of length 1."""
        from maas_magics.core.tasks.decode import DecodeVectors

        return DecodeVectors()

    def loss(
        self, name: str, weights: Tensor | None, smoothing: float, reduction: str = "mean"
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Cross entropy of each pair among those of its batch, in both directions; see `contrastive`."""
        if name not in ("auto", "cross_entropy"):
            raise OptionError(f"The loss {name!r} is not for vectors; the task is embedding.", "--loss auto")
        if smoothing:
            raise OptionError("Label smoothing is for labels; the task is embedding.", "Drop --label-smoothing.")
        if reduction != "mean":
            raise OptionError("Rows of the task embedding count alike.", "Drop --weights.")
        return contrastive

    def metrics(self) -> Mapping[str, Callable[..., float]]:
        """Whether the second value of a row is found by the first among those of all rows."""
        from maas_magics.core.tasks.retrieval import Ranks, RetrievalMetric

        found = Ranks()
        return {name: RetrievalMetric(name, found) for name in ("recall@1", "recall@5", "recall@10", "mrr")}

    def torchmetrics_arguments(self) -> dict[str, Any]:
        """None: its classes take no pairs."""
        raise OptionError("Classes of torchmetrics take no pairs of vectors.", "--metrics recall@1,mrr")

    def constant(self, known: Tensor) -> Tensor:
        """The same vector for all, among which the right one is found by chance."""
        import torch

        return torch.zeros(self.size, dtype=torch.float64, device=known.device)

    def constant_outputs(self, known: Tensor, classes: Tensor | None, smoothing: float) -> Tensor:
        """The same vector for all."""
        return self.constant(known)


def contrastive(outputs: Tensor, target: Tensor) -> Tensor:
    """The mean cross entropy of each pair's cosine, times `SCALE`, among those of one value and all others' partners.

    InfoNCE (van den Oord et al. 2018) with the other pairs of a batch as negatives (Henderson et al. 2017), of the
    first values among the second and of the second among the first (Radford et al. 2021). Pairs that share a value
    are not negatives of each other, and no value is one of itself.

    Parameters
    ----------
    outputs : Tensor, shape (n, d)
        Vectors of any length, of the two values of each pair one after the other.
    target : Tensor, shape (n, 2)
        Number of each row's value, and of its pair.
    """
    import torch
    from torch.nn import functional

    from maas_magics.core.tasks.retrieval import pairs_of

    every = pairs_of(target)
    vectors = functional.normalize(outputs.float(), dim=1)
    total = vectors.sum() * 0.0
    for first in torch.split(every, NEGATIVES):
        one, other = target[first, 0], target[first + 1, 0]
        logits = SCALE * vectors[first] @ vectors[first + 1].T
        same = (one[:, None] == one) | (other[:, None] == other) | (one[:, None] == other)
        same.fill_diagonal_(False)
        logits = logits.masked_fill(same, -torch.inf)
        right = torch.arange(len(first), device=logits.device)
        for each in (logits, logits.T):
            total = total + functional.cross_entropy(each, right, reduction="sum") / 2
    return total / max(1, len(every))
