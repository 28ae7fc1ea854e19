"""What one request may demand of a service, and what one of its worker processes may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from maas_magics.api.errors import MaasError, Refused, TrainingError
from maas_magics.api.requests import TrainRequest

MEGABYTE = 2**20
HOUR = 3600.0

LONGEST_BY_DEFAULT = 200
"""Epochs of a training that requests no number, at most."""

SHORT = ("out of memory", "allocate memory", "not enough memory", "alloc_failed", "memory is too small", "bad_alloc")
"""What errors say that have no class of their own."""

LAST = 600
"""CPU seconds that a worker gets to end after its limit; the system ends it then."""


def _address_space() -> float:
    """Bytes of this machine's memory, of an upload and of libraries; none where a GPU's driver reserves far more."""
    if any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd")) or not hasattr(os, "sysconf"):
        return 0.0
    with suppress(ValueError, OSError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return float(-(-(memory + 24 * 1024 * MEGABYTE) // MEGABYTE) * MEGABYTE)
    return 0.0


@dataclass(frozen=True)
class Limits:
    """Bounds of a service; 0 for none.

    Attributes
    ----------
    epochs, workers, threads : int
        Most of one training; ``workers`` of those that read a dataset as well, ``threads`` of one process.
    upload : float
        Most bytes of one upload.
    uploads : float
        Most bytes of all uploads on disk.
    memory : float
        Bytes of address space of one worker process.
    cpu : float
        CPU seconds of one worker process.
    """

    epochs: int = 1_000_000
    workers: int = 128
    threads: int = 256
    upload: float = 16 * 1024.0 * MEGABYTE
    uploads: float = 128 * 1024.0 * MEGABYTE
    memory: float = _address_space()
    cpu: float = 1000 * HOUR

    def told(self) -> str:
        """Those of a job in one line."""
        of = {
            "epochs": f"{self.epochs:,}" if self.epochs else "",
            "workers": f"{self.workers:,}" if self.workers else "",
            "threads": f"{self.threads:,}" if self.threads else "",
            "an upload": f"{self.upload / MEGABYTE:,.10g} MB" if self.upload else "",
            "a worker's address space": f"{self.memory / MEGABYTE:,.10g} MB" if self.memory else "",
            "a worker's CPU time": f"{self.cpu / HOUR:,.10g} h" if self.cpu else "",
        }
        return "Limits: " + ", ".join(f"{what} {bound or 'any'}" for what, bound in of.items())

    def bounded(self, request: TrainRequest) -> TrainRequest:
        """A training within the limits, also where it leaves the choice to us.

        Raises
        ------
        Refused
            If it requests more.
        """
        for option, asked, most in (
            ("epochs", request.epochs, self.epochs),
            ("workers", request.workers, self.workers),
            ("loader-workers", request.loader_workers, self.workers),
            ("threads", request.threads, self.threads),
        ):
            if most and asked is not None and asked > most:
                flag = "--max-workers" if option == "loader-workers" else f"--max-{option}"
                raise Refused(
                    f"--{option} {asked:,} is more than this service takes: {most:,}.",
                    f"--{option} {most}, or have its owner raise {flag}.",
                )
        changes: dict[str, Any] = {}
        if request.epochs is None and 0 < self.epochs < LONGEST_BY_DEFAULT:
            changes["epochs"] = self.epochs
        if request.threads is None and 0 < self.threads < (os.cpu_count() or 1):
            changes["threads"] = self.threads
        return msgspec.structs.replace(request, **changes)

    def words(self) -> list[str]:
        """Those of a process, as words of a worker's command line."""
        return [f"--memory={self.memory:.0f}", f"--cpu={self.cpu:.0f}", f"--threads={self.threads}"]


def limit_process(memory: int, cpu: int, over: Callable[[], object]) -> None:
    """Bound this process, and every one that it starts; ``over`` is called once its CPU time is used up.

    Parameters
    ----------
    memory : int
        Bytes of address space; 0 for no limit.
    cpu : int
        Seconds; 0 for no limit.
    """
    if sys.platform == "win32":
        return
    import resource
    import signal

    with suppress(ValueError, OSError):  # lower ones of the system's own
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        if cpu:
            signal.signal(signal.SIGXCPU, lambda *_: over())
            resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + LAST))


def of_memory(error: BaseException, memory: int) -> BaseException:
    """An error with the limit that it comes from, if it does."""
    if not memory or not (isinstance(error, MemoryError) or any(word in str(error).lower() for word in SHORT)):
        return error
    said = error.message if isinstance(error, MaasError) else f"{type(error).__name__}: {error}"
    return TrainingError(
        f"{said.rstrip('.')}. A worker of this service has {memory / MEGABYTE:,.0f} MB of address space.",
        getattr(error, "hint", "") or "--batch-size auto, or have the service's owner raise --worker-memory.",
    )
