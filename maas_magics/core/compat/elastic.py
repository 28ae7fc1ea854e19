"""torch's elastic agent, which starts the workers of a distributed training and looks after them."""

from __future__ import annotations

from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

from maas_magics.api.errors import incompatible

_NEEDED = ("_monitor_workers", "_stop_workers", "_remaining_restarts")


class WatchedAgent(LocalElasticAgent):
    """An agent each of whose looks at its workers goes through `watch`.

    Private are the methods that torch's documentation of agents names for those who derive one, and the number of
    restarts that are left. Seen in torch 2.6 to 2.13.

    Raises
    ------
    IncompatibleVersion
        If torch has them no more: such an agent could not be ended.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in _NEEDED:
            if not hasattr(self, name):
                raise incompatible("torch", f"{name} of its elastic agent", "--workers")

    @property
    def restarts_left(self) -> int:
        """How often workers that die will be started again."""
        return int(self._remaining_restarts)

    def watch(self, workers: WorkerGroup) -> RunResult:
        """Look at the workers once; called several times a second."""
        result: RunResult = super()._monitor_workers(workers)
        return result

    def end_workers(self, workers: WorkerGroup) -> None:
        """End the workers."""
        self._stop_workers(workers)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        return self.watch(worker_group)
