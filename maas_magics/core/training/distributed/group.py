"""Processes that train one network: who takes which rows, and what they agree on.

Every worker draws the same order of rows from the same seed, and takes a contiguous part of every batch. The
gradient of a step is the sum of the parts' gradients, each weighted by its share of the step's rows, so that it is the
gradient that one process computes; it and the loss go through one round of sums, with which the first worker also
sends word of a stop or a checkpoint. So all do the same at the same step. What is done with the gradient from there
on, each does by itself: a limit, an average, the update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, cast

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor, nn

from maas_magics.api.events import Event
from maas_magics.core.batches.batches import Batch, InMemory
from maas_magics.core.context import Stopping
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.training.checkpoint import Checkpoints
from maas_magics.core.training.loop import Fit
from maas_magics.core.training.plan import Plan
from maas_magics.core.training.steps.full_step import FullStep
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.random_numbers import random_state

SAVE = "save"
WORDS = ("", "soft", "hard", "suspend", SAVE)

PATIENCE = timedelta(minutes=30)
"""How long a worker waits for the others."""


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is spread over workers, without its class, which takes half a second to import."""
    return hasattr(tensor, "full_tensor")


class ProcessGroup:
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
            if not is_sharded(buffer):
                dist.broadcast(buffer, 0)


class ShardedBatches(InMemory):
    """A worker's part of every batch, in groups, one for each step of the optimizer; see `Grouped`.

    Parameters
    ----------
    inputs, target, batch_size : Any
        As `InMemory` takes them: all rows, and those of a batch of all workers.
    group : ProcessGroup
    least : int
        Rows of a part, where the batch has so many. A worker for which none are left gets the first rows without a
        target, which count for nothing.
    together : int
        Batches of a step.
    mass : callable, optional
        From a target to what its rows count in the mean; their number when None.
    draw : callable, optional
        As `InMemory` takes it.
    """

    def __init__(
        self,
        inputs: tuple[Tensor, ...],
        target: Tensor,
        batch_size: int,
        group: ProcessGroup,
        least: int = 1,
        *,
        together: int = 1,
        mass: Callable[[Tensor], Tensor] | None = None,
        draw: Callable[[torch.Generator], Tensor] | None = None,
    ) -> None:
        super().__init__(inputs, target, batch_size, draw=draw)
        self._group, self._least, self._together, self._mass = group, least, together, mass
        self._stop = min(self.rows, self.steps * batch_size)
        self.steps = -(-self.steps // together)
        self.count = 0
        """Rows of the present step, of all workers."""
        self.whole_mass = 0.0
        """What they count."""

    def epoch(self, generator: torch.Generator, start: int = 0) -> Iterator[Any]:
        """The worker's part of every batch of an epoch; the steps before ``start`` are left out."""
        order = self._draw(generator).to(self.target.device)[: self._stop]
        for rows in torch.split(order, self.batch_size * self._together)[start:]:
            self.count = len(rows)
            self.whole_mass = self.mass(self.target.index_select(0, rows))
            batches = tuple(self._mine(batch) for batch in torch.split(rows, self.batch_size))
            yield batches, batches[0][1]

    def mass(self, target: Tensor) -> float:
        """What rows count."""
        return len(target) if self._mass is None else float(self._mass(target))

    def _mine(self, batch: Tensor) -> Batch:
        rows, rank = len(batch), self._group.rank
        takers = min(self._group.size, max(1, rows // self._least))
        if rank < takers:
            return self._at(batch[rank * rows // takers : (rank + 1) * rows // takers])
        inputs, target = self._at(batch[: self._least])
        return inputs, target[:0]


class AllReduce:
    """The round of sums of each step, by which all workers get one gradient, one loss and one word.

    Parameters
    ----------
    group : ProcessGroup
    share : ShardedBatches
    sharded : bool
        Whether the network averages gradients over workers itself, as a sharded one does.
    net : nn.Module
    """

    def __init__(self, group: ProcessGroup, share: ShardedBatches, sharded: bool, net: nn.Module) -> None:
        self._group, self._share, self._sharded = group, share, sharded
        exact = torch.float32 if group.device.type == "mps" else torch.float64
        self._figures = torch.zeros(2, dtype=exact, device=group.device)
        self._factor = group.size if sharded else 1
        self.together = sharded or any(isinstance(part, nn.SyncBatchNorm) for part in net.modules())
        """Whether a pass through the network is one of all workers."""
        self.wish: Callable[[], str] = str
        """In the first worker, what it wants all to do after this step, one of `WORDS`."""
        self.word = ""
        """What all do before the next step."""

    def shares(self, batches: tuple[Any, ...]) -> list[float]:
        """Factor of the loss of each of this worker's batches, or parts of them."""
        whole = self._share.whole_mass
        return [self._share.mass(target) * self._factor / whole if whole else 0.0 for _, target in batches]

    def joined(self, loss: float | Tensor, gradients: Callable[[], list[Tensor]]) -> float:
        """Replace the gradients by their sums; returns the sum of the losses."""
        self._figures[0] = loss
        self._figures[1] = WORDS.index(self.wish()) if self._group.first else 0
        self._group.total([self._figures] if self._sharded else [*gradients(), self._figures])
        mean, word = self._figures.tolist()
        self.word = WORDS[round(word)]
        return float(mean) / self._factor


class SharedStep(FullStep):
    """`FullStep` on this worker's rows, with the gradient of all rows.

    Parameters
    ----------
    net, optimizer, loss_of : Any
        As in `FullStep`.
    sums : AllReduce
        Adds up gradients and losses of all workers.
    **more : Any
        As in `FullStep`.
    """

    def __init__(self, net: nn.Module, optimizer: Optimizer, loss_of: Loss, *, sums: AllReduce, **more: Any) -> None:
        super().__init__(net, optimizer, loss_of, **more)
        self._sums, self._gradients_of = sums, optimizer.gradients

    def _shares(self, batches: tuple[Any, ...]) -> list[float]:
        return self._sums.shares(batches)

    def _one(self, inputs: tuple[Tensor, ...], target: Tensor, share: float) -> float | Tensor:
        if not share and self._sums.together:
            with self._autocast:
                nothing = self._net(*inputs).sum() * 0.0
            self._backward(nothing)
        return super()._one(inputs, target, share)

    def _joined(self, loss: float | Tensor) -> float:
        return self._sums.joined(loss, self._gradients_of)


class SharedFit(Fit):
    """`Fit` in one of several workers, all of which go through the same steps.

    Parameters
    ----------
    net, optimizer, train, validation, plan, emit, checkpoints
        As in `Fit`; ``emit`` does something in the first worker only.
    group : ProcessGroup
    wish : callable
        In the first worker, requests to stop, suspend or save.
    figures : callable
        In the first worker, metrics of the outputs for all held-out rows.
    sums : AllReduce
        Of the steps that ``plan`` makes.
    sharded : bool
        Whether the parameters are spread over the workers.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Optimizer,
        train: ShardedBatches,
        validation: InMemory | None,
        plan: Plan,
        emit: Callable[[Event], None],
        checkpoints: Checkpoints,
        *,
        group: ProcessGroup,
        wish: Callable[[], Stopping],
        figures: Callable[[Tensor], dict[str, float]],
        sums: AllReduce,
        sharded: bool,
    ) -> None:
        super().__init__(net, optimizer, train, validation, plan, emit, self._agreed, checkpoints)
        self._group, self._wish, self._figures = group, wish, figures
        self._share, self._sums, self._sharded = train, sums, sharded
        self._kept = checkpoints.cadence
        self._steps = 0
        sums.wish = self._wanted

    def _count(self, target: Tensor) -> int:
        return self._share.count

    def _wanted(self) -> str:
        self._steps += 1
        return self._wish() or (SAVE if self._kept.due(self._steps) else "")

    def _agreed(self) -> Stopping:
        return cast(Stopping, self._sums.word)

    def _train_epoch(self) -> Stopping:
        """As in one process; for a checkpoint the epoch is left, and resumed."""
        self._steps = self._step
        while (stop := super()._train_epoch()) == SAVE:
            self._sums.word = ""
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
        """Each worker runs the network on its part of the held-out rows; the first computes the metrics of all."""
        group, held = self._group, self._held
        group.like_first(self._net)
        if held is None:
            return {}
        self._net.eval()
        outputs = torch.cat([self._net(*inputs) for inputs, _ in held.whole()])
        if self._sharded:
            cast(Any, self._net).reshard()  # else the next step takes the gathered weights, which may be averages
        whole = torch.cat(group.everyones(outputs.float()))[: held.rows]
        told = msgspec.msgpack.encode(self._figures(whole)) if group.first else b""
        return msgspec.msgpack.decode(group.told(told), type=dict[str, float])


class ShardedValidation(InMemory):
    """A worker's held-out rows: as many for each, the last row again where they are too few.

    Parameters
    ----------
    inputs, target, batch_size
        As `InMemory` takes them.
    group : ProcessGroup
    """

    def __init__(self, inputs: tuple[Tensor, ...], target: Tensor, batch_size: int, group: ProcessGroup) -> None:
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
