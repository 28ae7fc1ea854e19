"""Processes that train one network: who takes which rows, and what they agree on.

Every worker draws the same order of rows from the same seed, and takes a contiguous part of every batch. The
gradient of a batch is the sum of the parts' gradients, each weighted by its share of the batch, so that it is the
gradient that one process computes; it and the loss go through one round of sums, with which the first worker also
sends word of a stop or a checkpoint. So all do the same at the same step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import cast

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from maas_magics.api.events import Event
from maas_magics.core.context import Stopping
from maas_magics.core.training.batches import Batch, InMemory
from maas_magics.core.training.checkpoint import Checkpoints, random_state
from maas_magics.core.training.loop import Fit
from maas_magics.core.training.losses import Loss
from maas_magics.core.training.optimizers import Optimizer
from maas_magics.core.training.plan import Plan
from maas_magics.core.training.step import TrainStep

SAVE = "save"
WORDS = ("", "soft", "hard", "suspend", SAVE)

PATIENCE = timedelta(minutes=30)
"""How long a worker waits for the others."""


class Group:
    """One process among all workers.

    Parameters
    ----------
    rank, size : int
    device : torch.device
    """

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device
        self.first = rank == 0

    def total(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over all workers."""
        waiting = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
        for work in waiting:
            if work is not None:
                work.wait()

    def told(self, data: bytes) -> bytes:
        """What the first worker gives."""
        length = torch.tensor([len(data)], device=self.device)
        dist.broadcast(length, 0)
        found = torch.empty(int(length), dtype=torch.uint8, device=self.device)
        if self.first and data:
            found.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        if len(found):
            dist.broadcast(found, 0)
        return bytes(found.cpu().numpy())

    def everyones(self, tensor: Tensor) -> list[Tensor]:
        """The tensor of each worker, all of one shape, in the order of ranks."""
        mine = tensor.to(self.device).contiguous()
        found = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(found, mine)
        return [each.cpu() for each in found]

    def like_first(self, net: nn.Module) -> None:
        """Give every worker the buffers of the first, such as the running statistics of batches."""
        for buffer in net.buffers():
            if not isinstance(buffer, DTensor):
                dist.broadcast(buffer, 0)


class Share(InMemory):
    """A worker's part of every batch.

    Parameters
    ----------
    inputs, target, batch_size
        As `InMemory` takes them: all rows, and the rows of a step of all workers.
    group : Group
    least : int
        Rows of a part, where the batch has so many. A worker for which none are left takes the first rows along,
        which count for nothing.
    weights : Tensor, optional
        Weight of each class, where the loss is a mean that is weighted so.
    """

    def __init__(
        self,
        inputs: tuple[Tensor, ...],
        target: Tensor,
        batch_size: int,
        group: Group,
        least: int = 1,
        weights: Tensor | None = None,
    ) -> None:
        super().__init__(inputs, target, batch_size)
        self._group, self._least, self._weights = group, least, weights
        self.count = 0
        """Rows of the present batch, of all workers."""
        self.part = 0.0
        """How much this worker's rows count in the mean over the batch, 0 to 1."""

    def epoch(self, generator: torch.Generator, start: int = 0) -> Iterator[Batch]:
        """The worker's part of every batch of an epoch; those before ``start`` are left out."""
        order = torch.randperm(self.rows, generator=generator).to(self.target.device)
        size, rank = self.batch_size, self._group.rank
        for first in range(start * size, min(self.rows, self.steps * size), size):
            batch = order[first : first + size]
            rows = self.count = len(batch)
            takers = min(self._group.size, max(1, rows // self._least))
            if rank < takers:
                mine = batch[rank * rows // takers : (rank + 1) * rows // takers]
                self.part = self._weight(mine) / self._weight(batch)
            else:
                mine, self.part = batch[: self._least], 0.0
            yield tuple(x.index_select(0, mine) for x in self.inputs), self.target.index_select(0, mine)

    def _weight(self, rows: Tensor) -> float:
        if self._weights is None:
            return len(rows)
        return float(self._weights[self.target.index_select(0, rows)].double().sum())


class SharedStep(TrainStep):
    """`TrainStep` on this worker's rows, with the gradient of all rows.

    Parameters
    ----------
    net, optimizer, loss_of
        As in `TrainStep`.
    group : Group
    share : Share
    wish : callable
        What the first worker wants all to do after this step, one of `WORDS`.
    sharded : bool
        Whether the network averages gradients over workers itself, as a sharded one does.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Optimizer,
        loss_of: Loss,
        group: Group,
        share: Share,
        wish: Callable[[], str],
        sharded: bool,
    ) -> None:
        super().__init__(net, optimizer, loss_of)
        self._group, self._share, self._wish, self._sharded = group, share, wish, sharded
        self._gradients_of = optimizer.gradients
        exact = torch.float32 if group.device.type == "mps" else torch.float64
        self._figures = torch.zeros(2, dtype=exact, device=group.device)
        self.word = ""
        """What all do before the next step."""

    def _gradients(self, inputs: tuple[Tensor, ...], target: Tensor) -> float:
        self._zero()
        part = self._share.part
        loss = self._loss(inputs, target) * part if part else self._net(*inputs).sum() * 0.0
        self._backward(loss * self._group.size if self._sharded else loss)
        self._figures[0] = loss.detach()
        self._figures[1] = WORDS.index(self._wish()) if self._group.first else 0
        self._group.total([self._figures] if self._sharded else [*self._gradients_of(), self._figures])
        mean, word = self._figures.tolist()
        self.word = WORDS[round(word)]
        return float(mean)


class SharedFit(Fit):
    """`Fit` in one of several workers, all of which go through the same steps.

    Parameters
    ----------
    net, optimizer, train, validation, plan, emit, checkpoints
        As in `Fit`; ``emit`` does something in the first worker only.
    group : Group
    wish : callable
        In the first worker, what somebody wants of the training.
    figures : callable
        In the first worker, figures of the outputs for all held-out rows.
    sharded : bool
        See `SharedStep`.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Optimizer,
        train: Share,
        validation: InMemory | None,
        plan: Plan,
        emit: Callable[[Event], None],
        checkpoints: Checkpoints,
        *,
        group: Group,
        wish: Callable[[], Stopping],
        figures: Callable[[Tensor], dict[str, float]],
        sharded: bool,
    ) -> None:
        super().__init__(net, optimizer, train, validation, plan, emit, self._agreed, checkpoints)
        self._group, self._wish, self._figures = group, wish, figures
        self._share = train
        self._kept = checkpoints.cadence
        self._steps = 0
        self._shared = SharedStep(net, optimizer, plan.loss, group, train, self._wanted, sharded)

    def _make_step(self) -> SharedStep:
        return self._shared

    def _count(self, target: Tensor) -> int:
        return self._share.count

    def _wanted(self) -> str:
        self._steps += 1
        return self._wish() or (SAVE if self._kept.due(self._steps) else "")

    def _agreed(self) -> Stopping:
        return cast(Stopping, self._shared.word)

    def _train_epoch(self) -> Stopping:
        """As in one process; for a checkpoint the epoch is left, and gone on with."""
        self._steps = self._step
        while (stop := super()._train_epoch()) == SAVE:
            self._shared.word = ""
            self._save()
        return stop

    def _batches(self) -> Iterator[Batch]:
        if self._begun:
            self._order.set_state(self._begin["order"])
        else:
            self._begun = True
            self._begin = {"order": self._order.get_state(), "random": random_state()}
        return self._share.epoch(self._order, self._done)

    def _due(self, step: int, *, epoch_end: bool = False) -> bool:
        if not epoch_end:
            return False  # inside an epoch all learn of it with the sums
        return self._group.told(b"1" if super()._due(step, epoch_end=True) else b"") == b"1"

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        """Each worker asks the network its part of the held-out rows; the first makes figures of all."""
        group, held = self._group, self._held
        group.like_first(self._net)
        if held is None:
            return {}
        self._net.eval()
        outputs = torch.cat([self._net(*inputs) for inputs, _ in held.whole()])
        whole = torch.cat(group.everyones(outputs.float()))[: held.rows]
        told = msgspec.msgpack.encode(self._figures(whole)) if group.first else b""
        return msgspec.msgpack.decode(group.told(told), type=dict[str, float])


class HeldShare(InMemory):
    """A worker's held-out rows: as many for each, the last row again where they are too few.

    Parameters
    ----------
    inputs, target, batch_size
        As `InMemory` takes them.
    group : Group
    """

    def __init__(self, inputs: tuple[Tensor, ...], target: Tensor, batch_size: int, group: Group) -> None:
        each = -(-len(target) // group.size)
        mine = torch.arange(group.rank * each, (group.rank + 1) * each).clamp(max=len(target) - 1).to(target.device)
        super().__init__(tuple(x.index_select(0, mine) for x in inputs), target.index_select(0, mine), batch_size)
        self.rows = len(target)
        self._each = each

    def whole(self) -> Iterator[Batch]:
        """The worker's rows, in order."""
        for start in range(0, self._each, self.measure):
            stop = start + self.measure
            yield tuple(x[start:stop] for x in self.inputs), self.target[start:stop]
