"""What passes between a server and an application: ASGI messages, and bodies that are read within limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from maas_magics.api.errors import DataError
from maas_magics.service.coding import Bytes, packed
from maas_magics.service.gate import Gate, Visit
from maas_magics.service.threads import RowThreads

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
    b"inference-header-content-length, retry-after, upload-offset, x-blank, x-generation, x-model, x-request-id, "
    b"x-warnings",
)
"""What they may read."""

OLD: Headers = [(b"deprecation", b"true"), (b"link", b'</maas/v1/>; rel="successor-version"')]
"""Headers of answers under the paths that ours had before."""

SLOW = 60.0
"""Seconds that a client may take for the next piece of a request."""


async def until_gone(receive: Receive) -> None:
    """Wait until a client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_body(visit: Visit, gate: Gate, receive: Receive, rows: RowThreads, limit: int = 0) -> Bytes:
    """The body of a request, as it was before it was compressed.

    Parameters
    ----------
    visit, gate, receive
    rows : RowThreads
        Where it is unpacked.
    limit : int
        Bytes that it may have; the gate's limit when 0.

    Raises
    ------
    MaasError
        If it is too long, breaks off, or cannot be decompressed.
    """
    limit = min(limit or gate.body_limit, gate.body_limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise DataError("The body broke off.")
    body: Bytes = message.get("body", b"")
    gate.hold(visit, len(body))
    if message.get("more_body"):
        body = await _rest(visit, gate, receive, message, limit)
    if len(body) > limit:
        raise gate.too_large()
    if not visit.head.coding:
        return body
    body = await rows.run(gate.plain, visit, body)
    if len(body) > limit:
        raise gate.too_large()
    return body


async def _rest(visit: Visit, gate: Gate, receive: Receive, message: Message, limit: int) -> Bytes:
    """A body that comes in pieces, each put to its place at once."""
    length = visit.head.length
    told = 0 <= length <= limit
    whole = np.empty(length, np.uint8).data if told else None  # takes memory as it is filled
    parts, size = bytearray(), 0
    while True:
        part = message.get("body", b"")
        if size + len(part) > (length if told else limit):
            raise gate.too_large()
        if size:
            gate.hold(visit, len(part))
        if whole is not None:
            whole[size : size + len(part)] = part
        else:
            parts += part
        size += len(part)
        if not message.get("more_body"):
            break
        message = await receive()
    if message["type"] == "http.disconnect" or (told and size < length):
        raise DataError("The body broke off.")
    return parts if whole is None else whole


class Packing:
    """A ``send`` that packs a whole answer in JSON or text, where its client likes that and it is worth it.

    Parameters
    ----------
    send : callable
    accept : bytes
        ``Accept-Encoding``.
    """

    def __init__(self, send: Send, accept: bytes) -> None:
        self._send = send
        self._accept = accept
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start" and self._accept and _is_text(message["headers"]):
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            body, coding = message.get("body", b""), b""
            if not message.get("more_body") and body:
                (body,), coding = packed([body], self._accept)
            if coding:
                kept = [header for header in start["headers"] if header[0] != b"content-length"]
                length = (b"content-length", b"%d" % len(body))
                start["headers"] = [*kept, length, (b"content-encoding", coding), (b"vary", b"accept-encoding")]
                message["body"] = body
            await self._send(start)
        await self._send(message)


def _is_text(headers: Headers) -> bool:
    return any(
        name == b"content-type" and value[:16] in (b"application/json", b"text/plain; vers") for name, value in headers
    )
