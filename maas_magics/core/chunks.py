"""Chunks on their way from the thread that makes them to their reader, who is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import GenerateRequest, PredictRequest
from maas_magics.api.results import Prediction
from maas_magics.api.stream import Chunk

AHEAD = 16
"""Chunks that may be made before their reader takes them."""


class Chunks:
    """Where chunks are put, in one thread, and taken, in another or in an event loop.

    The lock may be taken again by the thread that has it: a reader that is dropped closes this wherever the garbage
    collector runs.

    Parameters
    ----------
    changed : callable
        Called after a reader made room where there was none, or closed; in the reader's thread.
    most : int
        Chunks that may wait for the reader.
    """

    def __init__(self, changed: Callable[[], object] = lambda: None, most: int = AHEAD) -> None:
        self._changed = changed
        self._most = most
        self._there: deque[Chunk] = deque()
        self._news = threading.Condition()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._error: Exception | None = None
        self._ended = False
        self.closed = False
        """Whether no one reads any more."""

    # --- for the thread that makes them ---

    @property
    def has_room(self) -> bool:
        """Whether the reader is not too far behind."""
        return len(self._there) < self._most

    def put(self, chunk: Chunk) -> None:
        """Hand on a chunk; one that finishes ends the stream."""
        with self._news:
            if not self._ended:
                self._there.append(chunk)
                self._ended = bool(chunk.finish)
                self._wake()

    def fail(self, error: Exception) -> None:
        """End the stream with an error, which is raised after the chunks that are there."""
        with self._news:
            if not self._ended:
                self._error, self._ended = error, True
                self._wake()

    def wait_for_room(self) -> bool:
        """Wait until the reader is not too far behind; False once no one reads any more."""
        with self._news:
            self._news.wait_for(lambda: self.has_room or self.closed)
            return not self.closed

    # --- for the reader ---

    def take(self) -> Chunk | None:
        """The next chunk, waited for in this thread; None at the end."""
        with self._news:
            self._news.wait_for(lambda: self._there or self._ended)
            full, chunk = self._taken()
        if full:
            self._changed()
        return chunk

    async def take_async(self) -> Chunk | None:
        """The next chunk, waited for in the event loop; None at the end."""
        while (future := self._to_wait_for()) is not None:
            await future
        return self.take()

    def _to_wait_for(self) -> asyncio.Future[None] | None:
        """What is done when there is something to take; None if there is now."""
        with self._news:
            if self._there or self._ended:
                return None
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, future))
            return future

    def _taken(self) -> tuple[bool, Chunk | None]:
        """Whether there was no room for another, and the next chunk."""
        if not self._there:
            error, self._error = self._error, None
            if error is not None:
                raise error
            return False, None
        full = not self.has_room
        chunk = self._there.popleft()
        if full:
            self._news.notify_all()
        return full, chunk

    def close(self) -> None:
        """Read no more."""
        with self._news:
            if self.closed:
                return
            self.closed = self._ended = True
            self._error = None
            self._there.clear()
            self._wake()
        self._changed()

    def _wake(self) -> None:
        self._news.notify_all()
        waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            with contextlib.suppress(RuntimeError):  # its loop is closed, and no one waits
                loop.call_soon_threadsafe(_wake, future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class ChunkReader:
    """The `ChunkStream` of some chunks. Dropping it closes them.

    Parameters
    ----------
    chunks : Chunks
    model : str
        ``name:version`` that answers.
    """

    def __init__(self, chunks: Chunks, model: str) -> None:
        self._chunks = chunks
        self.model = model
        weakref.finalize(self, chunks.close).atexit = False

    def __repr__(self) -> str:
        return f"<ChunkStream {self.model}>"

    def __iter__(self) -> ChunkReader:
        return self

    def __aiter__(self) -> ChunkReader:
        return self

    def __next__(self) -> Chunk:
        chunk = self._chunks.take()
        if chunk is None:
            raise StopIteration
        return chunk

    async def __anext__(self) -> Chunk:
        chunk = await self._chunks.take_async()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    def close(self) -> None:
        """Cancel what has not come yet."""
        self._chunks.close()

    async def aclose(self) -> None:
        """Cancel what has not come yet."""
        self._chunks.close()


def check(request: GenerateRequest) -> None:
    """Check the values of a request.

    Raises
    ------
    OptionError
    """
    if request.max_steps is not None and request.max_steps < 1:
        raise OptionError(f"max_steps is {request.max_steps}; at least 1 was expected.", "max_steps=100")
    if request.timeout is not None and not 0 < request.timeout < math.inf:
        raise OptionError(f"timeout is {request.timeout:g}; seconds above 0 were expected.", "timeout=60")


def in_one_pass(request: GenerateRequest, predict: Callable[[PredictRequest], Any], model: str = "") -> ChunkReader:
    """The stream of a model that answers in one pass: one chunk with all that ``predict`` answers.

    Parameters
    ----------
    request : GenerateRequest
    predict : callable
        From a `PredictRequest` to its answer.
    model : str
        ``name:version`` that answers, where the answer is not a `Prediction`, which holds it.

    Raises
    ------
    OptionError
        If there are parameters, which only a sampler takes.
    """
    check(request)
    if request.params:
        given = ", ".join(map(repr, sorted(request.params)))
        raise OptionError(f"{request.model} answers in one pass, which takes no parameters.", f"Leave out {given}.")
    found = predict(PredictRequest(model=request.model, data=request.data))
    chunks = Chunks()
    chunks.put(Chunk(0, found, "stop"))
    return ChunkReader(chunks, found.model if isinstance(found, Prediction) else model)
