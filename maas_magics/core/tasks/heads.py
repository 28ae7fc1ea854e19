"""Several targets at once: a task for each, side by side, of a network that answers each with a head of its own.

Outputs of all heads stand in one tensor, (n, numbers), one head behind the other, and so do encoded targets and decoded
answers: batches, steps, checkpoints and graphs see one tensor, as of any network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import msgspec
import numpy as np

from maas_magics.api.errors import OptionError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.tasks.base import Decision, Link, Task

if TYPE_CHECKING:
    from torch import Tensor, nn


class Heads(Task, frozen=True, tag="heads"):
    """A task for each of several targets; ``names`` are those of the heads.

    Attributes
    ----------
    heads : tuple of Task
    widths : tuple of int
        Numbers of a row that the network puts out for each head; as many as its task requests where empty.
    loss_weights : tuple of float
        Weight of each head's loss in their sum.
    """

    heads: tuple[Task, ...] = ()
    widths: tuple[int, ...] = ()
    loss_weights: tuple[float, ...] = ()

    task: ClassVar[str] = "heads"
    usual_link: ClassVar[Link] = "identity"
    decision: ClassVar[Decision] = ""
    usual_metrics: ClassVar[tuple[str, ...]] = ()
    metric_example: ClassVar[str] = "MeanSquaredError of a model of one target"

    # --- where each head stands ---

    @property
    def parts(self) -> tuple[Task, ...]:
        """The task of each head."""
        return self.heads

    @property
    def part_weights(self) -> tuple[float, ...]:
        """Weight of each head's loss in their sum."""
        return self.loss_weights

    def with_parts(self, parts: Sequence[Task], widths: Sequence[int], weights: Sequence[float]) -> Self:
        """The same with the heads that a network turns out to have."""
        return msgspec.structs.replace(self, heads=tuple(parts), widths=tuple(widths), loss_weights=tuple(weights))

    @property
    def output_widths(self) -> tuple[int, ...]:
        """Numbers of a row of outputs, by head."""
        return self.widths or tuple(head.outputs for head in self.heads)

    @property
    def target_widths(self) -> tuple[int, ...]:
        """Numbers of a row of encoded targets, by head: one for a label of several."""
        return tuple(head.target_width for head in self.heads)

    @property
    def answer_widths(self) -> tuple[int, ...]:
        """Numbers of a row of decoded answers, by head."""
        return tuple(math.prod(head.specs[-1].shape[1:]) for head in self.heads)

    @property
    def answer_type(self) -> Literal["FP32", "FP64"]:
        """Type of decoded answers, which holds those of every head."""
        return "FP64" if any(head.specs[-1].datatype == "FP64" for head in self.heads) else "FP32"

    def outputs_of(self, outputs: Tensor) -> list[Tensor]:
        """Outputs of each head, (n, numbers)."""
        return _split(outputs, self.output_widths)

    def targets_of(self, target: Tensor) -> list[Tensor]:
        """Encoded target of each head as its own loss takes it."""
        parts = _split(target, self.target_widths)
        return [head.as_encoded(part) for head, part in zip(self.heads, parts, strict=True)]

    def answers_of(self, decoded: Array) -> list[Array]:
        """Decoded answers of each head, in its own shape and type."""
        parts = np.split(decoded, list(accumulate(self.answer_widths))[:-1], axis=1)
        wanted = (head.specs[-1] for head in self.heads)
        return [
            part.reshape(len(part), *spec.shape[1:]).astype(np.float64 if spec.datatype == "FP64" else np.float32)
            for part, spec in zip(parts, wanted, strict=True)
        ]

    def together(self, answers: Sequence[Array]) -> Array:
        """Decoded answers of all heads, (n, numbers), from those of each."""
        kind = np.float64 if self.answer_type == "FP64" else np.float32
        return np.concatenate([part.reshape(len(part), -1).astype(kind) for part in answers], axis=1)

    # --- the target, without torch ---

    @property
    def description(self) -> str:
        """What each head learns."""
        return "; ".join(f"{name}: {head.description}" for name, head in zip(self.names, self.heads, strict=True))

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Those of each head."""
        pairs = zip(self.names, self.heads, strict=True)
        return tuple(f"{name}_{metric}" for name, head in pairs for metric in head.default_metrics)

    @property
    def outputs(self) -> int:
        """Those of all heads."""
        return sum(self.output_widths)

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """The outputs of each head, by its name."""
        return tuple(spec for specs in self.part_specs for spec in specs)

    @property
    def part_specs(self) -> tuple[tuple[TensorSpec, ...], ...]:
        """Outputs of an exported model, by head; the last of each is its decoded answer."""
        return tuple(
            tuple(msgspec.structs.replace(spec, name=named(name, spec.name)) for spec in head.specs)
            for name, head in zip(self.names, self.heads, strict=True)
        )

    @property
    def decoded_spec(self) -> TensorSpec:
        """Decoded answers of all heads side by side."""
        return TensorSpec("answers", self.answer_type, (-1, sum(self.answer_widths)))

    def decoded_from(self, outputs: Mapping[str, Array]) -> Array:
        """Decoded answers of all heads, from the outputs of an exported model."""
        return self.together([outputs[specs[-1].name] for specs in self.part_specs])

    def encode(self, values: Array) -> Array:
        """Encoded targets of all heads, float32 (n, numbers)."""
        parts = [head.encode(values[name]) for name, head in zip(self.names, self.heads, strict=True)]
        return np.concatenate([part.reshape(len(part), -1).astype(np.float32) for part in parts], axis=1)

    def known(self, values: Array) -> Array:
        """Targets of all heads as metrics take them, float64 (n, numbers)."""
        parts = [head.known(values[name]) for name, head in zip(self.names, self.heads, strict=True)]
        return np.concatenate([part.reshape(len(values), -1).astype(np.float64) for part in parts], axis=1)

    def check_rows(self, values: Array) -> None:
        """Raise `DataError` where a target has other numbers of a row."""
        for name, head in zip(self.names, self.heads, strict=True):
            head.check_rows(values[name])

    def same_encoding(self, other: Task) -> bool:
        """Whether each head's is the same."""
        return len(self.parts) == len(other.parts) and all(
            head.same_encoding(before) for head, before in zip(self.parts, other.parts, strict=True)
        )

    def difference(self, before: Array, after: Array) -> float:
        """The largest of any head."""
        pairs = zip(self.heads, self.answers_of(before), self.answers_of(after), strict=True)
        return max(head.difference(mine, theirs) for head, mine, theirs in pairs)

    # --- outputs and targets as tensors ---

    def decoder(self) -> nn.Module:
        """Decoded answers of all heads, (n, numbers)."""
        from maas_magics.core.tasks.decode import DecodeHeads

        return DecodeHeads([head.decoder() for head in self.heads], self.output_widths, self.answer_type == "FP64")

    def truth(self, target: Tensor) -> Tensor:
        """Targets of all heads as metrics take them, float64 (n, numbers)."""
        import torch

        pairs = zip(self.heads, self.targets_of(target), strict=True)
        return torch.cat([head.truth(part).reshape(len(target), -1).double() for head, part in pairs], dim=1)

    def recoded(self, target: Tensor, after: Task) -> Tensor:
        """Encoded target of each head as another one has it, side by side."""
        import torch

        pairs = zip(self.heads, after.parts, self.targets_of(target), strict=True)
        parts = [old.recoded(part, new) for old, new, part in pairs]
        return torch.cat([part.reshape(len(target), -1).float() for part in parts], dim=1)

    def encode_batch(self, target: Any) -> Tensor:
        """Targets of a batch, one tensor for each head, side by side as float32."""
        import torch

        pairs = zip(self.heads, target, strict=True)
        return torch.cat([head.encode_batch(part).reshape(len(part), -1).float() for head, part in pairs], dim=1)

    def mean_outputs(self, outputs: Tensor) -> Tensor:
        """Outputs of each head of an ensemble, (n, numbers), by those of its members, (members, n, numbers)."""
        import torch

        pairs = zip(self.heads, self.outputs_of(outputs), strict=True)
        return torch.cat([head.mean_outputs(part) for head, part in pairs], dim=-1)

    def clamped(self, values: Array) -> Self:
        """The same, with the predicted quantities of each head kept in the range of its training targets."""
        heads = (head.clamped(values[name]) for name, head in zip(self.names, self.heads, strict=True))
        return msgspec.structs.replace(self, heads=tuple(heads))

    def loss(
        self, name: str, weights: Tensor | None, smoothing: float, reduction: str = "mean"
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """See `maas_magics.core.losses.heads`, which has a loss for each head."""
        raise OptionError("Several targets have a loss each.", '--loss "a=mse,b=cross_entropy"')

    def metrics(self) -> Mapping[str, Callable[..., float]]:
        """Metrics of each head, by its name and theirs."""
        pairs = enumerate(zip(self.names, self.heads, strict=True))
        return {
            f"{name}_{metric}": HeadMetric(figure, self, place)
            for place, (name, head) in pairs
            for metric, figure in (head.metrics() if head.shape is None else {}).items()
        }

    def truths_of(self, known: Tensor) -> list[Tensor]:
        """Targets of each head as its own metrics take them, from those of all."""
        parts = _split(known, [head.known_width for head in self.heads])
        return [head.as_known(part) for head, part in zip(self.heads, parts, strict=True)]

    def constant_table(self, known: Tensor) -> Tensor:
        """What a constant of each head answers, float64 (n, numbers)."""
        import torch

        rows = len(known)
        pairs = zip(self.heads, self.truths_of(known), strict=True)
        return torch.cat([head.constant_table(part).reshape(rows, -1) for head, part in pairs], dim=1)

    def constant_outputs(self, known: Tensor, classes: Tensor | None, smoothing: float) -> Tensor:
        """Outputs that say a constant of each head."""
        import torch

        from maas_magics.core.tasks.class_weights import weights_of

        parts = zip(self.heads, self.truths_of(known), weights_of(self, classes), strict=True)
        return torch.cat([head.constant_outputs(part, weights, smoothing) for head, part, weights in parts])


def named(head: str, output: str) -> str:
    """What an output of a head is called: ``kind`` for its prediction, ``kind_probabilities``."""
    return head if output == "prediction" else f"{head}_{output}"


def _split(numbers: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """Parts of (n, numbers), or of (n, members, numbers) of an ensemble, so many of them each."""
    from torch import split

    return list(split(numbers, list(widths), dim=-1))


class HeadMetric:
    """A metric of one head, of the answers of all.

    Parameters
    ----------
    metric : callable
        The head's own.
    heads : Heads
        The fitted targets of all heads.
    place : int
        Which head.
    """

    def __init__(self, metric: Callable[..., float], heads: Heads, place: int) -> None:
        self.metric, self._heads, self._place = metric, heads, place

    def __call__(self, decoded: Tensor, known: Tensor, weights: Tensor | None = None) -> float:
        """The metric of some rows."""
        table, truth, weights = self.part(decoded, known, weights)
        return self.metric(table, truth) if weights is None else self.metric(table, truth, weights)

    def accumulator(self, make: Callable[[Any], Any]) -> HeadAccumulator:
        """What takes it some rows at a time; ``make`` makes that of the head's own metric."""
        return HeadAccumulator(self, make(self.metric))

    def part(self, decoded: Tensor, known: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Answers, target and weights as the head's own metric takes them."""
        heads, place = self._heads, self._place
        head = heads.heads[place]
        part = _split(decoded, heads.answer_widths)[place]
        table = head.table(part.reshape(len(part), *head.specs[-1].shape[1:]))
        if head.specs[-1].datatype == "FP32":
            table = table.float()
        weights = None if weights is None else head.row_weights(weights)
        return head.scored(table, heads.truths_of(known)[place], weights)


class HeadAccumulator:
    """A metric of one head, some rows at a time.

    Parameters
    ----------
    metric : HeadMetric
        The metric, and which head it is of.
    inner : Accumulator
        Of the head's own metric.
    """

    def __init__(self, metric: HeadMetric, inner: Any) -> None:
        self._metric, self._inner = metric, inner

    def update(self, decoded: Tensor, known: Tensor, weights: Tensor | None = None) -> None:
        """Take in some rows."""
        self._inner.update(*self._metric.part(decoded, known, weights))

    def result(self) -> float:
        """The metric of all rows so far."""
        return float(self._inner.result())
