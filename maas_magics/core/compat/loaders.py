"""Workers of torch's ``DataLoader``."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader


class FreeLoader(DataLoader[Any]):
    """A loader that may have more workers than there are processors: reading may be waiting.

    Undocumented is the method that would warn. Seen in torch 2.6 to 2.13; else there may be a warning.
    """

    def check_worker_number_rationality(self) -> None:
        """Nothing to say."""


def workers_of(iterator: Any) -> Sequence[Any]:
    """Processes of a loader's iterator; none for one that reads itself, or is None.

    Private is ``_workers``. Seen in torch 2.6 to 2.13; else errors name no dead worker.
    """
    found: Sequence[Any] = getattr(iterator, "_workers", ())
    return found


def end_workers(iterator: Any) -> None:
    """End the workers of a loader's iterator, even if there are other references to it.

    Private is ``_shutdown_workers``, which torch calls when no one refers to it. Seen in torch 2.6 to 2.13.
    """
    shutdown = getattr(iterator, "_shutdown_workers", None)
    if shutdown is not None:
        shutdown()


def forget_iterator(loader: Any) -> None:
    """Let a loader whose workers persist, and are gone, start new ones at its next use.

    Private is ``_iterator``. Seen in torch 2.6 to 2.13.
    """
    loader._iterator = None


def unwatched(iterator: Any) -> Any:
    """An iterator whose workers' death is found by who waits for a batch, within some seconds.

    Where the main thread has ever read a ``DataLoader``, torch has a handler that raises in the main thread instead,
    in the midst of whatever it does. Private are ``torch._C._remove_worker_pids`` and ``_worker_pids_set``. Seen in
    torch 2.6 to 2.13; else the handler stays.
    """
    forget = getattr(torch._C, "_remove_worker_pids", None)
    elsewhere = threading.current_thread() is not threading.main_thread()
    if elsewhere and forget is not None and getattr(iterator, "_worker_pids_set", False):
        forget(id(iterator))
        iterator._worker_pids_set = False
    return iterator
