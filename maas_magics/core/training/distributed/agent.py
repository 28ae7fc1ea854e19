"""torch's elastic agent for the workers of one machine: starts them, and starts all again when one dies."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.elastic.rendezvous.api import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from maas_magics.api.child import arguments
from maas_magics.core.compat.elastic import WatchedAgent

RESTARTS = 3
"""How often dead workers are started again."""

POLL = 0.1
"""Seconds between two looks at the workers."""


class Alone(RendezvousHandler):
    """The rendezvous of one machine, which meets no one and so listens nowhere.

    Parameters
    ----------
    name : str
        Of the training.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._closed = False

    def get_backend(self) -> str:
        """Name of the kind of rendezvous."""
        return "alone"

    def next_rendezvous(self) -> RendezvousInfo:
        """At once; the workers themselves meet through a file."""
        return RendezvousInfo(HashStore(), 0, 1, RendezvousStoreInfo("127.0.0.1", 0))

    def is_closed(self) -> bool:
        """Whether it is over."""
        return self._closed

    def set_closed(self) -> None:
        """Let it be over."""
        self._closed = True

    def num_nodes_waiting(self) -> int:
        """No one else comes."""
        return 0

    def get_run_id(self) -> str:
        """Name of the training."""
        return self._name

    def shutdown(self) -> bool:
        """Nothing is open."""
        return True


class Agent(WatchedAgent):
    """Runs workers in a thread.

    Parameters
    ----------
    folder : Path
        What the workers print goes to its folder ``logs``.
    size : int
        Workers.
    died : callable
        Gets the reason each time the workers are started again.
    """

    def __init__(self, folder: Path, size: int, died: Callable[[str], None]) -> None:
        spec = WorkerSpec(
            role="maas-magics",
            local_world_size=size,
            rdzv_handler=Alone(folder.name),
            entrypoint=sys.executable,
            args=tuple(arguments(__package__, str(folder))),
            max_restarts=RESTARTS,
            monitor_interval=POLL,
        )
        (folder / "logs").mkdir()
        super().__init__(spec, DefaultLogsSpecs(str(folder / "logs"), redirects=Std.ALL), exit_barrier_timeout=1)
        self._logs = folder / "logs"
        self._died = died
        self._over = threading.Event()
        self.lost = ""
        """Why it gave up, if it did."""
        self._thread = threading.Thread(target=self._work, name=f"maas-magics-{folder.name}", daemon=True)

    def start(self) -> None:
        """Start the workers."""
        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
        self._thread.start()

    def end(self) -> None:
        """End what still runs, and wait until it has ended."""
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            result = self.run()
        except Exception as error:
            self.lost = f"The workers could not be started: {type(error).__name__}: {error}"
            return
        if result is not None and result.is_failed():
            self.lost = f"{_reason(result)} {RESTARTS + 1} times.{self._last_words()}"

    def watch(self, workers: WorkerGroup) -> RunResult:
        """Look at the workers once, unless they are to end."""
        if self._over.is_set():
            self.end_workers(workers)
            return RunResult(state=WorkerState.SUCCEEDED)
        result = super().watch(workers)
        if self._over.is_set():
            return RunResult(state=WorkerState.HEALTHY)
        if result.state in (WorkerState.FAILED, WorkerState.UNHEALTHY) and self.restarts_left:
            self._died(_reason(result))
        return result

    def _last_words(self) -> str:
        """The last line that a worker wrote before it died."""
        errors = sorted(self._logs.rglob("stderr.log"), key=lambda file: file.stat().st_mtime)
        lines = [line for file in errors for line in file.read_text(errors="replace").splitlines() if line.strip()]
        return f" It said: {lines[-1].strip()[:300]}" if lines else ""


def _reason(result: RunResult) -> str:
    """Which worker died of what; one that was killed, rather than those that then missed it."""
    failures = sorted(result.failures.items(), key=lambda found: (found[1].exitcode >= 0, found[1].timestamp))
    if not failures:
        return "A worker process died"
    rank, failure = failures[0]
    how = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
    return f"Worker process {rank} died ({how})"
