"""Answers in chunks that are on their way: each is read by one connection, and for a while by the next one."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from maas_magics.api.errors import GenerationLost, OptionError
from maas_magics.api.requests import Priority
from maas_magics.api.stream import Chunk, ChunkStream
from maas_magics.service.allowance import LETTERS, Allowance
from maas_magics.service.budget import Overloaded
from maas_magics.service.chunks import encode_chunk
from maas_magics.service.gate import Visit
from maas_magics.service.metered import MeteredStream
from maas_magics.service.metrics import ServiceMetrics
from maas_magics.service.settings import Settings

ALIVE = 10.0
"""Seconds without a chunk after which a comment keeps the connection open."""

KEPT = 1_024
"""Chunks that were sent and may be requested again."""

KEPT_BYTES = 2**18
"""Bytes of them; the last one is kept whatever it takes."""

LONGEST_KEEP = 60.0
"""Seconds that a generation waits for a reader at most."""

MOST_ENDED = 256
"""Generations that have ended and are kept for readers that come back."""

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


class Generations:
    """Those of one service.

    Parameters
    ----------
    settings : Settings
        How many may be on their way at a time, and what each client may have.
    metrics : ServiceMetrics
        Gets why each ended, and how many chunks and tokens there were.
    """

    def __init__(self, settings: Settings, metrics: ServiceMetrics) -> None:
        self._most = settings.generations
        self._metrics = metrics
        self._tokens = settings.tokens
        self._allowance = Allowance(settings.tokens, settings.tokens_per_minute)
        self._known: dict[str, Generation] = {}
        self.live = 0
        """Generations that have not ended."""

    def __iter__(self) -> Iterator[Generation]:
        return iter(list(self._known.values()))

    def reserve(self) -> None:
        """Take a place for one that is about to begin; `begin` or `give_back` follows.

        Raises
        ------
        Overloaded
        """
        if self.live >= self._most:
            raise Overloaded(f"The service generates {self._most} answers at a time.", "Try again in a second.")
        self.live += 1

    def allow(self, visit: Visit, letters: int, answers: int, most: int | None) -> list[float]:
        """Take from what a client may have what some answers are likely to take; `metered` puts it right.

        Parameters
        ----------
        visit : Visit
            The request for them.
        letters : int
            Of the prompts.
        answers : int
            How many there are.
        most : int or None
            Tokens of each at most.

        Raises
        ------
        Impatient
            If the client has to wait.
        """
        return [self._allowance.take(visit.head.client, letters, answers, most) / max(answers, 1)] * answers

    def metered(self, visit: Visit, stream: ChunkStream, expected: float) -> ChunkStream:
        """An answer whose tokens are counted.

        Parameters
        ----------
        visit : Visit
            The request for it.
        stream : ChunkStream
            The answer.
        expected : float
            Tokens that were taken for it.
        """
        client = visit.head.client

        def settled(prompt: int, answer: int) -> None:
            self._allowance.settle(client, expected, prompt + answer)

        return MeteredStream(stream, self._metrics, settled, visit.began)

    def refund(self, visit: Visit, expected: float) -> None:
        """Give back what was taken for an answer that did not begin."""
        self._allowance.settle(visit.head.client, expected, 0.0)

    async def taken(
        self,
        visit: Visit,
        letters: int,
        most: int | None,
        begin: Callable[[], Awaitable[ChunkStream]],
        counted: bool = True,
    ) -> ChunkStream:
        """An answer with a place, whose tokens are counted; `end` or `begin` gives the place back.

        Parameters
        ----------
        visit : Visit
            The request for it.
        letters : int
            Of the prompt.
        most : int or None
            Tokens at most.
        begin : callable
            Begins it.
        counted : bool
            Whether it costs its client tokens.
        """
        self.reserve()
        expected = 0.0
        try:
            if counted:
                (expected,) = self.allow(visit, letters, 1, most)
            return self.metered(visit, await begin(), expected)
        except BaseException:
            self.refund(visit, expected)
            self.give_back()
            raise

    def limits(self, visit: Visit) -> bool:
        """Whether the client of a request may have only so many tokens."""
        return self._allowance.limits(visit.head.client)

    @contextmanager
    def paid(self, visit: Visit, letters: int, most: int | None) -> Iterator[Callable[[int], None]]:
        """Rows that a model writes to; what is given is told the letters of the answers, which stand for their tokens.

        Parameters
        ----------
        visit : Visit
            The request for them.
        letters : int
            Of the prompts.
        most : int or None
            Tokens of an answer at most.

        Raises
        ------
        Impatient
            If the client has to wait.
        """
        client, answers = visit.head.client, [0]
        expected = self._allowance.take(client, letters, 1, most)
        try:
            yield answers.append
        finally:
            self._allowance.settle(client, expected, (letters + sum(answers)) / LETTERS)

    def priority(self, visit: Visit, asked: Priority) -> Priority:
        """Priority of a request: for a batch where it, or its client, says so."""
        known = self._tokens.named(visit.head.client) if self._tokens is not None else None
        return "batch" if known is not None and known.priority == "batch" else asked

    def give_back(self) -> None:
        """Give back the place of one that did not begin."""
        self.live -= 1

    def end(self, outcome: str, chunks: int) -> None:
        """Give back the place of one that is not kept here, and say why it ended and how many chunks there were."""
        self._settled(outcome, chunks)

    def begin(self, owner: str, stream: ChunkStream, keep: float, refusal: Callable[[Exception], bytes]) -> Generation:
        """Keep one that begins."""
        found = Generation(secrets.token_hex(12), owner, stream, keep, refusal, self._settled, self._dropped)
        self._known[found.id] = found
        ended = [one for one in self if one.over]
        for one in ended[: max(0, len(ended) - MOST_ENDED)]:
            one.drop()
        return found

    def find(self, id: str, owner: str) -> Generation:
        """One by its id, for the client that requested it.

        Raises
        ------
        GenerationLost
        """
        found = self._known.get(id)
        if found is None or found.owner != owner:
            raise GenerationLost(f"There is no generation {id[:40]!r}, or it is kept no longer.", "Start it again.")
        return found

    def close(self) -> None:
        """Cancel every one."""
        for one in self:
            one.drop()

    def _settled(self, outcome: str, chunks: int) -> None:
        self.live -= 1
        self._metrics.generation(outcome, chunks)

    def _dropped(self, one: Generation) -> None:
        self._known.pop(one.id, None)
