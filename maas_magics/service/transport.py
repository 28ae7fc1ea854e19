"""The server's side of a connection: heads of requests have limits, and an answer goes out at once."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
import uvicorn

from maas_magics.service.compat import ServerProtocol, check_server
from maas_magics.service.corked import Corked
from maas_magics.service.fast_path import LONG_HEAD, Cycle, ShortPath
from maas_magics.service.gate import Head, Visit
from maas_magics.service.messages import SLOW

MOST_HEAD = 2**16
"""Bytes that the head of a request may have."""


class Protocol(ServerProtocol):
    """The server's own protocol on such transports; a request must not be too slow, nor its head too long.

    Whatever comes at once passes without a clock. A request whose head came before, byte for byte, need not be read:
    what its head says is known.
    """

    def connection_made(self, transport: Any) -> None:
        """Begin with a connection."""
        self._head = 0
        self._clock: asyncio.TimerHandle | None = None
        self._between = True
        """Whether the next byte begins a request."""
        self._offered = b""
        self._owed: Visit | None = None
        self._unsent = 0
        self._slow: asyncio.TimerHandle | None = None
        self._active = 0.0
        self._short: ShortPath | None = getattr(self.app, "short_path", None)
        self._known: dict[bytes, Head] = self._short.known if self._short is not None else {}
        super().connection_made(Corked(transport))
        self._set_clock()

    def _set_clock(self) -> None:
        self._stop_clock()
        self._clock = self.loop.call_later(SLOW, self.transport.close)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    # --- what comes in ---

    def data_received(self, data: bytes) -> None:
        """Read on."""
        begins = self._between
        end = data.find(b"\r\n\r\n", 0, LONG_HEAD) + 4 if begins else 0
        if end > 3 and self._is_again(data, end):
            return
        before = self.cycle
        self.end_keep_alive()
        self._feed(data)
        self._watch(len(data))
        cycle = self.cycle
        if end <= 3 or not self._between or cycle is before or type(cycle) is not Cycle or not cycle.keep_alive:
            return
        if len(data) - end == cycle.visit.head.length and self._short is not None:
            self._short.remember(data[:end], cycle.visit.head)

    def _feed(self, data: bytes) -> None:
        """Read what came; an offer to speak another protocol is passed over, which HTTP allows."""
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                if not self._offered:
                    return  # CONNECT, which was answered
                data = self._offered + data[offer.args[0] :]
                self._offered = b""
                self.parser = httptools.HttpRequestParser(self)  # the other one may take the connection for closed
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return

    def _without_offer(self) -> bytes:
        """The head that was read, without the offer: what follows it is read as of any other request."""
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] not in (b"upgrade", b"connection")]
        told = b",".join([value for name, value in self.headers if name == b"connection"])
        kept = [word.strip() for word in told.split(b",") if word.strip().lower() in (b"close", b"keep-alive")]
        return b"".join([line, *lines, *(b"connection: %b\r\n" % word for word in kept), b"\r\n"])

    def _watch(self, size: int) -> None:
        """Start and stop the clock of a request that comes bit by bit."""
        if self.scope is None or "path" not in self.scope:
            self._head += size
            if self._head > MOST_HEAD:
                self.transport.close()
            elif self._clock is None:
                self._set_clock()  # for the whole head; a body may take its time, if only something comes
        elif self.cycle is not None and self.cycle.more_body:
            self._set_clock()
        elif self._clock is not None or self._head:
            self._stop_clock()
            self._head = 0

    def _is_again(self, data: bytes, end: int) -> bool:
        """Answer a whole request whose head is known."""
        head = self._known.get(data[:end])
        if head is None or len(data) - end != head.length or self._short is None:
            return False
        if self.flow.write_paused or not (self.cycle is None or self.cycle.response_complete):
            return False
        cycle = self._short.again(head)
        if cycle is None:
            return False
        if self._clock is not None:
            self._stop_clock()
        cycle.connect(self.transport, True, self.server_state.default_headers, self._answered)
        cycle.body = data[end:]
        self.cycle = cycle
        cycle.answer()
        return True

    def on_message_begin(self) -> None:
        """Begin with a request."""
        self._between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Choose the way of a request: the short one for inference, where nothing else is on its way."""
        upgrade = self.parser.should_upgrade()
        if upgrade and self.parser.get_method() != b"CONNECT":
            self._offered = self._without_offer()
            return
        if (
            self._short is not None
            and (self.cycle is None or self.cycle.response_complete)
            and self.parser.get_method() == b"POST"
            and not (self.expect_100_continue or self.flow.write_paused or upgrade)
        ):
            cycle = self._short.begin(self.url, self.root_path, self.headers)
            if cycle is not None:
                keep = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
                cycle.connect(self.transport, keep, self.server_state.default_headers, self._answered)
                self.cycle = cycle
                self.scope["path"] = cycle.visit.head.path
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
        if self._offered:
            return  # its body comes yet
        self._between = True
        if type(self.cycle) is Cycle:
            self.cycle.answer()
        else:
            super().on_message_complete()

    # --- what goes out ---

    def _answered(self, visit: Visit) -> None:
        """Continue after an answer of the short path; like the server's own, but one timer serves many answers."""
        self.server_state.total_requests += 1
        if self.flow.write_paused:
            self._owed = visit  # what is on its way takes memory until the client has read it
        elif self._short is not None:
            self._short.gate.release(visit)
        if self.pipeline or self.flow.read_paused:
            super().on_response_complete()
        elif not self.transport.is_closing():
            self._active = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self._keep(self.timeout_keep_alive)

    def _keep(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection of an idle client."""
        self.timeout_keep_alive_task = None
        if self.cycle is not None and not self.cycle.response_complete:
            return  # the answer starts the timer again
        left = self._active + self.timeout_keep_alive - self.loop.time()
        if left > 0.01 and self._active:
            self._keep(left)
        else:
            super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        """Wait for a client that reads more slowly than it is sent to, as long as it reads at all."""
        super().pause_writing()
        self._look_at_reader()

    def _look_at_reader(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if self._slow is not None and unsent >= self._unsent:
            self.transport.abort()
            return
        self._unsent = unsent
        self._slow = self.loop.call_later(SLOW, self._look_at_reader)

    def resume_writing(self) -> None:
        """Continue with a client that has read what it was sent."""
        super().resume_writing()
        self._settle()

    def _settle(self) -> None:
        """Give back what a client that reads slowly was owed."""
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        if self._owed is not None and self._short is not None:
            self._short.gate.release(self._owed)
            self._owed = None

    def connection_lost(self, exc: Exception | None) -> None:
        """End with it."""
        self._stop_clock()
        self._settle()
        self.end_keep_alive()
        if type(self.cycle) is Cycle:
            self.cycle.leave()
        super().connection_lost(exc)


def configure(app: Any, **options: Any) -> uvicorn.Config:
    """What a server of the application needs.

    Parameters
    ----------
    app : App
    **options
        Of `uvicorn.Config`.

    Raises
    ------
    IncompatibleVersion
        If uvicorn has another inside than is known.
    """
    check_server()
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
