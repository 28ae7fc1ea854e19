"""Held-out rows kept with a model, as they came, to verify exports on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather

from maas_magics.core.data.arrow import Array, tensors
from maas_magics.core.seal.files import contents, is_sealed, put
from maas_magics.core.store.storage import SAMPLE

TARGET = "__target__"


def write_sample(folder: Path, table: pa.Table) -> None:
    """Write the rows into a version's folder."""
    sink = pa.BufferOutputStream()
    pyarrow.feather.write_feather(table, sink, compression="lz4")
    put(folder / SAMPLE, [memoryview(sink.getvalue())])


def read_sample(folder: Path) -> tuple[pa.Table, Array]:
    """Features and encoded target of the rows."""
    file = folder / SAMPLE
    source = pa.BufferReader(contents(file)) if is_sealed(file) else str(file)
    table = pyarrow.feather.read_table(source, memory_map=False)
    target = table.column(TARGET)
    values = tensors(target) if isinstance(target.type, pa.FixedShapeTensorType) else np.asarray(target.to_numpy())
    return table.drop_columns([TARGET]), values


EIGHT_BYTES = {"f": np.float64, "i": np.int64, "u": np.uint64}


class _Hash:
    """A file that keeps nothing but the SHA-256 of what is written to it."""

    closed = False

    def __init__(self) -> None:
        self.total = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Take in some bytes."""
        self.total.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


class Digest:
    """SHA-256 of rows that come a few at a time, of one schema."""

    def __init__(self) -> None:
        self._sink = _Hash()
        self._writer: Any = None

    def add(self, table: pa.Table) -> None:
        """Take in some rows."""
        if self._writer is None:
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), table.schema)
        self._writer.write_table(table)

    def __str__(self) -> str:
        return "sha256:" + self._sink.total.hexdigest()


def digest(table: pa.Table, target: Array | None = None) -> str:
    """SHA-256 of rows as an Arrow stream, and of their target: the same rows in the same order give the same.

    Numbers of a target count in eight bytes each, whatever type they came in, as in the checkpoints of version 0.1.
    """
    sink = _Hash()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
        writer.write_table(table)
    if target is not None:
        wide = target.astype(EIGHT_BYTES.get(target.dtype.kind, target.dtype))
        sink.write(repr(target.tolist()).encode() if target.dtype == object else np.ascontiguousarray(wide).tobytes())
    return "sha256:" + sink.total.hexdigest()
