"""Answers in chunks of a service, read in a thread; after a broken connection it is resumed."""

from __future__ import annotations

import threading
import time
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec
import numpy as np

from maas_magics.api.errors import MaasError, OptionError, ServiceError
from maas_magics.api.requests import GenerateRequest
from maas_magics.api.results import Prediction
from maas_magics.api.signature import NUMPY
from maas_magics.api.stream import Chunk, RowsDelta, TensorDelta
from maas_magics.api.wire import decode_error
from maas_magics.core.chunks import ChunkReader, Chunks
from maas_magics.remote.client import Client
from maas_magics.remote.predictions import answers_of_bytes

KEEP = 10.0
"""Seconds that the service keeps an answer for us when the connection broke."""

PAUSE = 0.1


def generate(client: Client, request: GenerateRequest) -> ChunkReader:
    """Begin an answer.

    Raises
    ------
    OptionError
        If the inputs or parameters cannot be sent.
    MaasError
        Whatever the service refuses.
    """
    asked = {"inputs": request.data, "parameters": request.params}
    limits = {"max_steps": request.max_steps, "timeout": request.timeout, "priority": request.priority}
    try:
        body = msgspec.json.encode({**asked, **limits}, enc_hook=_plain)
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"The inputs or parameters cannot be sent: {error}", "Give lists, numbers and texts."
        ) from None
    answer = client.open(
        "POST",
        f"/maas/v1/models/{quote(request.model, safe=':@')}/generate",
        content=body,
        headers={"content-type": "application/json"},
        params={"keep": f"{KEEP:g}"},
        repeat=False,
    )
    return _Pump(client, answer).reader()


class _Pump:
    """Reads a stream of the service, as fast as its own reader takes the chunks."""

    def __init__(self, client: Client, answer: httpx2.Response) -> None:
        self._client = client
        self._answer = answer
        self._path = f"/maas/v1/generations/{quote(answer.headers.get('x-generation', ''), safe='')}"
        self._chunks = Chunks(self._changed)
        self._after = -1
        self._over = False
        self._until = 0.0

    def reader(self) -> ChunkReader:
        """What is read here; reading begins."""
        reader = ChunkReader(self._chunks, self._answer.headers.get("x-model", ""))
        threading.Thread(target=self._run, name="maas-magics-generate", daemon=True).start()
        return reader

    def _changed(self) -> None:
        if self._chunks.closed and not self._over:
            threading.Thread(target=self._cancel, name="maas-magics-cancel", daemon=True).start()

    def _cancel(self) -> None:
        """Have the service end it, which ends the connection that is read here."""
        try:
            self._client.request("DELETE", self._path, patience=0.0)
        except MaasError:  # it is over, or the service has gone: there is nothing to end
            return

    def _run(self) -> None:
        try:
            while not self._read():
                time.sleep(PAUSE)
                if self._chunks.closed:
                    return
                self._answer = self._again()
        except Exception as error:
            self._chunks.fail(error)
        finally:
            self._over = True

    def _read(self) -> bool:
        """Read a connection to its end; whether that is the end of the answer."""
        opened, before = time.monotonic(), self._after
        try:
            for told in httpx2.EventSource(self._answer, max_event_size=None):
                if told.event == "Error":
                    raise decode_error(told.data.encode(), "The service failed.")
                if told.event != "Chunk":
                    continue
                chunk = decode_chunk(told.data)
                self._after = chunk.index
                self._over = bool(chunk.finish)
                if not self._chunks.wait_for_room():
                    return True
                self._chunks.put(chunk)
                if self._over:
                    return True
        except (httpx2.TransportError, httpx2.StreamError):
            pass
        finally:
            self._answer.close()
        now = time.monotonic()
        if self._after > before or now - opened > KEEP or not self._until:  # it was there
            self._until = now + KEEP
        return False

    def _again(self) -> httpx2.Response:
        """Continue after the last chunk that arrived.

        Raises
        ------
        GenerationLost
            If the service keeps it no longer.
        ServiceError
            If it cannot be reached, or answers nothing but an end.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise ServiceError(f"{self._client.url} broke off, and sends no more.", "Try again.")
        headers = {"last-event-id": str(self._after)} if self._after >= 0 else {}
        return self._client.open("GET", self._path, headers=headers, patience=left)


def decode_chunk(text: str) -> Chunk:
    """A chunk from the data of its event.

    Raises
    ------
    ServiceError
        If it is not a chunk.
    """
    try:
        chunk = msgspec.json.decode(text, type=Chunk)
        return msgspec.structs.replace(chunk, delta=_live(chunk.delta))
    except (msgspec.MsgspecError, ValueError, KeyError) as error:
        raise ServiceError(f"The server's answer cannot be read: {error}") from None


def _live(value: Any) -> Any:
    """What stands for arrays and predictions on the way as these again."""
    if isinstance(value, list):
        return [_live(one) for one in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("$")
    if kind == "tensor":
        told = msgspec.convert(value, TensorDelta)
        dtype = np.dtype(NUMPY[told.datatype])
        return np.frombuffer(told.data, dtype.newbyteorder("<")).astype(dtype).reshape(told.shape)
    if kind == "rows":
        rows = msgspec.convert(value, RowsDelta)
        columns = answers_of_bytes(rows.columns)
        return Prediction(model=rows.model, columns=columns, blank=rows.blank, cautions=rows.cautions)
    return {name: _live(one) for name, one in value.items()}


def _plain(value: Any) -> Any:
    """Arrays and numbers of numpy, torch and Arrow as Python's own."""
    for name in ("tolist", "to_list", "to_pylist"):
        if (plain := getattr(value, name, None)) is not None:
            return plain()
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
