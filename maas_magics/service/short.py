"""The short path: inference answered where the bytes come in, without a task and messages for each request."""

from __future__ import annotations

import asyncio
import http
from collections.abc import Callable
from typing import Any

from maas_magics.api.backend import Inferred
from maas_magics.service.answers import Answers
from maas_magics.service.batcher import Answer, Batcher
from maas_magics.service.gate import Gate, Visit
from maas_magics.service.infer import MANY, Inference
from maas_magics.service.messages import BINARY, JSON, Headers
from maas_magics.service.oip import Call, write_answer
from maas_magics.service.tensors import LARGE

_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}


class ShortPath:
    """Answers small requests for inference.

    Parameters
    ----------
    gate : Gate
    batcher : Batcher
    inference : Inference
    answers : Answers
    """

    def __init__(self, gate: Gate, batcher: Batcher, inference: Inference, answers: Answers) -> None:
        self.gate = gate
        self.batcher = batcher
        self.answers = answers
        self._inference = inference
        self._seen: Headers = []
        self._lines = b""

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
        model = self._inference.target(path)
        if model is None or "%" in path or "?" in path:
            return None
        visit = self.gate.visit(headers)
        if not 0 < visit.length < LARGE or visit.coding or visit.asks or visit.header == b"0":
            return None
        return Cycle(self, visit, model, path)

    def always(self, headers: Headers) -> bytes:
        """Lines of what the server tells always; it makes them anew each second."""
        if headers is not self._seen:
            self._seen, self._lines = headers, _lines(headers)
        return self._lines

    def read(self, visit: Visit, body: bytes) -> Call:
        """What a request asks.

        Raises
        ------
        MaasError
        """
        self.gate.enter(visit, "predict")
        return self._inference.read(visit, body)


class Cycle:
    """One request, from its head to the last byte of its answer; the server's protocol holds it as its cycle."""

    __slots__ = (
        "_call", "_done", "_model",  "_short", "_told_always", "_transport", "_visit", "body", "disconnected",
        "keep_alive", "more_body", "path", "response_complete",
    )  # fmt: skip

    def __init__(self, short: ShortPath, visit: Visit, model: str, path: str) -> None:
        self._short = short
        self._visit = visit
        self._model = model
        self.path = path
        self._call: Call | None = None
        self.body = b""
        self.more_body = True
        self.disconnected = self.response_complete = False
        self.keep_alive = True

    def connect(self, transport: Any, keep_alive: bool, told_always: Headers, done: Callable[[], None]) -> None:
        """Where the answer goes, what it tells always, and what follows it."""
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

    def answer(self) -> None:
        """Ask the model, now that the body is whole."""
        self.more_body = False
        try:
            self._call = self._short.read(self._visit, self.body)
            self._short.batcher.put(self._model, self._call.inputs, self)
        except Exception as error:
            self._refuse(error)
        self.body = b""

    def tell(self, answer: Answer) -> None:
        """Take what the model said."""
        if self.disconnected:
            return
        if isinstance(answer, Exception):
            self._refuse(answer)
            return
        self._visit.model = answer.model
        if sum([values.size for values in answer.outputs.values()]) < MANY:
            self._write(answer)
        else:
            task = asyncio.ensure_future(asyncio.to_thread(self._written, answer))
            task.add_done_callback(lambda task: self._send(*task.result()))

    def _write(self, answer: Inferred) -> None:
        self._send(*self._written(answer))

    def _written(self, answer: Inferred) -> tuple[int, Headers, bytes]:
        assert self._call is not None
        try:
            body, header = write_answer(self._call, answer)
        except Exception as error:
            return self._short.answers.refusal(self._visit, error)
        if header is None:
            return 200, [JSON], body
        return 200, [BINARY, (b"inference-header-content-length", b"%d" % header)], body

    def _refuse(self, error: Exception) -> None:
        self._send(*self._short.answers.refusal(self._visit, error))

    def _send(self, status: int, headers: Headers, body: bytes) -> None:
        if self.disconnected:
            return
        lines = _lines(headers + self._short.answers.own(self._visit))
        close = b"" if self.keep_alive else b"connection: close\r\n"
        length = b"content-length: %d\r\n\r\n" % len(body)
        always = self._short.always(self._told_always)
        self._transport.send(b"".join((_STATUS[status], always, lines, close, length, body)))
        self.response_complete = True
        if not self.keep_alive:
            self._transport.close()
        self._done()
        self._short.answers.record(self._visit, "infer", "POST", self.path, status)


def _lines(headers: Headers) -> bytes:
    return b"".join([b"%s: %s\r\n" % header for header in headers])
