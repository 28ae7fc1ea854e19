"""What files hold, kept after the first epoch decoded them: in memory up to a bound, then on disk up to another.

Rows have places of their own in one block of memory and one file, both shared with loader workers, which fork from the
process that made them. So whoever decodes a row first keeps it for all, and a row costs one copy later. The file has no
name: it is gone with the last process that uses it, even if that is killed.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from maas_magics.api.sizes import bytes_of
from maas_magics.core.batches.blocks import SPARE
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.processor import Processor

IN_MEMORY = 512 * 2**20
"""Bytes of a column that are kept in memory."""

ON_DISK = 4 * 10**9
"""Bytes of all columns that are kept on disk unless another bound is requested."""


def parsed_size(text: str | None) -> int:
    """Bytes that may be kept on disk.

    Parameters
    ----------
    text : str or None
        ``"2GB"``, ``"500MB"`` or ``"0"``; the usual bound when None.

    Raises
    ------
    OptionError
        If it is not a size.
    """
    if text is None:
        return ON_DISK
    return bytes_of(text, "cache", "a size on disk", "--cache 2GB, or --cache 0")


class DecodedRows:
    """Rows of a column, each decoded once.

    Parameters
    ----------
    rows : int
        How many there are.
    like : ndarray
        Of the shape and type of a row.
    disk : int
        Bytes that may lie on disk.
    folder : Path
        Of the disk.
    memory : int
        Bytes that may be kept in memory.
    """

    def __init__(self, rows: int, like: Array, disk: int, folder: Path, memory: int = IN_MEMORY) -> None:
        self._rows, self._shape, self._dtype, self._memory_size = rows, like.shape, like.dtype, memory
        self._width = max(1, like.nbytes)
        here = min(rows, memory // self._width)
        self._here = here
        self._memory = mmap.mmap(-1, max(1, here * self._width))
        self._flags = mmap.mmap(-1, rows + 1)
        """Whether each row is there; the last byte is whether the disk was full."""
        self._file: Any = None
        self.asked = min(rows - here, disk // self._width)
        """Rows that are to lie on disk."""
        self._there = 0
        if self.asked and hasattr(os, "pread"):
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                spare = shutil.disk_usage(folder).free - SPARE
                self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
                self._there = max(0, min(self.asked, spare // self._width))

    def __reduce__(self) -> Any:
        """In a process that was started anew nothing is shared: it keeps in memory what it decodes itself."""
        like = np.empty(self._shape, self._dtype)
        return type(self), (self._rows, like, 0, Path(), self._memory_size)

    @property
    def disk(self) -> int:
        """Bytes that may come to lie on disk."""
        return self._there * self._width

    @property
    def full(self) -> bool:
        """Whether the disk had no room for all rows that were to lie there."""
        return self._there < self.asked or bool(self._flags[self._rows])

    def close(self) -> None:
        """Give the room back."""
        if self._file is not None:
            self._file.close()

    def __call__(self, rows: Sequence[int], decode: Callable[[list[int]], Array]) -> Array:
        """What the files of some rows hold, (n, …).

        Parameters
        ----------
        rows : sequence of int
            Places.
        decode : callable
            What the files of some of ``rows`` hold, by their places among these.
        """
        found = np.empty((len(rows), *self._shape), dtype=self._dtype)
        absent = [at for at, row in enumerate(rows) if not self._read(row, found[at])]
        if absent:
            for at, values in zip(absent, decode(absent), strict=True):
                found[at] = values
                self.keep(rows[at], found[at])
        return found

    def keep(self, row: int, values: Array) -> None:
        """Keep a row, where there is room."""
        if self._flags[row]:
            return
        data = np.ascontiguousarray(values, dtype=self._dtype).reshape(-1).view(np.uint8).data
        start = row * self._width
        if row < self._here:
            self._memory[start : start + self._width] = bytes(data)
        elif row < self._here + self._there and not self._flags[self._rows]:
            try:
                self._write(data, start - self._here * self._width)
            except OSError:
                self._flags[self._rows] = 1
                return
        else:
            return
        self._flags[row] = 1

    def _read(self, row: int, place: Array) -> bool:
        if not self._flags[row]:
            return False
        bare, start = place.reshape(-1).view(np.uint8), row * self._width
        if row < self._here:
            bare[:] = np.frombuffer(self._memory, np.uint8, self._width, start)
            return True
        data = os.pread(self._file.fileno(), self._width, start - self._here * self._width)
        if len(data) == self._width:
            bare[:] = np.frombuffer(data, np.uint8)
        return len(data) == self._width

    def _write(self, data: memoryview, start: int) -> None:
        while data:
            done = os.pwrite(self._file.fileno(), data, start)
            data, start = data[done:], start + done


def keeps_of(
    processor: Processor, rows: int, disk: int, folder: Path, memory: int | None = None
) -> dict[str, DecodedRows]:
    """What keeps what files hold, by column.

    Parameters
    ----------
    processor : Processor
        Of the columns.
    rows : int
        How many there are.
    disk : int
        Bytes of all columns that may lie on disk.
    folder : Path
        Of the disk.
    memory : int, optional
        Bytes of each column that may be kept in memory; the usual when None.
    """
    keeps: dict[str, DecodedRows] = {}
    for feature in processor.features:
        if feature.costly is not None:
            found = DecodedRows(rows, feature.costly, disk, folder, **({} if memory is None else {"memory": memory}))
            keeps[feature.name], disk = found, disk - found.disk
    return keeps


class Seen(dict[int, Array]):
    """Some rows of a column that are decoded already."""

    def __call__(self, rows: Sequence[int], decode: Callable[[list[int]], Array]) -> Array:
        """What the files of some rows hold, (n, …); as of `DecodedRows`."""
        absent = [at for at, row in enumerate(rows) if row not in self]
        if absent:
            self.update(zip((rows[at] for at in absent), decode(absent), strict=True))
        return np.stack([self[row] for row in rows])
