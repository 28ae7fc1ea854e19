"""A request for inference, from its bytes to the bytes of its answer."""

from __future__ import annotations

import asyncio
import re

from maas_magics.api.backend import Backend
from maas_magics.api.errors import DataError
from maas_magics.service.batcher import Batcher
from maas_magics.service.gate import Gate, Visit
from maas_magics.service.messages import Receive, read_body
from maas_magics.service.oip import Call, read_call, read_raw, write_answer
from maas_magics.service.tensors import LARGE

PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")

MOST_PATHS = 1_000

MANY = 100_000
"""Values of an answer from which it is written beside the event loop."""

Target = str | None


class Inference:
    """Answers requests for inference.

    Parameters
    ----------
    backend : Backend
    gate : Gate
    batcher : Batcher
    """

    def __init__(self, backend: Backend, gate: Gate, batcher: Batcher) -> None:
        self._backend = backend
        self._gate = gate
        self._batcher = batcher
        self._targets: dict[str, Target] = {}

    def target(self, path: str) -> Target:
        """Model that a path asks for inference (``NAME``, ``NAME:3`` or ``NAME@alias``); None for other paths."""
        try:
            return self._targets[path]
        except KeyError:
            found = PATH.fullmatch(path)
            target = None if found is None else found[1] if found[2] is None else f"{found[1]}:{found[2]}"
            if len(self._targets) < MOST_PATHS:
                self._targets[path] = target
            return target

    async def answer(self, visit: Visit, model: str, receive: Receive) -> tuple[bytes, int | None]:
        """Body of the answer, and how many bytes of it are JSON where bytes of tensors follow.

        Raises
        ------
        MaasError
        """
        body = await read_body(visit, self._gate, receive)
        if visit.header == b"0":
            info = await asyncio.to_thread(self._backend.models.get, model)
            call = read_raw(body, info.signature)
        elif len(body) < LARGE:
            call = self.read(visit, body)
        else:
            call = await asyncio.to_thread(self.read, visit, body)
        found = await self._batcher.ask(model, call.inputs)
        visit.model = found.model
        size = 0
        for values in found.outputs.values():
            size += values.size
        return write_answer(call, found) if size < MANY else await asyncio.to_thread(write_answer, call, found)

    def read(self, visit: Visit, body: bytes) -> Call:
        """What a body asks that has a head in JSON.

        Raises
        ------
        DataError
        """
        length = visit.header
        if length is None:
            return read_call(body, None)
        if not length.isdigit() or len(length) > 12:
            raise DataError("The header Inference-Header-Content-Length is a number of bytes.")
        return read_call(body, int(length))
