"""State of a training that is spread over workers: whole on disk, in shards in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.core.training.checkpoint import Checkpoints, State
from maas_magics.core.training.distributed.group import ProcessGroup, is_sharded
from maas_magics.core.training.distributed.messages import WorkerConfig

RANDOM = "workers"
"""Key of the states of torch's generator in each worker."""


def shard(net: nn.Module, group: ProcessGroup) -> None:
    """Spread the parameters over the workers, in place; each gathers them for a step and gives them up after it.

    Parameters
    ----------
    net : nn.Module
        On the group's device, with the same weights in every worker.
    group : ProcessGroup
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fully_shard(net, mesh=init_device_mesh(group.device.type, (group.size,)))


def whole(value: Any) -> Any:
    """The same with every sharded tensor in one piece; all workers call it at once."""

    def gathered(tensor: Any) -> Tensor:
        piece: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor
        return piece

    return _mapped(value, gathered)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _mapped(item, change) for name, item in value.items()}
    return [_mapped(item, change) for item in value] if isinstance(value, list) else value


class SharedCheckpoints(Checkpoints):
    """Checkpoints that the first worker writes and every worker reads.

    Parameters
    ----------
    order : WorkerConfig
    group : ProcessGroup
    net : nn.Module
    optimizer : torch.optim.Optimizer
        Whose parameters are sharded as those of ``net`` are.
    before : callable
        See `Checkpoints`; called in the first worker.
    """

    def __init__(
        self,
        order: WorkerConfig,
        group: ProcessGroup,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(Path(order.checkpoints), order.checkpoint_every, order.marks, order.resume, before)
        self.chosen = order.chosen
        self._group, self._net, self._optimizer = group, net, optimizer

    def save(self, state: State) -> None:
        """Write a state; all workers call it at once.

        Raises
        ------
        StoreError
            In the first worker, if it cannot be written.
        """
        state = whole(state)
        parts = torch.tensor(state["regime"]["parts"])
        state["regime"]["parts"] = max(int(each) for each in self._group.everyones(parts))
        state[RANDOM] = self._group.everyones(state["now"]["torch"])
        if self._group.first:
            super().save(state)

    def newest(self) -> tuple[State | None, int]:
        """The newest whole state, as this worker had it."""
        state, broken = super().newest()
        if state is None:
            return None, broken
        if len(state.get(RANDOM, ())) == self._group.size:
            state["now"]["torch"] = state[RANDOM][self._group.rank]
        now = self._net.state_dict()
        for part in ("net", "best"):
            if state[part] is not None:
                state[part] = {name: _as(now[name], tensor) for name, tensor in state[part].items()}
        members = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        for place, entries in state["optimizer"]["state"].items():
            for name, value in entries.items():
                if isinstance(value, Tensor) and value.shape == members[place].shape:
                    entries[name] = _as(members[place], value)
        average = state["regime"]["average"]
        state["regime"]["average"] = [_as(like, mean) for like, mean in zip(members, average, strict=False)]
        return state, broken


def _as(like: Any, tensor: Tensor) -> Tensor:
    """A whole tensor, sharded as another is."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
