"""The server's side of a connection: heads of requests have limits, and an answer goes out at once."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from maas_magics.service.messages import SLOW
from maas_magics.service.short import Cycle

MOST_HEAD = 2**16
"""Bytes that the head of a request may have."""

SMALL = 2**16
"""Bytes up to which it costs less to copy a body than to send it by itself."""


class Corked:
    """A transport that keeps what is written until more comes, or until the event loop's next turn.

    The server writes the head and the body of an answer one after the other; sent at once they take one call of
    the system and one packet, which is a fifth of what a small answer costs.

    Parameters
    ----------
    transport : asyncio.Transport
    """

    __slots__ = ("_call_soon", "_held", "_transport", "_write", "is_closing")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._write = transport.write
        self._call_soon = asyncio.get_running_loop().call_soon
        self._held = b""
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keep a head; send it with what follows."""
        if not self._held:
            self._held = data
            self._call_soon(self.flush)
            return
        held, self._held = self._held, b""
        if len(data) <= SMALL:
            self._write(held + data)
        else:
            self._write(held)
            self._write(data)

    def send(self, data: bytes) -> None:
        """Send a whole answer."""
        self.flush()
        self._write(data)

    def flush(self) -> None:
        """Send what is kept."""
        if self._held:
            held, self._held = self._held, b""
            if not self.is_closing():
                self._write(held)

    def close(self) -> None:
        """Close after everything was sent."""
        self.flush()
        self._transport.close()


_Protocol: Any = AutoHTTPProtocol


class Protocol(_Protocol):  # type: ignore[misc]
    """The server's own protocol on such transports; a request must not be too slow, nor its head too long.

    Whatever comes at once passes without a clock.
    """

    cycle: Any

    def connection_made(self, transport: Any) -> None:
        """Begin with a connection."""
        self._head = 0
        self._clock: asyncio.TimerHandle | None = None
        super().connection_made(Corked(transport))
        self._set_clock()

    def _set_clock(self) -> None:
        self._stop_clock()
        self._clock = asyncio.get_running_loop().call_later(SLOW, self.transport.close)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def data_received(self, data: bytes) -> None:
        """Read on."""
        super().data_received(data)
        if self.scope is None or "path" not in self.scope:
            self._head += len(data)
            if self._head > MOST_HEAD:
                self.transport.close()
            elif self._clock is None:
                self._set_clock()  # for the whole head; a body may take its time, if only something comes
        elif self.cycle is not None and self.cycle.more_body:
            self._set_clock()
        elif self._clock is not None or self._head:
            self._stop_clock()
            self._head = 0

    def on_headers_complete(self) -> None:
        """Choose the way of a request: the short one for inference, where nothing else is on its way."""
        short = getattr(self.app, "short_path", None)
        if (
            short is not None
            and (self.cycle is None or self.cycle.response_complete)
            and self.parser.get_method() == b"POST"
            and not (self.expect_100_continue or self.flow.write_paused or self.parser.should_upgrade())
        ):
            cycle = short.begin(self.url, self.root_path, self.headers)
            if cycle is not None:
                keep = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
                cycle.connect(self.transport, keep, self.server_state.default_headers, self.on_response_complete)
                self.cycle = cycle
                self.scope["path"] = cycle.path
                return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        if type(self.cycle) is Cycle:
            self.cycle.body += body  # no longer than its head said
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End with a body."""
        if type(self.cycle) is Cycle:
            self.cycle.answer()
        else:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """End with it."""
        self._stop_clock()
        super().connection_lost(exc)


def configure(app: Any, **options: Any) -> uvicorn.Config:
    """What a server of the application needs.

    Parameters
    ----------
    app : App
    **options
        Of `uvicorn.Config`.
    """
    usual: dict[str, Any] = {
        "lifespan": "on",
        "http": Protocol,
        "ws": "none",
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": 10,
        "h11_max_incomplete_event_size": MOST_HEAD,
    }
    return uvicorn.Config(app, **(usual | options))
