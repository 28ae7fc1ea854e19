"""``--batch-size auto``: the largest batch that fits into memory and is no slower, found by real steps.

Every trial is undone to the bit. A device that runs out of memory says so, and the trial was one too many; on a CPU
the system would end the process instead, so there the bytes of a step are counted, and a batch that would take more
than is free is not tried.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from maas_magics.api.errors import MaasError
from maas_magics.core.batches.batches import Batch, Resizable
from maas_magics.core.compat.dispatch import DispatchMode, tensors_in
from maas_magics.core.memory import free_memory, in_words
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.training.steps.out_of_memory import first_line, give_back, is_out_of_memory
from maas_magics.core.training.steps.step_config import StepConfig
from maas_magics.core.training.tuning.snapshot import taken_back

LEAST_STEPS = 8
"""Steps that an epoch should have: larger batches learn too rarely."""

SHARE = 0.8
"""Share of the free memory that a step may take."""

SLOWER = 0.95
"""Share of the most rows a second at which a larger batch still counts as no slower."""

FALLEN = 0.8
"""Share of the most rows a second below which still larger batches are not tried."""

SECONDS, MOST_STEPS, TIMINGS = 0.05, 50, 3
"""What one timing should take, the most steps in it, and how many there are."""


@dataclass(frozen=True)
class BatchSizeResult:
    """A size of batches, and why it is no larger.

    Attributes
    ----------
    size : int
        Rows.
    reason : str
        ``"768 do not fit into memory"``, ``"1024 are 0.8 × as fast a row"``, ``"an epoch has 8 steps"``.
    """

    size: int
    reason: str


class _Counted(DispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of tensors that come and go within it, and the most at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self._now = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {id(tensor.untyped_storage()) for tensor in tensors_in((args, kwargs))}
        found = func(*args, **(kwargs or {}))
        for tensor in tensors_in(found):
            if id(storage := tensor.untyped_storage()) not in before:
                before.add(id(storage))
                size = storage.nbytes()
                self._now += size
                self.most = max(self.most, self._now)
                weakref.finalize(storage, self._gone, size)
        return found

    def _gone(self, size: int) -> None:
        self._now -= size


class _Trials:
    """Steps of a training in batches of any size, each undone.

    ``threads`` gives the threads that a size would have.
    """

    def __init__(
        self,
        regime: StepConfig,
        loss: Loss,
        rows: Batch,
        threads: Callable[[int], AbstractContextManager[Any]],
        free: Callable[[], int],
    ) -> None:
        self._regime, self._loss, self._rows, self._threads, self._free = regime, loss, rows, threads, free
        self._cpu = rows[1].device.type == "cpu"
        self._each = 0.0
        self.reason = ""
        self.speeds: dict[int, float] = {}

    def fits(self, size: int) -> bool:
        """Whether a step of so many rows fits into memory; how fast it is, is kept in ``speeds``."""
        if self._cpu and self._each * size > SHARE * self._free():
            self.reason = f"{size} would take {in_words(self._each * size)}"
            return False
        index = torch.arange(size, device=self._rows[1].device) % len(self._rows[1])
        inputs, target = tuple(x.index_select(0, index) for x in self._rows[0]), self._rows[1].index_select(0, index)
        try:
            with self._threads(size), taken_back(self._regime.net, self._regime.optimizer):
                self._regime.begin(1)
                self.speeds[size] = self._speed(inputs, target)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.reason = f"{size} do not fit into memory"
            if size == 1:
                raise MaasError(
                    f"Not even one row fits into memory: {first_line(error)}.",
                    "A smaller network, or --precision bf16.",
                ) from None
            give_back(error)
            return False
        return True

    def _speed(self, inputs: tuple[Tensor, ...], target: Tensor) -> float:
        """Rows a second."""
        step = self._regime.step(self._loss)
        if self._cpu:
            with _Counted() as counted:
                step(inputs, target)
            self._each = max(counted.most, 1) / len(target)
        begun = time.perf_counter()
        float(step(inputs, target))
        steps = max(1, min(MOST_STEPS, int(SECONDS / max(time.perf_counter() - begun, 1e-6))))
        times = []
        for _ in range(TIMINGS if steps > 1 else 1):
            begun = time.perf_counter()
            for _ in range(steps - 1):
                step(inputs, target)
            float(step(inputs, target))
            times.append(time.perf_counter() - begun)
        return steps * len(target) / median(times)


def find_batch_size(
    regime: StepConfig,
    loss: Loss,
    batches: Resizable,
    *,
    threads: Callable[[int], AbstractContextManager[Any]],
    stopping: Callable[[], Any],
    group: int = 1,
    free: Callable[[], int] = free_memory,
) -> BatchSizeResult:
    """Try batches of twice the rows, and twice again, from the size that ``batches`` have.

    The end is reached when one does not fit into memory, when an epoch would have too few steps, or when rows take
    longer than in smaller batches. Where memory is the limit, it is approached to an eighth.

    Parameters
    ----------
    regime : StepConfig
        Is left as it is, as are network, optimizer and random numbers.
    loss : Loss
    batches : Resizable
    threads : callable
        From a size to a context with the threads that it would train on.
    stopping : callable
        What someone wants; ends the search.
    group : int
        Batches of a step.
    free : callable
        Bytes that are free on a CPU.

    Raises
    ------
    MaasError
        If not even one row fits.
    """
    trials = _Trials(regime, loss, next(iter(batches.whole())), threads, free)
    usual = min(batches.batch_size, batches.rows)
    most = max(usual, batches.rows // (LEAST_STEPS * group))
    size, limit = usual, 0
    while not trials.fits(size):
        size, limit = max(1, size // 2), size
    while not limit and size < most and not stopping():
        following = min(2 * size, most)
        if not trials.fits(following):
            limit = following
            break
        size = following
        if trials.speeds[size] < FALLEN * max(trials.speeds.values()):
            break
    while limit and limit - size > max(1, size // 8) and not stopping():
        between = (size + limit) // 2
        if trials.fits(between):
            size = between
        else:
            limit = between
    fastest = max(trials.speeds.values())
    best = max(size for size, speed in trials.speeds.items() if speed >= SLOWER * fastest)
    larger = min((size for size in trials.speeds if size > best), default=0)
    if larger:
        return BatchSizeResult(best, f"{larger} are {trials.speeds[larger] / trials.speeds[best]:.2g} × as fast")
    return BatchSizeResult(best, trials.reason or f"an epoch has {-(-batches.rows // (best * group))} steps")
