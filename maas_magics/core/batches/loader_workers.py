"""Rows of map-style torch datasets, read in this process or in workers, with the same values either way.

Workers are processes of torch's ``DataLoader``, forked on Linux: a dataset of a notebook cannot be pickled by
reference, and a fork shares what it holds. A forked worker computes with one thread, touches no GPU and leaves without
running anything of this process's exit, so threads and locks of a kernel do not matter to it, but for those of a
library that the dataset itself uses at that very moment in another thread. Where processes are started anew (macOS,
Windows) a dataset has to be importable. Workers stay for the whole training; they are gone with it however it ends, and
with this process even when it is killed. Ctrl-C, which a terminal or a notebook sends to a whole group, is kept from
them.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from maas_magics.api.errors import DataError
from maas_magics.core.batches.loader_errors import Failure, loader_error
from maas_magics.core.batches.loader_rows import BatchDataset, BatchIndices, ReadBatch
from maas_magics.core.compat.loaders import FreeLoader, end_workers, forget_iterator, unwatched, workers_of

TOGETHER = 16
"""Batches that this process reads at a time, at most."""

QUICK = 1e-3
"""Seconds that they may take to become more."""

DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of Linux's ``prctl``."""


class Readers:
    """Reads batches of datasets, in order, with so many processes.

    Parameters
    ----------
    parts : sequence of Dataset
        Map-style.
    collate : callable
    workers : int
        Processes; with 0 this one reads.
    pin : bool
        Whether batches go into pinned memory, for a GPU.
    patience : float
        Seconds that a batch may take; any when 0.
    """

    def __init__(
        self,
        parts: Sequence[Any],
        collate: Callable[[list[Any]], Any],
        workers: int = 0,
        *,
        pin: bool = False,
        patience: float = 0.0,
    ) -> None:
        self._rows = BatchDataset(parts, collate)
        self._workers, self._pin, self._patience = workers, pin, patience
        self._batches = _Batches()
        self._loader: FreeLoader | None = None
        self._iterator: Any = None

    @property
    def workers(self) -> int:
        """Processes that read; 0 where this one does."""
        return self._workers

    @workers.setter
    def workers(self, number: int) -> None:
        self.close()
        self._workers = number

    def others(self, workers: int, patience: float) -> Readers:
        """Readers of the same rows, with processes of their own."""
        return Readers(self._rows.parts, self._rows.collate, workers, pin=self._pin, patience=patience)

    def read(self, asked: Iterable[BatchIndices]) -> Iterator[ReadBatch]:
        """Each batch that is requested. What was left unread of an earlier call is dropped.

        Raises
        ------
        DataError
            If a dataset raises something, or a worker dies.
        """
        found = self._with_workers(asked) if self._workers else self._here(asked)
        for read in found:
            if isinstance(read.item, Failure):
                raise read.item.error
            yield read if self._workers or not self._pin else ReadBatch(_pinned(read.item), read.seconds)

    def _here(self, asked: Iterable[BatchIndices]) -> Iterator[ReadBatch]:
        """Batches read by this process, several together where that is quick: its random numbers are put back after."""
        batches, many = iter(asked), 1
        while group := list(islice(batches, many)):
            found = self._rows.here(group)
            quick = sum(read.seconds for read in found) < QUICK
            many = min(2 * many, TOGETHER) if quick else max(1, many // 2)
            yield from found

    def _with_workers(self, asked: Iterable[BatchIndices]) -> Iterator[Any]:
        self._batches.now = asked
        if self._loader is None:
            self._loader = FreeLoader(
                self._rows,
                batch_sampler=self._batches,
                num_workers=self._workers,
                collate_fn=_as_it_is,
                worker_init_fn=_begin,
                pin_memory=self._pin,
                timeout=self._patience,
                persistent_workers=True,
                multiprocessing_context=context(),
                generator=torch.Generator(),  # else each would draw from this process's random numbers
            )
        try:
            with uninterrupted():
                self._iterator = unwatched(iter(self._loader))
        except Exception as error:  # whatever an object raises that does not travel to another process
            self.close()
            raise DataError(f"Loader workers cannot be started: {_line(error)}", "--loader-workers 0") from None
        try:
            yield from self._iterator
        except (RuntimeError, EOFError, OSError) as error:
            found = loader_error("The loader", error, workers_of(self._iterator))
            self.close()
            raise found from None

    def close(self) -> None:
        """End the workers."""
        iterator, self._iterator, self._loader = self._iterator, None, None
        end_workers(iterator)


class _Batches:
    """The batches of the epoch that is read."""

    now: Iterable[BatchIndices] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.now)


def read_loader(loader: Any) -> Iterator[Any]:
    """Items of a ``DataLoader`` of the user's, as it is.

    Raises
    ------
    DataError
        If its dataset raises something, or a worker dies.
    """
    iterator: Any = None
    try:
        with uninterrupted():
            iterator = unwatched(iter(loader))
        yield from iterator
    except Exception as error:
        found = loader_error(loader, error, workers_of(iterator))
        if found is error:
            raise
        if getattr(loader, "persistent_workers", False):
            end_workers(iterator)
            forget_iterator(loader)
        raise found from error


def context() -> str | None:
    """How worker processes are started; see this module."""
    return "fork" if sys.platform == "linux" else None


def check_importable(dataset: Any) -> None:
    """Raise where workers that are started anew could not find a dataset's class.

    Raises
    ------
    DataError
    """
    if context() is None and type(dataset).__module__ == "__main__":
        raise DataError(
            f"Workers are started anew here, and cannot see {type(dataset).__name__} of the notebook.",
            "Put it into a file and import it, or drop --loader-workers.",
        )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Processes that are started within it do not get Ctrl-C; who started them ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(worker: int) -> None:
    """A worker goes with the process that started it, even one that is killed."""
    if sys.platform != "linux":
        return  # torch's own watch takes some seconds
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}".rstrip(" :.") + "."


def _as_it_is(read: Any) -> Any:
    return read


def _pinned(item: Any) -> Any:
    if isinstance(item, Tensor):
        return item if item.is_pinned() else item.pin_memory()
    if isinstance(item, Mapping):
        return {name: _pinned(part) for name, part in item.items()}
    return [_pinned(part) for part in item] if isinstance(item, (list, tuple)) else item
