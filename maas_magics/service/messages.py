"""What passes between a server and an application: ASGI messages, and bodies that are read within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from maas_magics.api.errors import DataError
from maas_magics.service.gate import Gate, Visit

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
    b"inference-header-content-length, retry-after, upload-offset, x-blank, x-model, x-request-id",
)
"""What they may read."""

SLOW = 60.0
"""Seconds that a client may take for the next piece of a request."""


async def read_body(visit: Visit, gate: Gate, receive: Receive) -> bytes:
    """The body of a request, as it was before it was compressed.

    Raises
    ------
    DataError
        If it is too long, breaks off, or cannot be decompressed.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > gate.body_limit:
                raise gate.too_large()
        body = b"".join(parts)
    if message["type"] == "http.disconnect":
        raise DataError("The body broke off.")
    if len(body) > gate.body_limit:
        raise gate.too_large()
    return await asyncio.to_thread(gate.plain, visit, body) if visit.coding else body
