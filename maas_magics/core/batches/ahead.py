"""Batches on their way to the device while the step before is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
S = TypeVar("S")


def on_device(
    batches: Iterable[Sequence[Tensor]], device: torch.device, finish: Callable[[list[Tensor]], T]
) -> Iterator[T]:
    """Tensors of each batch on a device, and what is made of them there.

    On CUDA the copy of a batch is under way, in a stream of its own, while the step before it is computed; it waits
    for nothing where the tensors are in pinned memory. Elsewhere a batch is copied once it is requested.

    Parameters
    ----------
    batches : iterable of sequence of Tensor
    device : torch.device
    finish : callable
        From the tensors on the device to what is handed out.
    """
    if device.type == "cuda":
        copies = Copies(device)
        return (finish(copies.wait(sent)) for sent in one_ahead(batches, copies.send))
    return (finish([tensor.to(device) for tensor in batch]) for batch in batches)


def one_ahead(items: Iterable[S], send: Callable[[S], T]) -> Iterator[T]:
    """What ``send`` makes of each item, in order; it is called for the next one before one is handed out.

    What an item raises is raised once those before it are handed out. The items are closed with this iterator.
    """
    source = iter(items)
    error: Exception | None = None
    try:
        ready = [send(item) for item in _first(source)]
        while ready:
            try:
                following = [send(item) for item in _first(source)]
            except Exception as raised:
                error, following = raised, []
            yield ready.pop()
            ready = following
        if error is not None:
            raise error
    finally:
        close: Any = getattr(source, "close", None)
        if close is not None:
            close()


def _first(source: Iterator[S]) -> Iterator[S]:
    """The next item, where there is one."""
    for item in source:
        yield item
        return


class Copies:
    """Copies to a CUDA device, in a stream beside the one that computes.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, batch: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        """Start the copy of a batch; torch keeps pinned memory from being used again until it is done."""
        with torch.cuda.stream(self._stream):
            there = [tensor.to(self._device, non_blocking=True) for tensor in batch]
        return there, self._stream.record_event()

    def wait(self, sent: tuple[list[Tensor], Any]) -> list[Tensor]:
        """The tensors of a copy, which what is computed from here on waits for."""
        there, done = sent
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(done)
        for tensor in there:
            tensor.record_stream(computing)  # they were made in the other stream, which must not use their memory yet
        return there
