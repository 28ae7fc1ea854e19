"""Answers in chunks as they are counted: their tokens, and how soon the first one came."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from maas_magics.api.stream import Chunk, ChunkStream
from maas_magics.service.metrics import ServiceMetrics


class MeteredStream:
    """A stream that tells what it took when it ends or is closed.

    Parameters
    ----------
    stream : ChunkStream
        The answer.
    metrics : ServiceMetrics
        Gets its tokens, and the seconds until its first chunk.
    settled : callable
        Gets the tokens of its prompt, and of the answer so far, once.
    began : float
        When it was asked for, as `time.perf_counter` says.
    """

    def __init__(
        self, stream: ChunkStream, metrics: ServiceMetrics, settled: Callable[[int, int], None], began: float
    ) -> None:
        self._stream, self._metrics, self._settled, self._began = stream, metrics, settled, began
        self._chunks = 0
        self._over = False

    @property
    def model(self) -> str:
        """``name:version`` that answers."""
        return self._stream.model

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        chunk = await anext(self._stream)
        if not self._chunks:
            self._metrics.first_chunk(time.perf_counter() - self._began)
        self._chunks += 1
        if chunk.finish:
            self._end(*(chunk.usage.input, chunk.usage.steps) if chunk.usage is not None else (0, 0))
        return chunk

    def __iter__(self) -> Any:
        return iter(self._stream)

    def __next__(self) -> Chunk:
        return next(self._stream)

    def close(self) -> None:
        """Cancel what has not come yet; about a token a chunk was made of an answer that had not ended."""
        self._stream.close()
        self._end(0, self._chunks)

    async def aclose(self) -> None:
        """The same from a coroutine."""
        self.close()

    def _end(self, prompt: int, answer: int) -> None:
        if not self._over:
            self._over = True
            self._metrics.tokens(prompt, answer)
            self._settled(prompt, answer)
