"""A request for inference, from its bytes to the parts of its answer."""

from __future__ import annotations

import asyncio
import re

from maas_magics.api.backend import Backend, Inferred
from maas_magics.api.errors import DataError
from maas_magics.service.batcher import Batcher
from maas_magics.service.coding import Bytes
from maas_magics.service.gate import Gate, Visit
from maas_magics.service.messages import Receive, read_body
from maas_magics.service.oip import Call, read_call, read_raw
from maas_magics.service.oip_answer import write_answer
from maas_magics.service.shares import AnswerShare
from maas_magics.service.tensors import LARGE, weight
from maas_magics.service.threads import RowThreads
from maas_magics.service.widths import Widths

PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")

MOST_PATHS = 1_000

MANY = 100_000
"""Values of an answer from which it is written beside the event loop."""

_JSON, _BINARY = 15, 2
"""Bytes of memory that a byte of a small request's body may become, beside itself."""

FREE = 2**16
"""Bytes of an answer that are not counted beside its request."""

Target = str | None


class InferRoutes:
    """Answers requests for inference.

    Parameters
    ----------
    backend : Backend
    gate : Gate
    batcher : Batcher
    rows : RowThreads
        Where large bodies are read and written.
    """

    def __init__(self, backend: Backend, gate: Gate, batcher: Batcher, rows: RowThreads) -> None:
        self._backend = backend
        self._gate = gate
        self._batcher = batcher
        self._rows = rows
        self._targets: dict[str, Target] = {}
        self.widths = Widths(backend)

    def target(self, path: str) -> Target:
        """Model that a path requests inference of (``NAME``, ``NAME:3`` or ``NAME@alias``); None for other paths."""
        try:
            return self._targets[path]
        except KeyError:
            found = PATH.fullmatch(path)
            target = None if found is None else found[1] if found[2] is None else f"{found[1]}:{found[2]}"
            if len(self._targets) < MOST_PATHS:
                self._targets[path] = target
            return target

    async def answer(self, visit: Visit, model: str, receive: Receive) -> tuple[list[Bytes], int | None]:
        """Parts of the answer, and how many bytes of it are JSON where bytes of tensors follow.

        Raises
        ------
        MaasError
        """
        body = await read_body(visit, self._gate, receive, self._rows)
        file = visit.head.file and visit.head.header is None
        if visit.head.header == b"0" or file:
            info = await asyncio.to_thread(self._backend.models.get, model)
            call = read_raw(body, info.signature, binary=not file)
        elif len(body) < LARGE:
            self._gate.hold(visit, small_weight(body, visit.head.header))
            call = self.read(visit, body)
        else:
            call = await self._rows.run(self.read, visit, body)
        if not self.widths.knows(model):
            await asyncio.to_thread(self.widths.measure, model)
        self.hold_answer(visit, model, call)
        found = await self._batcher.ask(model, call.inputs)
        visit.model = found.model
        self.widths.answered(model, found.model)
        if is_small(call, found):
            return write_answer(call, found)
        return await self._rows.run(self.write, call, found)

    def read(self, visit: Visit, body: Bytes) -> Call:
        """The request of a body that has a head in JSON.

        Raises
        ------
        DataError
        """
        length = visit.head.header
        if length is not None and (not length.isdigit() or len(length) > 12):
            raise DataError("The header Inference-Header-Content-Length is a number of bytes.")
        header = None if length is None else int(length)
        if len(body) < LARGE:
            return read_call(body, header)
        told = memoryview(body)[:header]
        self._gate.hold(visit, _JSON * len(told) if len(told) < LARGE else weight(told))
        return read_call(body, header, lambda size: self._gate.hold(visit, size))

    def write(self, call: Call, found: Inferred | AnswerShare) -> tuple[list[Bytes], int | None]:
        """See `write_answer`; called beside the event loop."""
        return write_answer(call, found, self._backend.models.get(found.model).classes if call.ranks else ())

    def hold_answer(self, visit: Visit, model: str, call: Call) -> None:
        """Give a request memory for its answer.

        Raises
        ------
        TooLarge, Overloaded
        """
        known = self.widths.get(model)
        if known is None:
            return
        values = next(iter(call.inputs.values()))
        need = len(values) * known.bytes * (2 if call.binary else 6)
        if need > FREE:
            self._gate.hold(visit, need)


def small_weight(body: Bytes, header: bytes | None) -> int:
    """Bytes of memory that a small body may take while it is read, beside itself."""
    if header is None or not header.isdigit() or len(header) > 9:
        return _JSON * len(body)
    told = bytes(memoryview(body)[: int(header)])
    texts = b"BYTES" in told or b"\\" in told
    return _JSON * len(told) + (_JSON if texts else _BINARY) * (len(body) - len(told))


def is_small(call: Call, found: Inferred | AnswerShare) -> bool:
    """Whether an answer is written sooner than another thread could be woken for it."""
    size = found.size if type(found) is AnswerShare else sum(values.size for values in found.outputs.values())
    return size < MANY and not (call.outputs and call.ranks)
