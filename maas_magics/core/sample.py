"""Held-out rows kept with a model, as they came, to verify exports on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather

from maas_magics.core.data.columns import Array, tensors

FILE = "sample.arrow"
TARGET = "__target__"


def write_sample(folder: Path, table: pa.Table) -> None:
    """Write the rows into a version's folder."""
    pyarrow.feather.write_feather(table, str(folder / FILE), compression="lz4")


def read_sample(folder: Path) -> tuple[pa.Table, Array]:
    """Features and encoded target of the rows."""
    table = pyarrow.feather.read_table(str(folder / FILE), memory_map=False)
    target = table.column(TARGET)
    values = tensors(target) if isinstance(target.type, pa.FixedShapeTensorType) else np.asarray(target.to_numpy())
    return table.drop_columns([TARGET]), values


def digest(table: pa.Table) -> str:
    """SHA-256 of the held-out rows as an Arrow stream: the same data and seed give the same."""
    total = hashlib.sha256()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    total.update(sink.getvalue())
    return "sha256:" + total.hexdigest()
