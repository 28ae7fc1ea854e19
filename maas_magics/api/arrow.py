"""What an Arrow stream says that it holds, from its metadata alone: nothing of it is decoded or unpacked.

An Arrow stream is a row of messages, each a length, a FlatBuffer and a body. The FlatBuffer of a batch names its
rows and buffers, and each buffer that is compressed begins with its length. So all that reading a stream would make
is known before any of it is made.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from maas_magics.api.errors import DataError

Buffer = bytes | bytearray | memoryview

_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3

_BATCH_COST, _COLUMN_COST = 1_024, 384
"""Bytes that a reader keeps for each batch, and for each of its columns, beside what they hold."""


class Extent(msgspec.Struct):
    """What reading a stream would make.

    Attributes
    ----------
    rows : int
        Of all batches.
    cells : int
        Values of all columns, nested and missing ones as well.
    bytes : int
        Of all buffers, unpacked, and of what a reader keeps beside them.
    batches : int
        Batches of rows or of a dictionary.
    deltas : int
        Batches that add to a dictionary.
    """

    rows: int = 0
    cells: int = 0
    bytes: int = 0
    batches: int = 0
    deltas: int = 0


def extent(stream: Buffer) -> Extent:
    """What reading an Arrow stream would make.

    Parameters
    ----------
    stream : Buffer
        Bytes of an Arrow IPC stream; only its metadata is read.

    Raises
    ------
    DataError
        If it is not such a stream.
    """
    found = Extent()
    view = memoryview(stream)
    try:
        for metadata, body in _messages(view):
            message = _Table(metadata, _root(metadata))
            kind = message.number(1, "<B")
            if kind not in (_DICTIONARY, _BATCH):
                continue
            batch = message.table(2)
            if kind == _DICTIONARY:
                found.deltas += message.table(2).number(2, "<B")
                batch = batch.table(1)
            else:
                found.rows += _positive(batch.number(0, "<q"))
            _add(found, batch, body)
    except (struct.error, ValueError, IndexError, OverflowError):
        raise DataError("The body is not an Arrow stream: its messages do not hold together.") from None
    return found


def _add(found: Extent, batch: _Table, body: memoryview) -> None:
    """Count one batch."""
    nodes, buffers = batch.structs(1), batch.structs(2)
    found.batches += 1
    found.cells += sum(_positive(length) for length, _ in nodes)
    found.bytes += _BATCH_COST + _COLUMN_COST * len(nodes)
    packed = batch.has(3)
    for offset, length in buffers:
        if not 0 <= offset <= offset + _positive(length) <= len(body):
            raise ValueError("a buffer outside of its message")
        if packed and length:
            whole = int(struct.unpack_from("<q", body, offset)[0])
            length = length - 8 if whole == -1 else _positive(whole)
        found.bytes += length


def _messages(view: memoryview) -> Iterator[tuple[memoryview, memoryview]]:
    """FlatBuffer and body of each message."""
    at = 0
    while at + 4 <= len(view):
        length = struct.unpack_from("<i", view, at)[0]
        at += 4
        if length == -1:  # the mark of newer streams
            length = struct.unpack_from("<i", view, at)[0]
            at += 4
        if length == 0:
            return
        metadata = view[at : at + _positive(length)]
        if len(metadata) < length:
            raise ValueError("a message breaks off")
        at += length
        size = _positive(_Table(metadata, _root(metadata)).number(3, "<q"))
        body = view[at : at + size]
        if len(body) < size:
            raise ValueError("a body breaks off")
        at += size
        yield metadata, body


class _Table:
    """A table of a FlatBuffer: fields that may be absent, found through a list of offsets."""

    __slots__ = ("_at", "_data", "_offsets", "_size")

    def __init__(self, data: memoryview, at: int) -> None:
        self._data = data
        self._at = at
        self._offsets = at - struct.unpack_from("<i", data, at)[0]
        if self._offsets < 0:
            raise ValueError("offsets outside of their message")
        self._size = struct.unpack_from("<H", data, self._offsets)[0]

    def _field(self, slot: int) -> int:
        """Where a field is; 0 where it is absent."""
        place = 4 + 2 * slot
        if place + 2 > self._size:
            return 0
        offset = struct.unpack_from("<H", self._data, self._offsets + place)[0]
        return self._at + offset if offset else 0

    def has(self, slot: int) -> bool:
        """Whether a field is there."""
        return bool(self._field(slot))

    def number(self, slot: int, kind: str) -> int:
        """A whole number; 0 where it is absent."""
        at = self._field(slot)
        return int(struct.unpack_from(kind, self._data, at)[0]) if at else 0

    def table(self, slot: int) -> _Table:
        """A table within."""
        at = self._field(slot)
        if not at:
            raise ValueError("a table is absent")
        return _Table(self._data, at + struct.unpack_from("<I", self._data, at)[0])

    def structs(self, slot: int) -> list[tuple[int, int]]:
        """A list of pairs of whole numbers."""
        at = self._field(slot)
        if not at:
            return []
        at += struct.unpack_from("<I", self._data, at)[0]
        count = struct.unpack_from("<I", self._data, at)[0]
        return list(struct.iter_unpack("<qq", self._data[at + 4 : at + 4 + 16 * count])) if count else []


def _root(metadata: memoryview) -> int:
    return int(struct.unpack_from("<I", metadata, 0)[0])


def _positive(number: int) -> int:
    if number < 0:
        raise ValueError("a length below zero")
    return number
