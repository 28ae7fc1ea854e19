"""The short path: inference answered where the bytes come in, without a task and messages for each request."""

from __future__ import annotations

import asyncio
import http
from collections.abc import Callable
from typing import Any

from maas_magics.api.backend import Inferred
from maas_magics.api.errors import MaasError
from maas_magics.service.answers import Answers
from maas_magics.service.batcher import Answer, Batcher
from maas_magics.service.coding import Bytes, is_worth
from maas_magics.service.gate import Gate, Head, Visit
from maas_magics.service.infer import InferRoutes, is_small, small_weight
from maas_magics.service.messages import JSON, Headers
from maas_magics.service.oip import Call
from maas_magics.service.oip_answer import write_answer
from maas_magics.service.shares import AnswerShare
from maas_magics.service.tensors import LARGE
from maas_magics.service.threads import RowThreads

_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}

MOST_HEADS = 1_000
"""Heads of requests that are remembered, so that the next one like it need not be read."""

LONG_HEAD = 2_048
"""Bytes of a head from which it is not remembered."""


class ShortPath:
    """Answers small requests for inference of models that have answered before.

    Parameters
    ----------
    gate : Gate
    batcher : Batcher
    inference : InferRoutes
    answers : Answers
    rows : RowThreads
        Where large answers are written.
    """

    def __init__(
        self, gate: Gate, batcher: Batcher, inference: InferRoutes, answers: Answers, rows: RowThreads
    ) -> None:
        self.gate = gate
        self.batcher = batcher
        self.inference = inference
        self.answers = answers
        self.rows = rows
        self.known: dict[bytes, Head] = {}
        """Heads that were let in, by their bytes."""
        self._seen: Headers = []
        self._lines = self._start = b""

    def begin(self, url: bytes, root: str, headers: Headers) -> Cycle | None:
        """A request's way, from its head; None for one that has to take the long path.

        Parameters
        ----------
        url : bytes
            As it came.
        root : str
            Prefix of the proxy in front, which may have kept it.
        headers : list of tuple of bytes
        """
        path = url.decode("latin-1")
        if root and path.startswith(f"{root}/"):
            path = path[len(root) :]
        model = self.inference.target(path)
        if model is None or "%" in path or "?" in path:
            return None
        head = Head(headers)
        if not 0 < head.length < LARGE or head.coding or head.asks or head.header == b"0" or head.file:
            return None
        head.path, head.model = path, model
        return self.again(head, comes=True)

    def again(self, head: Head, comes: bool = False) -> Cycle | None:
        """The same from a head that was read; a request that is refused takes the long path, which says why.

        Parameters
        ----------
        head : Head
        comes : bool
            Whether the body is not there yet, and memory is taken for it.
        """
        if not self.inference.widths.knows(head.model):
            return None
        visit = self.gate.visit(head)
        try:
            self.gate.enter(visit, "predict")
            if comes:
                self.gate.hold(visit, head.length)
        except MaasError:
            return None
        return Cycle(self, visit)

    def remember(self, raw: bytes, head: Head) -> None:
        """Know a head by its bytes from now on."""
        if len(raw) > LONG_HEAD or head.id:
            return
        if len(self.known) >= MOST_HEADS:
            self.known.clear()
        self.known[raw] = head

    def always(self, headers: Headers) -> tuple[bytes, bytes]:
        """Header lines of every answer, which the server makes anew each second, and how most answers begin."""
        if headers is not self._seen:
            self._seen, self._lines = headers, _lines(headers)
            self._start = b"".join((_STATUS[200], self._lines, _lines([JSON]), b"x-request-id: "))
        return self._lines, self._start


class Cycle:
    """One request, from its head to the last byte of its answer; the server's protocol holds it as its cycle."""

    __slots__ = (
        "_call", "_done", "_short", "_told_always", "_transport", "body", "disconnected", "keep_alive", "more_body",
        "response_complete", "visit",
    )  # fmt: skip

    def __init__(self, short: ShortPath, visit: Visit) -> None:
        self._short = short
        self.visit = visit
        self._call: Call | None = None
        self.body = b""
        self.more_body = True
        self.disconnected = self.response_complete = False
        self.keep_alive = True

    def connect(self, transport: Any, keep_alive: bool, told_always: Headers, done: Callable[[Visit], None]) -> None:
        """Where the answer goes, its constant headers, and what follows it."""
        self._transport = transport
        self.keep_alive = keep_alive
        self._told_always = told_always
        self._done = done

    @property
    def message_event(self) -> Cycle:
        """Stands for the event by which the protocol wakes a task; here is none."""
        return self

    def set(self) -> None:
        """See `message_event`."""

    @property
    def gone(self) -> bool:
        """Whether the client hung up."""
        return self.disconnected

    def leave(self) -> None:
        """Give back what the request held, whose client hung up."""
        self._short.gate.release(self.visit)

    def answer(self) -> None:
        """Run the model, now that the body is complete."""
        self.more_body = False
        short, visit = self._short, self.visit
        try:
            body = self.body
            short.gate.hold(visit, small_weight(body, visit.head.header) + (0 if visit.held else len(body)))
            self._call = call = short.inference.read(visit, body)
            short.inference.hold_answer(visit, visit.head.model, call)
            short.batcher.put(visit.head.model, call.inputs, self)
        except Exception as error:
            self._refuse(error)
        self.body = b""

    def deliver(self, answer: Answer) -> None:
        """Take what the model answered."""
        if self.disconnected:
            return
        if isinstance(answer, Exception):
            self._refuse(answer)
            return
        assert self._call is not None
        self.visit.model = answer.model
        self._short.inference.widths.answered(self.visit.head.model, answer.model)
        if is_small(self._call, answer):
            self._write(answer)
        else:
            task = asyncio.ensure_future(self._short.rows.run(self._written, answer))
            task.add_done_callback(lambda task: self._send(*task.result()))

    def _write(self, answer: Inferred | AnswerShare) -> None:
        assert self._call is not None
        head = self.visit.head
        try:
            parts, header = write_answer(self._call, answer)
        except Exception as error:
            self._refuse(error)
            return
        body = b"".join(parts)
        packs = head.accept and is_worth(head.accept, len(body))
        if packs or header is not None or head.origin or not self.keep_alive:
            self._send(*self._short.answers.whole(self.visit, [body], header))
            return
        _, start = self._short.always(self._told_always)
        self._transport.send(b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (start, self.visit.id.encode(), len(body), body))
        self._end(200)

    def _written(self, answer: Inferred | AnswerShare) -> tuple[int, Headers, list[Bytes]]:
        assert self._call is not None
        try:
            parts, header = self._short.inference.write(self._call, answer)
            return self._short.answers.whole(self.visit, parts, header)
        except Exception as error:
            return self._short.answers.refused(self.visit, error)

    def _refuse(self, error: Exception) -> None:
        self._send(*self._short.answers.refused(self.visit, error))

    def _send(self, status: int, headers: Headers, parts: list[Bytes]) -> None:
        if self.disconnected:
            return
        lines = _lines(headers + self._short.answers.own(self.visit))
        close = b"" if self.keep_alive else b"connection: close\r\n"
        length = b"content-length: %d\r\n\r\n" % sum(map(len, parts))
        always, _ = self._short.always(self._told_always)
        self._transport.send(b"".join((_STATUS[status], always, lines, close, length, *parts)))
        self._end(status)

    def _end(self, status: int) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self._transport.close()
        self._done(self.visit)
        self._short.answers.record(self.visit, "infer", "POST", self.visit.head.path, status)


def _lines(headers: Headers) -> bytes:
    return b"".join([b"%s: %s\r\n" % header for header in headers])
