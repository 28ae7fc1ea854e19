"""Answers on their way to a client of OpenAI's API, as a whole or as they come; one who hangs up cancels them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from starlette.responses import Response, StreamingResponse

from maas_magics.api.errors import MaasError
from maas_magics.api.stream import Chunk
from maas_magics.service.generation import ALIVE
from maas_magics.service.messages import Message, Receive, Send, until_gone
from maas_magics.service.openai.texts import CALLED, Answering, Form, end_of, parts_of
from maas_magics.service.openai.tools import Held, Tools

GONE = 499
"""Status of a request whose client hung up before there was an answer, as proxies log it."""


class WholeAnswer(Response):
    """An answer that is made while its client waits.

    Parameters
    ----------
    make : callable
        Begins to make it; cancelled where its client hangs up.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
        super().__init__(media_type="application/json")
        self._make = make

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # type: ignore[override]
        """Send it."""
        making, gone = asyncio.ensure_future(self._make()), asyncio.ensure_future(until_gone(receive))
        try:
            await asyncio.wait({making, gone}, return_when=asyncio.FIRST_COMPLETED)
            found = await making if making.done() else None
        finally:
            gone.cancel()
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)
        await Response(found or b"", 200 if found else GONE, media_type=self.media_type)(scope, receive, send)  # type: ignore[arg-type]


class EventStream(StreamingResponse):
    """Answers as they come.

    What goes wrong before there is anything to send is an error with a status, as for a whole answer.

    Parameters
    ----------
    form, answering
    before : sequence of str
        What stands before each answer.
    usage : bool
        Whether the last chunk says what they took.
    refusal : callable
        From an error to its JSON.
    tools : Tools or None
        Functions that may be called.
    """

    def __init__(
        self,
        form: Form,
        answering: Answering,
        before: Sequence[str],
        usage: bool,
        refusal: Callable[[Exception], bytes],
        tools: Tools | None = None,
    ) -> None:
        super().__init__(
            (), headers={"cache-control": "no-store", "x-accel-buffering": "no"}, media_type="text/event-stream"
        )
        self._form, self._answering, self._before = form, answering, before
        self._usage, self._refusal = usage, refusal
        self._held = [Held(tools) for _ in before]
        self._letters = [0 for _ in before]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # type: ignore[override]
        """Send them."""

        async def write(lines: bytes) -> None:
            await send({"type": "http.response.body", "body": lines, "more_body": True})

        chunks = self._answering.chunks()
        first = asyncio.ensure_future(anext(chunks))
        gone = asyncio.ensure_future(until_gone(receive))
        writing: asyncio.Future[None] | None = None
        try:
            await asyncio.wait({first, gone}, timeout=ALIVE, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not first.done():
                await Response(status_code=GONE)(scope, receive, send)  # type: ignore[arg-type]
                return
            if first.done():
                first.result()  # an error is raised, and gets a status
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            writing = asyncio.ensure_future(self._write(write, first, chunks))
            while not writing.done():
                done, _ = await asyncio.wait({writing, gone}, timeout=ALIVE, return_when=asyncio.FIRST_COMPLETED)
                if gone in done:
                    return
                if not done:
                    await write(b":\n\n")
            await writing
        finally:
            tasks = [task for task in (gone, writing, first) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await chunks.aclose()
        await send({"type": "http.response.body", "body": b""})

    async def _write(
        self,
        write: Callable[[bytes], Any],
        first: asyncio.Future[tuple[int, Chunk]],
        chunks: AsyncIterator[tuple[int, Chunk]],
    ) -> None:
        begun: set[int] = set()
        try:
            await self._part(write, begun, *await first)
            async for place, chunk in chunks:
                await self._part(write, begun, place, chunk)
            if self._usage:
                await write(self._form.used(self._answering.usage))
        except MaasError as error:
            await write(b"data: %s\n\n" % self._refusal(error))
        if self._form.last:
            await write(self._form.last)

    async def _part(self, write: Callable[[bytes], Any], begun: set[int], place: int, chunk: Chunk) -> None:
        """Write what a chunk of one answer adds."""
        first = place not in begun
        begun.add(place)
        said, tokens = parts_of(chunk.delta)
        text = (self._before[place] if first else "") + self._held[place].add(said)
        rest, calls = self._held[place].rest() if chunk.finish else ("", [])
        end = CALLED if calls and chunk.finish == "stop" else end_of(chunk)
        before = self._letters[place]
        self._letters[place] += sum(len(one["token"]) for one in tokens or ())
        if calls:
            await write(self._form.part(place, text + rest, None, first, tokens, before))
            await write(self._form.called(place, calls))
            await write(self._form.part(place, None, end, False))
        elif text or rest or chunk.finish or first or tokens:
            await write(self._form.part(place, text + rest, end, first, tokens, before))
