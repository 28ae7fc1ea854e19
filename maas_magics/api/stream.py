"""Answers that come in chunks: what one chunk is, and how a stream of them is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, Protocol

import msgspec

Finish = Literal["", "stop", "length", "cancelled"]
"""Why a stream ended: not yet; the model ended it; as many steps as were requested; it was cancelled."""


class Usage(msgspec.Struct, frozen=True):
    """What a generation took.

    Attributes
    ----------
    input : int
        Elements of the input, such as tokens of a prompt.
    steps : int
        Passes of the model that gave an output.
    """

    input: int = 0
    steps: int = 0


class Chunk(msgspec.Struct, frozen=True):
    """One part of an answer.

    Attributes
    ----------
    index : int
        Place in the stream, counted from 0.
    delta : Any
        What is new: a text, a number, an array; of a model that answers in one pass the whole `Prediction`. None where
        the last chunk says only that the stream ends.
    finish : {"", "stop", "length", "cancelled"}
        Why the stream ends with this chunk; empty where it continues.
    usage : Usage or None
        Of the whole stream, with its last chunk.
    """

    index: int
    delta: Any
    finish: Finish = ""
    usage: Usage | None = None


class ChunkStream(Protocol):
    """Chunks of one answer in order, read by ``async for`` or by ``for``, once.

    It ends after a chunk whose ``finish`` is not empty, or raises what went wrong. Closing it, or dropping it, cancels
    the generation within one step. A cancelled wait for a chunk loses none.
    """

    @property
    def model(self) -> str:
        """``name:version`` that answers."""

    def __aiter__(self) -> AsyncIterator[Chunk]: ...

    async def __anext__(self) -> Chunk: ...

    def __iter__(self) -> Iterator[Chunk]: ...

    def __next__(self) -> Chunk: ...

    def close(self) -> None:
        """Cancel what has not come yet; may be called from any thread, and twice."""

    async def aclose(self) -> None:
        """The same from a coroutine."""


class TensorDelta(msgspec.Struct, frozen=True, tag="tensor", tag_field="$"):
    """An array of a chunk on its way over a wire.

    Attributes
    ----------
    datatype : str
        Of the Open Inference Protocol.
    shape : tuple of int
    data : bytes
        Little-endian, in C order.
    """

    datatype: str
    shape: tuple[int, ...]
    data: bytes


class RowsDelta(msgspec.Struct, frozen=True, tag="rows", tag_field="$"):
    """A prediction of a chunk on its way over a wire.

    Attributes
    ----------
    model : str
    columns : bytes
        Columns of the answers, an Arrow stream.
    blank : int
    cautions : tuple of str
    """

    model: str
    columns: bytes
    blank: int = 0
    cautions: tuple[str, ...] = ()
