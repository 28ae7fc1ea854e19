"""Rows that came in a request, measured before they are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.arrow import extent
from maas_magics.api.errors import DataError
from maas_magics.service.budget import Hold, TooLarge, check_rows
from maas_magics.service.widths import TEXT, Width

MOST_COLUMNS = 10_000

MOST_DELTAS = 16
"""Batches that may add to a dictionary; each makes all of it anew."""

_CHUNK = 4_096
"""Rows that a backend reads at a time."""

_CELL = 64
"""Bytes that a value may take as a backend reads it."""

_UNREAD = (pa.types.is_union, pa.types.is_run_end_encoded, pa.types.is_list_view, pa.types.is_large_list_view)
"""Kinds of columns whose rows may share what they hold, so that a small body could unpack to many large rows."""


class ReceivedRows:
    """Rows that came in a request, as a backend reads them.

    Parameters
    ----------
    data : bytes
        An Arrow stream.
    arrays : bool
        Whether they are arrays, not a table.
    hold : callable
        Takes memory for what becomes of them.

    Raises
    ------
    DataError
        If they are not such a stream, or more than a request may have.
    """

    sent: ClassVar[bool] = True
    """From another machine: a text in it is never opened as a path."""

    def __init__(self, data: bytes, arrays: bool, hold: Hold) -> None:
        self.arrays, self.origin = arrays, "table"
        self._hold = hold
        told = extent(data)
        check_rows(told.rows)
        if told.deltas > MOST_DELTAS:
            raise TooLarge("The dictionaries of the body come in too many parts.", "Send each as a whole.")
        rows = max(1, told.rows)
        hold(told.bytes + _CELL * min(told.cells, told.cells * _CHUNK // rows))
        try:
            with pa.ipc.open_stream(data) as reader:
                self._check(reader.schema)
                self._table = reader.read_all()
            self._table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise DataError(f"The body is not an Arrow stream: {why}") from None
        hold(sum(map(_repeated, self._table.columns)))
        self.rows: int | None = self._table.num_rows

    def _check(self, schema: pa.Schema) -> None:
        if len(schema) > MOST_COLUMNS:
            raise TooLarge(f"The body has {len(schema):,} columns; it may have {MOST_COLUMNS:,}.")
        for name, kind in zip(schema.names, schema.types, strict=True):
            if any(test(part) for part in _parts(kind) for test in _UNREAD):
                raise DataError(f"Column {name[:80]!r} holds {str(kind)[:80]}, which is not read here.")

    def hold_answer(self, width: Width, top: int) -> None:
        """Take memory for the answers of a model."""
        each = 2 * TEXT * min(top, width.labels) if top else width.bytes
        self._hold(2 * each * self._table.num_rows)

    def table(self) -> pa.Table:
        """All rows."""
        return self._table

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """All rows, at most ``rows`` at a time."""
        for start in range(0, max(self._table.num_rows, 1), rows):
            yield self._table.slice(start, rows)

    def restore(self, columns: Any) -> Any:
        """Answers as they are."""
        return columns


def _parts(kind: pa.DataType) -> Iterator[pa.DataType]:
    """A kind, and all within it."""
    yield kind
    if pa.types.is_dictionary(kind):
        yield from _parts(kind.value_type)
    elif isinstance(kind, pa.BaseExtensionType):
        yield from _parts(kind.storage_type)
    else:
        for place in range(kind.num_fields):
            yield from _parts(kind.field(place).type)


def _repeated(values: pa.ChunkedArray) -> int:
    """Bytes of as many rows as are read at a time, once each has a copy of its text, where they may share it."""
    chunks: list[pa.Array] = values.chunks
    if pa.types.is_dictionary(values.type):
        chunks = [chunk.dictionary for chunk in chunks]
    elif values.type not in (pa.string_view(), pa.binary_view()):
        return 0
    return 2 * max(map(_longest, chunks), default=0) * min(len(values), _CHUNK)


def _longest(values: pa.Array) -> int:
    """Bytes of the longest text."""
    kind = values.type
    if kind in (pa.string_view(), pa.binary_view()):  # each is 16 bytes that begin with its length
        lengths = np.frombuffer(values.buffers()[1] or b"", "<i4")[::4]
        return int(lengths[values.offset : values.offset + len(values)].max(initial=0))
    if kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        return int(pc.max(pc.binary_length(values)).as_py() or 0)
    return 0
