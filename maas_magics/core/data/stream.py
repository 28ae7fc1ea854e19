"""Rows as an Arrow stream: written on one machine, read on another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.media import embedded
from maas_magics.core.data.sources import Answers, Source, as_arrow, plain

ROWS = 65_536
"""Rows of one record batch; the same for everyone, so that the same rows have the same digest."""


class StreamSource:
    """An Arrow stream in a file, mapped into memory.

    Parameters
    ----------
    file : Path
    arrays : bool
        Whether the rows were arrays, not a table.
    notes : sequence of str
        Notes on how they were read.
    origin : str
        Where the client had them from; see `maas_magics.core.data.origin`.

    Raises
    ------
    DataError
        If the file is not an Arrow stream.
    """

    sent: ClassVar[bool] = True
    """From another machine: a text in it is never opened as a path."""

    def __init__(self, file: Path, arrays: bool, notes: Sequence[str] = (), origin: str = "table") -> None:
        self.arrays = arrays
        self.origin = origin
        self.notes = tuple(notes)
        try:
            with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as reader:
                self._table = reader.read_all()
            self._table.validate(full=True)
            self._table = plain(self._table)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowSerializationError, OSError) as error:
            raise DataError(f"The data that was sent cannot be read: {str(error).splitlines()[0][:200]}") from None
        self.rows: int | None = self._table.num_rows

    def table(self) -> pa.Table:
        """All rows."""
        return plain(self._table, whole=True)

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """All rows, at most ``rows`` at a time."""
        for start in range(0, max(self._table.num_rows, 1), rows):
            yield self._table.slice(start, rows)

    def size(self) -> int:
        """Bytes that all rows take in memory."""
        return int(self._table.nbytes)

    def restore(self, columns: Answers) -> Any:
        """Answers as an Arrow table, for the client that sent the rows."""
        return as_arrow(columns)


def write_stream(source: Source, file: BinaryIO) -> tuple[str, int]:
    """Write a source as an Arrow stream.

    Returns
    -------
    digest : str
        SHA-256 of the bytes.
    size : int
        How many they are.
    """
    sink = _Hashing(file)
    # Rows in memory are turned into Arrow as a whole, since a chunk alone may not show a column's type.
    chunks: Iterable[pa.Table] = source.chunks(ROWS) if source.rows is None else [source.table()]
    writer: Any = None
    for table in chunks:
        table = embedded(table).replace_schema_metadata(None)
        if writer is None:
            schema = table.schema
            writer = pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), schema)
        for batch in table.cast(schema).combine_chunks().to_batches(ROWS):
            writer.write_batch(batch)
    if writer is None:
        raise DataError("The data has no rows.", "Give at least a few rows.")
    writer.close()
    return sink.digest.hexdigest(), sink.size


class _Hashing:
    """A file that knows the digest of what was written to it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self._file = file

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.digest.update(view)
        self.size += len(view)
        self._file.write(view)
        return len(view)

    def flush(self) -> None:
        """Leave that to the file's owner."""

    def close(self) -> None:
        """Leave that to the file's owner."""
