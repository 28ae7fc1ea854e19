"""Rows with files that memory does not hold: on disk as they came, each read by its place."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from maas_magics.core.batches.blocks import Spill, TensorLayout
from maas_magics.core.batches.decoded import DecodedRows
from maas_magics.core.features.base import Feature
from maas_magics.core.features.processor import Processor
from maas_magics.core.features.tensors import as_tensor


class Values:
    """Values of a column, each of a length of its own, in a file without a name.

    Parameters
    ----------
    folder : Path
        Of the disk.
    """

    def __init__(self, folder: Path) -> None:
        self._bytes = Spill(folder, [TensorLayout(torch.uint8, torch.uint8, ())])
        self._ends = array("q", [0])
        self._schema: pa.Schema | None = None

    def close(self) -> None:
        """Give the room back."""
        self._bytes.close()

    def append(self, values: pa.ChunkedArray) -> None:
        """Write rows behind those that are there.

        Raises
        ------
        StoreError
            If the disk does not take them.
        """
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        self._schema = self._schema or pa.schema([pa.field("", values.type)])
        for chunk in values.chunks:
            start, data = self._ends[-1], bytearray()
            for row in range(len(chunk)):
                data += pa.record_batch([chunk.slice(row, 1)], self._schema).serialize()
                self._ends.append(start + len(data))
            if data:
                self._bytes.append([torch.frombuffer(data, dtype=torch.uint8)])

    def take(self, rows: Sequence[int]) -> pa.ChunkedArray:
        """Values of some rows."""
        assert self._schema is not None
        found = []
        for row in rows:
            data = self._bytes.at(0, self._ends[row], self._ends[row + 1] - self._ends[row])
            found.append(pa.ipc.read_record_batch(pa.py_buffer(data), self._schema).column(0))
        return pa.chunked_array(found, self._schema.types[0])


class TargetOnDisk:
    """Encoded targets of rows, by place, as a tensor has them.

    Parameters
    ----------
    spill : Spill
        Has them in its last place.
    """

    def __init__(self, spill: Spill) -> None:
        self._spill = spill

    def __len__(self) -> int:
        return self._spill.rows

    def __getitem__(self, rows: list[int]) -> Tensor:
        """Of some rows."""
        found = self._spill.some(len(self._spill.kinds) - 1, rows)
        return torch.from_numpy(found).to(self._spill.kinds[-1].net)


class RowsOnDisk:
    """Rows of columns of which some hold files, and their target.

    Files are kept as they came, a path as a path; what enters the graph of the other columns is kept instead of them.

    Parameters
    ----------
    folder : Path
        Of the disk.
    processor : Processor
        Of the columns.
    row : sequence of Tensor
        What enters the graph of one row.
    target : TensorLayout
        Of an encoded target.
    """

    def __init__(self, folder: Path, processor: Processor, row: Sequence[Tensor], target: TensorLayout) -> None:
        self._processor = processor
        self._plain = [feature for feature in processor.features if feature.costly is None]
        places = [place for place, feature in enumerate(processor.features) if feature.costly is None]
        kinds = [TensorLayout(row[place].dtype, row[place].dtype, tuple(row[place].shape[1:])) for place in places]
        self._spill = Spill(folder, [*kinds, target])
        self._files = {feature.name: Values(folder) for feature in processor.features if feature.costly is not None}
        self.target = TargetOnDisk(self._spill)
        self.keeps: dict[str, DecodedRows] = {}
        """By column, what keeps what the files hold."""

    def __enter__(self) -> RowsOnDisk:
        return self

    def __exit__(self, *error: object) -> None:
        self._spill.close()
        for values in self._files.values():
            values.close()

    def __len__(self) -> int:
        return self._spill.rows

    def append(self, table: pa.Table, target: Tensor) -> None:
        """Write rows behind those that are there.

        Parameters
        ----------
        table : pyarrow.Table
            As they came.
        target : Tensor
            Encoded, with the weights of its rows beside it.

        Raises
        ------
        StoreError
            If the disk does not take them.
        """
        ready = self._processor.ready(table)
        plain = [as_tensor(feature.entered(ready.column(feature.name))) for feature in self._plain]
        self._spill.append([*plain, target])
        for name, values in self._files.items():
            values.append(ready.column(name))

    def __call__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        """What enters the graph, of some rows."""
        plain = iter(range(len(self._plain)))

        def entered(feature: Feature) -> Any:
            values = self._files.get(feature.name)
            if values is None:
                return self._spill.some(next(plain), rows)
            keep = self.keeps.get(feature.name)
            if keep is None:
                return feature.entered(values.take(rows))
            return keep(rows, lambda at: feature.entered(values.take([rows[place] for place in at])))

        return tuple(as_tensor(np.asarray(entered(feature))) for feature in self._processor.features)
