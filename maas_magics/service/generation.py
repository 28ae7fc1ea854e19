"""An answer in chunks that is on its way: read by one connection, and for a while by the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from maas_magics.api.errors import GenerationLost, OptionError
from maas_magics.api.stream import Chunk, ChunkStream
from maas_magics.service.chunks import encode_chunk

ALIVE = 10.0
"""Seconds without a chunk after which a comment keeps the connection open."""

KEPT = 1_024
"""Chunks that were sent and may be requested again."""

KEPT_BYTES = 2**18
"""Bytes of them; the last one is kept whatever it takes."""

LONGEST_KEEP = 60.0
"""Seconds that a generation waits for a reader at most."""

Write = Callable[[bytes], Awaitable[None]]


class Generation:
    """One answer. All but the stream's making happens in the event loop.

    Parameters
    ----------
    id, owner : str
        Its own, and name of the client's token.
    stream : ChunkStream
    keep : float
        Seconds that it waits for a reader before it is cancelled; at 0 its connection's end is its end.
    refusal : callable
        From an error to the message for its reader.
    settled : callable
        Gets why it ended and how many chunks there were, once.
    dropped : callable
        Gets it when it can be requested no longer.
    """

    def __init__(
        self,
        id: str,
        owner: str,
        stream: ChunkStream,
        keep: float,
        refusal: Callable[[Exception], bytes],
        settled: Callable[[str, int], None],
        dropped: Callable[[Generation], None],
    ) -> None:
        self.id = id
        self.owner = owner
        self.model = stream.model
        self._stream = stream
        self._keep = keep
        self._refusal = refusal
        self._settled = settled
        self._dropped = dropped
        self._kept: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._next = 0
        self._error = b""
        self._reader: object = None
        self._pull: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.over = False
        """Whether nothing more comes."""

    def check(self, after: int) -> None:
        """Check that the chunks after one are there, or still to come.

        Raises
        ------
        GenerationLost
            If they are kept no longer.
        OptionError
            If there is no such chunk yet.
        """
        if after >= self._next:
            raise OptionError(f"There is no chunk {after} yet.", f"Last-Event-ID: {self._next - 1}")
        first = self._kept[0][0] if self._kept else self._next
        if after + 1 < first:
            raise GenerationLost(
                f"The chunks after {after} are kept no longer; the first that is there is {first}.", "Start it again."
            )

    async def write_to(self, after: int, write: Write, gone: asyncio.Future[None]) -> None:
        """Write every chunk after one as it comes, no faster than its reader takes them; in place of any reader before.

        Parameters
        ----------
        after : int
            Place of a chunk; −1 for all.
        write : callable
        gone : Future
            Done once the reader has gone.
        """
        me = self._reader = object()
        self._stop_timer()
        try:
            while self._reader is me and not gone.done():
                lines = b"".join(line for index, line in self._kept if index > after)
                if lines:
                    after = self._next - 1
                    await write(lines)
                elif self.over:
                    if self._error:
                        await write(self._error)
                    return
                else:
                    await self._more(write, gone)
        finally:
            if self._reader is me:
                self._leave()

    async def _more(self, write: Write, gone: asyncio.Future[None]) -> None:
        """Wait for a chunk. A reader may go; the wait continues for the next one, so that no chunk is lost."""
        if self._pull is None:
            self._pull = asyncio.ensure_future(self._take())
        done, _ = await asyncio.wait({self._pull, gone}, timeout=ALIVE, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            await write(b":\n\n")

    async def _take(self) -> None:
        try:
            chunk = await anext(self._stream)
            if not self.over:
                self._add(chunk)
        except StopAsyncIteration:
            self._end("stop")
        except Exception as error:
            if not self.over:
                self._error = b"event: Error\ndata: %s\n\n" % self._refusal(error)
                self._end("error")
            self._stream.close()
        finally:
            self._pull = None

    def _add(self, chunk: Chunk) -> None:
        line = encode_chunk(chunk)
        self._kept.append((chunk.index, line))
        self._bytes += len(line)
        self._next = chunk.index + 1
        most = KEPT if self._keep else 1
        while len(self._kept) > 1 and (len(self._kept) > most or self._bytes > KEPT_BYTES):
            self._bytes -= len(self._kept.popleft()[1])
        if chunk.finish:
            self._end(chunk.finish)

    def _end(self, outcome: str) -> None:
        if not self.over:
            self.over = True
            self._settled(outcome, self._next)

    def cancel(self) -> None:
        """End it; its reader gets a last chunk that says so."""
        if not self.over:
            self._add(Chunk(self._next, None, "cancelled"))
            self._stream.close()

    def _leave(self) -> None:
        self._reader = None
        if self._keep:
            self._timer = asyncio.get_running_loop().call_later(self._keep, self.drop)
        else:
            self.drop()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def drop(self) -> None:
        """Keep nothing of it any longer."""
        self._stop_timer()
        self._reader = None
        self._stream.close()
        self._end("cancelled")
        self._dropped(self)
