"""What columns of files have in common: pictures and sounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from maas_magics.core.data import media
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.base import Feature
from maas_magics.core.features.fitting import FitConfig, Tell


class FileFeature(Feature, frozen=True):
    """A column of files, each of which is decoded to an array of the same shape before it enters the graph."""

    lazy: ClassVar[bool] = True
    hosted: ClassVar[bool] = True
    binary: ClassVar[bool] = True
    may_be_blank: ClassVar[bool] = True

    def decoded(self, data: bytes) -> Array:
        """What a file holds."""
        raise NotImplementedError

    @property
    def missing(self) -> Array:
        """What stands for a file that is missing, of the shape and type of `decoded`."""
        raise NotImplementedError

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Bytes of files, object (n, 1)."""
        return media.objects(values, self.name)

    def enter(self, raw: Array) -> Array:
        """What the files hold, (n, …)."""
        return self._stacked(raw.ravel().tolist(), lambda value, row: media.sent_bytes(value))

    def entered(self, ready: pa.ChunkedArray) -> Array:
        """What the files of some rows hold."""
        return self._stacked(ready.to_pylist(), self._read)

    @property
    def costly(self) -> Array:
        """What a file holds."""
        return self.missing

    def _read(self, value: Any, row: int) -> bytes:
        return media.file_bytes(value, self.name, row)

    def _stacked(self, values: list[Any], read: Callable[[Any, int], bytes]) -> Array:
        missing = self.missing
        found = media.each(values, self.decoded, read, self.name, missing)
        return np.stack(found) if found else np.zeros((0, *missing.shape), dtype=missing.dtype)

    def blank(self, raw: Array) -> Array:
        """Rows without a file, bool (n,)."""
        return np.array([not value for value in raw[:, 0]], dtype=bool)

    def kept(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """The bytes of the files."""
        return media.kept(values, self.name)

    def example(self, rows: int) -> Array:
        """Files of noise."""
        return self.drawn(rows, np.random.default_rng(0))


class FileProfile:
    """Fits a `FileFeature` to a column that was declared to hold files; nothing is kept of rows that pass by.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        May bring what a pretrained network asks of ``kind``.
    """

    kind: ClassVar[str]

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        self.name = field.name
        self.seen: dict[int, Array] = {}
        """What files hold that were decoded to be looked at, by the place of their row."""
        self._given: dict[str, Any] = dict(fit.given.get(self.kind, {}))

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """Only what was declared."""
        return False

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""

    def merge(self, other: Self) -> None:
        """Take in what was found in other rows."""

    def _read(self, value: Any, row: int) -> bytes:
        return media.file_bytes(value, self.name, row)

    def _some(self, sample: pa.ChunkedArray, most: int, notify: Tell) -> dict[int, Any]:
        """Some values that are not missing, by their rows; it is said where all are."""
        step = max(1, len(sample) // most)
        each = ((row, sample[row].as_py()) for row in range(0, len(sample), step))
        found = {row: value for row, value in each if not media.is_missing(value)}
        if not found:
            notify(f"Column {self.name!r} is empty and is left out.")
        return found
