"""What columns of files have in common: pictures and sounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from maas_magics.core.data import media
from maas_magics.core.data.arrow import Array, tensors
from maas_magics.core.features.base import Feature, FitConfig, Tell

KEPT = 512 * 2**20
"""Bytes up to which decoded files are kept while they are trained on; beyond, each epoch decodes them again."""


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

    def ready(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """What the files hold, where that is not large; else the files."""
        if len(values) * self.missing.nbytes > KEPT or not len(values):
            return values
        return pa.chunked_array([media.tensor_array(self._stacked(values.to_pylist(), self._read))])

    def entered(self, ready: pa.ChunkedArray) -> Array:
        """What the files of some rows hold."""
        if isinstance(ready.type, pa.FixedShapeTensorType):
            return tensors(ready)
        return self._stacked(ready.to_pylist(), self._read)

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

    def _some(self, sample: pa.ChunkedArray, most: int, notify: Tell) -> list[Any]:
        """Some values that are not missing; it is said where all are."""
        step = max(1, len(sample) // most)
        each = (sample[row].as_py() for row in range(0, len(sample), step))
        found = [value for value in each if not media.is_missing(value)]
        if not found:
            notify(f"Column {self.name!r} is empty and is left out.")
        return found
