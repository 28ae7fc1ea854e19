"""Steps that are too large for memory: distinguished from other failures, and taken in parts."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.api.errors import MaasError
from maas_magics.core.compat.modules import is_batch_norm

WORDS = ("out of memory", "allocate memory", "not enough memory", "alloc_failed")
"""What errors say that have no class of their own: those of a CPU, of MPS, of cuBLAS."""

Step = Callable[[tuple[Any, ...], Tensor], "float | Tensor"]
"""From the inputs and the target of a batch to its loss; updates the network."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was too small, whichever device it is of."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in WORDS)


def give_back(error: BaseException) -> None:
    """Free the tensors that an error's frames hold, and what the device's allocator keeps of them."""
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def first_line(error: BaseException) -> str:
    """What an error says, in short."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")


def error_of(error: BaseException) -> MaasError:
    """The error of a training that ended so."""
    return MaasError(
        f"Memory is too small for the training: {first_line(error)}.",
        "--batch-size auto finds one that fits; where there is a checkpoint, --resume resumes from it.",
    )


@dataclass
class MicroBatching:
    """How the steps of a training are divided, and who is notified of it.

    Attributes
    ----------
    parts : int
        Parts of a batch.
    notify : callable
        Gets a sentence when there become more.
    least : int
        Rows that a part has at least.
    """

    parts: int = 1
    notify: Callable[[str], None] = lambda text: None
    least: int = 1


class MicroBatchedStep:
    """A step that, where memory is too small for it, is taken in parts whose gradients add up.

    The mean over the rows stays what it was, but for what a layer computes over a whole batch, as batch-norm does.
    A step that failed after its gradient was complete is not taken again: weights may have moved.

    Parameters
    ----------
    net : nn.Module
    whole : callable
        Takes a step on a batch, or on a group of batches; see `maas_magics.core.batches.accumulate`.
    grouped : bool
        Whether it takes groups.
    in_parts : callable
        Makes the step that takes a group of batches.
    division : MicroBatching
    """

    def __init__(
        self, net: nn.Module, whole: Step, grouped: bool, in_parts: Callable[[], Step], division: MicroBatching
    ) -> None:
        self._whole, self._grouped, self._in_parts, self._division = whole, grouped, in_parts, division
        norms = any(is_batch_norm(m) for m in net.modules())
        self._least = max(division.least, 2 if norms else 1)
        self._parted: Step | None = None

    def __call__(self, inputs: tuple[Any, ...], target: Tensor) -> float | Tensor:
        """Take the step, in as many parts as it needs."""
        if self._division.parts == 1:
            try:
                return self._whole(inputs, target)
            except (RuntimeError, MemoryError) as error:
                self._divide(error, inputs, target)
        while True:
            self._parted = self._parted or self._in_parts()
            try:
                return self._parted(self._parts(inputs, target), target)
            except (RuntimeError, MemoryError) as error:
                self._divide(error, inputs, target)

    def _parts(self, inputs: tuple[Any, ...], target: Tensor) -> tuple[Any, ...]:
        """A batch, or each one of a group, in parts that differ by a row at most."""
        group = inputs if self._grouped else ((inputs, target),)
        found: list[Any] = []
        for tensors, answers in group:
            count = min(self._division.parts, max(1, len(answers) // self._least))
            each = [torch.tensor_split(x, count) for x in (*tensors, answers)]
            found += [(tuple(part[:-1]), part[-1]) for part in zip(*each, strict=True)]
        return tuple(found)

    def _divide(self, error: Exception, inputs: tuple[Any, ...], target: Tensor) -> None:
        """Twice the parts; raises where that would not help."""
        if not is_out_of_memory(error) or not _before_the_update(error):
            raise error
        rows = max(len(answers) for _, answers in inputs) if self._grouped else len(target)
        had = min(self._division.parts, max(1, rows // self._least))
        if rows // (had + 1) < self._least:
            raise MaasError(
                f"Not even {-(-rows // had)} rows at a time fit into memory: {first_line(error)}.",
                "A smaller network, or --precision bf16.",
            ) from None
        reason = first_line(error)
        give_back(error)
        self._division.parts = 2 * had
        self._division.notify(
            f"{rows} rows are too many for memory ({reason}): from here on a step takes them in {2 * had} parts, "
            "and adds up their gradients."
        )


def _before_the_update(error: BaseException) -> bool:
    """Whether a step failed while its gradient was made."""
    return any(frame.f_code.co_name == "_gradients" for frame, _ in traceback.walk_tb(error.__traceback__))
