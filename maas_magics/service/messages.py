"""What passes between a server and an application: ASGI messages, and bodies that are read within limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from maas_magics.api.errors import DataError
from maas_magics.service.gate import Gate, TooSlow, Visit

Message = dict[str, Any]
Headers = list[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = (b"content-type", b"application/json")
BINARY = (b"content-type", b"application/octet-stream")

PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, content-encoding, idempotency-key, inference-header-content-length, "
        b"last-event-id, upload-length, upload-offset, x-request-id",
    ),
    (b"access-control-max-age", b"600"),
]
"""What web pages of an origin that is allowed may send."""

READABLE = (
    b"access-control-expose-headers",
    b"inference-header-content-length, retry-after, upload-offset, x-model, x-request-id",
)
"""What they may read."""

SLOW = 60.0
"""Seconds that a client may take for the next piece of a body."""

LOOK = 5.0
"""Seconds between two looks for clients that are slower."""


class Bodies:
    """Reads bodies of requests, and ends requests whose body does not come.

    A clock of its own for each request would cost more than to read it: one looks at all of them now and then.

    Parameters
    ----------
    gate : Gate
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._reading: dict[Visit, asyncio.Task[Any] | None] = {}
        self._clock: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look for slow clients; called in the event loop's thread."""
        self._clock = asyncio.get_running_loop().call_later(LOOK, self.look)

    def stop(self) -> None:
        """End it."""
        if self._clock is not None:
            self._clock.cancel()

    def look(self) -> None:
        """End the requests whose next piece did not come in time."""
        now = time.perf_counter()
        for visit, task in self._reading.items():
            if task is not None and now - visit.heard > SLOW:
                visit.late = True
                task.cancel()
        self.start()

    async def read(self, visit: Visit, receive: Receive) -> bytes:
        """The body of a request, as it was before it was compressed.

        Raises
        ------
        DataError
            If it is too long or too slow, or cannot be decompressed.
        """
        self._reading[visit] = asyncio.current_task()
        try:
            message = await receive()
            body: bytes = message.get("body", b"")
            if message.get("more_body"):
                body = await self._rest(visit, body, receive)
            elif message["type"] == "http.disconnect":
                raise DataError("The client went away.")
        except asyncio.CancelledError:
            if not visit.late:
                raise
            raise TooSlow(f"The body did not come within {SLOW:g} s.", "Send it again.") from None
        finally:
            del self._reading[visit]
        if len(body) > self._gate.body_limit:
            raise self._gate.too_large()
        return self._gate.plain(visit, body) if visit.coding else body

    async def _rest(self, visit: Visit, body: bytes, receive: Receive) -> bytes:
        parts, size, more = [body], len(body), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise DataError("The client went away.")
            visit.heard = time.perf_counter()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._gate.body_limit:
                raise self._gate.too_large()
            more = message.get("more_body", False)
        return b"".join(parts)
