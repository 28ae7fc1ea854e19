"""Where tensors live and how many threads work on them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

from maas_magics.api.errors import OptionError
from maas_magics.core.processors import cores

SMALL_STEP = 4e7
"""Weights × rows of a step below which a second thread costs more than it brings."""

KEPT_BLOCK = 31 * 2**20
"""Bytes of a block; a little below the largest whose freeing teaches glibc anything."""


def keep_freed_memory() -> None:
    """Let blocks of memory stay with this process when they are freed, so that the next step finds them there.

    glibc gives large blocks back to the system, and takes them anew a step later, page by page, which costs as much as
    an activation function. What it takes for large follows the largest block that was ever freed (``mallopt(3)``,
    *dynamic mmap threshold*). This one is never written to, so it takes no memory. Other allocators do not care.
    """
    torch.empty(KEPT_BLOCK, dtype=torch.uint8)


def clock_for(device: torch.device, threads: int) -> Callable[[], float]:
    """Seconds to compare two ways by: of a single thread those that it was given, whatever its neighbours do."""
    return time.thread_time if device.type == "cpu" and threads == 1 else time.perf_counter


def find_device(name: str) -> torch.device:
    """Device by name; ``auto`` takes CUDA or MPS where there is one.

    Raises
    ------
    OptionError
        If this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise OptionError(f"There is no device {name!r} here.", "--device auto") from None
    return device


@contextlib.contextmanager
def threads(number: int | None, parameters: int, rows: int, wide: bool, share: int = 1) -> Iterator[int]:
    """Set torch's CPU threads for a job, and put them back.

    Parameters
    ----------
    number : int or None
        None chooses one thread for small steps and leaves torch's own choice otherwise.
    parameters, rows : int
        Weights of the network and rows of a step.
    wide : bool
        Whether a row is an array of several axes, on which each weight works more than once.
    share : int
        Processes that share the cores.
    """
    before = torch.get_num_threads()
    if number is None:
        most = before if share == 1 else max(1, cores() // share)
        number = 1 if parameters * rows < SMALL_STEP and not wide else most
    torch.set_num_threads(max(1, number))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
