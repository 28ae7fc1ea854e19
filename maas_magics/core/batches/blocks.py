"""Rows to train on that lie on disk: read in blocks, put in random order within windows of several blocks.

An epoch takes the blocks in a random order, as many at a time as make a window, and permutes the rows of the
window. A batch so mixes rows of all blocks of a window, which lie anywhere in the file; but rows of one block
are in the same window in each epoch, so a file that is sorted is mixed less evenly than by a full permutation.
Where all rows fit into one window it is a full permutation, and the order that `InMemory` has.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maas_magics.api.errors import StoreError
from maas_magics.core.batches.ahead import on_device
from maas_magics.core.batches.batches import MEASURE_LIMIT, Batch
from maas_magics.core.data.arrow import Array
from maas_magics.core.memory import in_words

SPARE = 256 * 2**20
"""Bytes of the disk that are left free."""


@dataclass(frozen=True)
class TensorLayout:
    """How one tensor of a row is kept: its type on disk, its type for the network, its shape without the rows."""

    disk: torch.dtype
    net: torch.dtype
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """Bytes of a row."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.disk.itemsize


class Spill:
    """Encoded rows in files without a name, which are gone with the process at the latest.

    Parameters
    ----------
    folder : Path
    kinds : sequence of TensorLayout
        Of each tensor, the target last.
    """

    def __init__(self, folder: Path, kinds: Sequence[TensorLayout]) -> None:
        self.kinds = tuple(kinds)
        self.rows = 0
        self._files: list[Any] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for _ in self.kinds:
                self._files.append(tempfile.TemporaryFile(dir=folder, buffering=0))  # noqa: SIM115
        except OSError as error:
            self.close()
            raise _unwritten(error) from None

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the room back."""
        for file in self._files:
            with suppress(OSError):
                file.close()
        self._files = []

    def append(self, tensors: Sequence[Tensor]) -> None:
        """Write rows behind those that are there.

        Raises
        ------
        StoreError
            If the disk does not take them.
        """
        try:
            for file, kind, values in zip(self._files, self.kinds, tensors, strict=True):
                data = _raw(values.to(kind.disk).contiguous().numpy())
                while data:
                    data = data[file.write(data) :]
        except OSError as error:
            raise _unwritten(error) from None
        self.rows += len(tensors[0])

    def read(self, blocks: Sequence[tuple[int, int]]) -> list[Array]:
        """Rows of some ranges (start, stop), one after another, of each tensor."""
        rows = sum(stop - start for start, stop in blocks)
        found = []
        for index, kind in enumerate(self.kinds):
            whole = torch.empty((rows, *kind.shape), dtype=kind.disk).numpy()
            left = _raw(whole)
            for start, stop in blocks:
                size = (stop - start) * kind.width
                self._files[index].seek(start * kind.width)
                self._fill(self._files[index], left[:size])
                left = left[size:]
            found.append(whole)
        return found

    def at(self, index: int, start: int, rows: int) -> memoryview:
        """The bytes of some rows of a tensor, read without moving the file's place: by any process that shares it."""
        width = self.kinds[index].width
        found = memoryview(bytearray(rows * width))
        left, place = found, start * width
        while left:
            data = pread(self._files[index], len(left), place)
            if not data:
                raise StoreError("The rows on disk are fewer than were written.")
            left[: len(data)] = data
            left, place = left[len(data) :], place + len(data)
        return found

    def some(self, index: int, rows: Sequence[int]) -> Array:
        """Rows of a tensor, by their places."""
        kind = self.kinds[index]
        found = torch.empty((len(rows), *kind.shape), dtype=kind.disk).numpy()
        left = _raw(found)
        for row in rows:
            left[: kind.width] = self.at(index, row, 1)
            left = left[kind.width :]
        return found

    def announce(self, blocks: Sequence[tuple[int, int]]) -> None:
        """Have the system fetch ranges of rows from the disk, without waiting for it, where it can."""
        if not hasattr(os, "posix_fadvise"):
            return
        for file, kind in zip(self._files, self.kinds, strict=True):
            for start, stop in blocks:
                size = (stop - start) * kind.width
                os.posix_fadvise(file.fileno(), start * kind.width, size, os.POSIX_FADV_WILLNEED)

    @staticmethod
    def _fill(file: Any, place: memoryview) -> None:
        while place:
            count = file.readinto(place)
            if not count:
                raise StoreError("The rows on disk are fewer than were written.")
            place = place[count:]


def pread(file: Any, size: int, place: int) -> bytes:
    """Bytes of an unbuffered file, without moving its place where the system can."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, place)
    file.seek(place)
    return bytes(file.read(size))


def _raw(values: Array) -> memoryview:
    """The bytes of an array that lies in one piece."""
    return values.reshape(-1).view(np.uint8).data if values.size else memoryview(b"")


def _unwritten(error: OSError) -> StoreError:
    return StoreError(
        f"The rows cannot be written to disk: {error.strerror or error}.",
        "Make room there, or move the store: MAAS_STORE=FOLDER",
    )


def check_room(folder: Path, size: int) -> None:
    """Raise `StoreError` where the disk of a folder, which need not be there yet, has no room for ``size`` bytes."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if size + SPARE > free:
        raise StoreError(
            f"The encoded rows take {in_words(size)} of disk; {str(there)!r} has {in_words(free)} free.",
            "Make room there, or move the store: MAAS_STORE=FOLDER",
        )


class Blocks:
    """Batches of rows on disk, while the system fetches the next window.

    Parameters
    ----------
    spill : Spill
    batch_size : int
        Rows of a step; a last batch of a single row is left out where batch statistics need two.
    device : torch.device
    block : int
        Rows read from one place.
    window : int
        Blocks that are in memory, and mixed, at a time.
    """

    def __init__(self, spill: Spill, batch_size: int, device: torch.device, block: int, window: int) -> None:
        self.spill, self.batch_size, self.device = spill, batch_size, device
        self.rows = spill.rows
        self.steps = -(-self.rows // batch_size)
        if self.rows > batch_size and self.rows % batch_size == 1:
            self.steps -= 1
        self._block, self._window = block, window
        self._measure = min(max(512, batch_size), MEASURE_LIMIT)
        self._pin = device.type == "cuda"

    def sized(self, batch_size: int) -> Blocks:
        """The same rows in batches of another size."""
        return Blocks(self.spill, batch_size, self.device, self._block, self._window)

    def epoch(self, generator: torch.Generator, start: int = 0) -> Iterator[Batch]:
        """Every row once, in an order drawn from ``generator``; from batch ``start`` on, without reading the others."""
        blocks = self._blocks(range(-(-self.rows // self._block)))
        if len(blocks) <= self._window:
            orders: list[Any] = [torch.randperm(self.rows, generator=generator).numpy()]
            windows = [blocks]
        else:
            order = torch.randperm(len(blocks), generator=generator).tolist()
            seed = int(torch.randint(2**62, (), generator=generator))
            windows = [self._blocks(order[i : i + self._window]) for i in range(0, len(order), self._window)]
            orders = [seed + i for i in range(len(windows))]
        return self._sent(windows, orders, self.batch_size, start, self.steps)

    def whole(self) -> Iterator[Batch]:
        """Every row once, in order."""
        size = self._block * self._window
        windows = [[(i, min(i + size, self.rows))] for i in range(0, self.rows, size)]
        return self._sent(windows, [None] * len(windows), self._measure, 0, -(-self.rows // self._measure))

    def _blocks(self, numbers: Sequence[int]) -> list[tuple[int, int]]:
        return [(i * self._block, min((i + 1) * self._block, self.rows)) for i in numbers]

    def _sent(self, windows: list[list[tuple[int, int]]], orders: list[Any], *which: int) -> Iterator[Batch]:
        return on_device(self._batches(windows, orders, *which), self.device, self._finish)

    def _batches(
        self, windows: list[list[tuple[int, int]]], orders: list[Any], size: int, start: int, steps: int
    ) -> Iterator[list[Tensor]]:
        """Batches ``start`` to ``steps`` of the rows of all windows, which run on from one into the next."""
        ends = np.cumsum([sum(stop - begin for begin, stop in window) for window in windows])
        first = int(np.searchsorted(ends, start * size, side="right"))
        skipped = start * size - (int(ends[first - 1]) if first else 0)
        rest: list[Tensor] = []
        done = start
        for window in self._ahead(windows[first:], orders[first:]):
            at, rows = skipped, len(window[0])
            skipped = 0
            while at < rows and done < steps:
                have = len(rest[0]) if rest else 0
                part = [values[at : at + size - have] for values in window]
                at += len(part[0])
                rest = [torch.cat(pair) for pair in zip(rest, part, strict=True)] if rest else part
                if len(rest[0]) == size:
                    yield rest
                    done, rest = done + 1, []
            rest = [values.clone() for values in rest]  # or the window would stay as long as they do
        if rest and done < steps:
            yield rest

    def _finish(self, tensors: list[Tensor]) -> Batch:
        found = [values.to(kind.net) for values, kind in zip(tensors, self.spill.kinds, strict=True)]
        return tuple(found[:-1]), found[-1]

    def _ahead(self, windows: list[list[tuple[int, int]]], orders: list[Any]) -> Iterator[list[Tensor]]:
        """Windows one after another, the system reading the next one meanwhile.

        No thread of ours does: for each block it would wait for the interpreter, which the steps hold most of the time.
        """
        self.spill.announce(windows[0] if windows else ())
        for i, (window, order) in enumerate(zip(windows, orders, strict=True)):
            found = self._read(window, order)
            self.spill.announce(windows[i + 1] if i + 1 < len(windows) else ())
            yield found

    def _read(self, window: list[tuple[int, int]], order: Any) -> list[Tensor]:
        """Rows of a window in the order given, or drawn by a seed; in order where None."""
        found = self.spill.read(window)
        if order is None:
            return [torch.from_numpy(values) for values in found]
        if isinstance(order, int):
            order = torch.randperm(len(found[0]), generator=torch.Generator().manual_seed(order)).numpy()
        placed = []
        for index, kind in enumerate(self.spill.kinds):
            values = torch.empty((len(order), *kind.shape), dtype=kind.disk, pin_memory=self._pin)
            np.take(found[index], order, axis=0, out=values.numpy(), mode="clip")
            found[index] = np.empty(0)
            placed.append(values)
        return placed
