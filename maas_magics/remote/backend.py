"""The backend of a service, spoken to over HTTP."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np

from maas_magics.api.backend import Inferred, Job, JobInfo
from maas_magics.api.errors import DataError, MaasError, OptionError, ServiceError
from maas_magics.api.requests import GenerateRequest, PredictRequest, Request, TrainRequest
from maas_magics.api.results import ModelInfo, Prediction
from maas_magics.api.stream import ChunkStream
from maas_magics.api.wire import encode_request
from maas_magics.core.chunks import check, in_one_pass
from maas_magics.core.data.media import embedded
from maas_magics.core.data.origin import origin_of
from maas_magics.core.data.sources import Source, open_source, typed
from maas_magics.core.serialization import pack
from maas_magics.remote.client import TO_LOAD, Client
from maas_magics.remote.generate import generate
from maas_magics.remote.job import AskingJob, RemoteJob
from maas_magics.remote.models import RemoteModels
from maas_magics.remote.oip import infer, server
from maas_magics.remote.predictions import joined, prediction_of, rows_to_bytes

R = TypeVar("R")

OURS = "/maas/v1"
"""Prefix of the paths of this release that are not part of the Open Inference Protocol."""

CHUNK = 4 * 2**20
"""Bytes of one request of an upload."""

ROWS = 16_384
"""Rows of one request for answers."""

MOST = 16 * 2**20
"""Bytes of one request for answers, as far as rows allow."""

AHEAD = 2
"""Requests for answers on their way at a time, so that this side and the other work at once."""


def _parts(table: Any) -> Iterator[Any]:
    """Rows of a table, in parts that one request holds."""
    rows = max(1, table.num_rows * MOST // max(1, table.nbytes))
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


class RemoteData:
    """The `DataStore` of a service.

    Parameters
    ----------
    client : Client
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def offset(self, digest: str) -> int:
        """Bytes that are there; −1 once all are there and were checked."""
        return int(self._client.request("HEAD", f"/maas/v1/data/{digest}").headers["upload-offset"])

    def append(self, digest: str, offset: int, chunk: bytes, total: int) -> int:
        """Send bytes from ``offset`` on; returns what `offset` does."""
        headers = {
            "upload-offset": str(offset),
            "upload-length": str(total),
            "content-type": "application/offset+octet-stream",
        }
        return int(
            self._client.request("PATCH", f"/maas/v1/data/{digest}", content=chunk, headers=headers).headers[
                "upload-offset"
            ]
        )

    def send(self, file: BinaryIO, digest: str, size: int) -> None:
        """Send what is not there yet."""
        offset = self.offset(digest)
        stuck = 0
        while offset >= 0:
            file.seek(offset)
            before = offset
            try:
                offset = self.append(digest, offset, file.read(CHUNK), size)
            except DataError:
                offset = self.offset(digest)  # an answer was lost, or someone else sends the same
                stuck = stuck + 1 if offset == before else 0
                if stuck > 2:
                    raise


class RemoteBackend:
    """Runs requests on a service.

    Parameters
    ----------
    client : Client
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.models = RemoteModels(client)
        self.data = RemoteData(client)

    @property
    def place(self) -> str:
        """URL of the service."""
        return self._client.url

    def check(self) -> None:
        """Check that it answers, has the same protocol, and accepts the token.

        Raises
        ------
        ServiceError
            If it is another kind of server, or of an older release.
        """
        try:
            answer = self._client.request("GET", f"{OURS}/loaded", patience=3.0)
        except MaasError as error:
            if error.message != "There is nothing at this path.":
                raise
            raise ServiceError(
                f"{self._client.url} runs an older release of maas_magics.",
                "Stop it, and start it again; %connect local starts one here.",
            ) from None
        try:
            msgspec.json.decode(answer.content, type=dict[str, bool])
        except msgspec.MsgspecError:
            raise ServiceError(
                f"{self._client.url} is not a service of maas_magics.",
                f"%connect oip+{self._client.url} connects to other servers.",
            ) from None

    def submit(self, request: Request[R], key: str = "") -> Job[R]:
        """Send the rows, then the request; a retried submit makes one job."""
        if isinstance(request, PredictRequest):
            info = JobInfo(uuid.uuid4().hex[:8], f"predict {request.model}", request.model, "running", 0.0)
            work: Any = AskingJob(info, lambda notify: self._predict(request, notify))
            return work  # type: ignore[no-any-return]
        packed = pack(
            request,
            self.data.send,
            server(self._client).code,
            lambda: self._texts(request),
            lambda: self._task(request),
        )
        answer = self._client.request(
            "POST",
            "/maas/v1/jobs",
            content=encode_request(packed),
            headers={"content-type": "application/msgpack", "idempotency-key": key or uuid.uuid4().hex},
        )
        return RemoteJob(msgspec.json.decode(answer.content, type=JobInfo), self._client)

    def _task(self, request: Request[Any]) -> str:
        """Task of the model that a request names; none of one that is still to be trained."""
        model = getattr(request, "model", None)
        return self.models.get(model).task if isinstance(model, str) else ""

    def _texts(self, request: Request[Any]) -> list[str]:
        """Columns that the model of a request takes or answers as text; none of one that is still to be trained."""
        model = getattr(request, "model", None)
        if isinstance(request, TrainRequest) or not isinstance(model, str):
            return []
        info = self.models.get(model)
        text = any(spec.name == "prediction" and spec.datatype == "BYTES" for spec in info.signature.outputs)
        inputs = [spec.name for spec in info.signature.inputs if spec.datatype == "BYTES"]
        return inputs + (list(info.target) if text else [])

    def job(self, id: str) -> Job[Any]:
        """A job by its id, or by the first four characters of it or more."""
        answer = self._client.request("GET", f"/maas/v1/jobs/{quote(id, safe='') or '-'}")
        return RemoteJob(msgspec.json.decode(answer.content, type=JobInfo), self._client)

    def jobs(self) -> Sequence[JobInfo]:
        """Every job known, newest first."""
        return msgspec.json.decode(self._client.request("GET", "/maas/v1/jobs").content, type=tuple[JobInfo, ...])

    def predict(self, request: PredictRequest) -> Prediction:
        """Predict with a model."""
        return self._predict(request, lambda done, total: None)

    def _predict(self, request: PredictRequest, notify: Callable[[int, int], None]) -> Prediction:
        source: Source = open_source(request.data, request.csv)
        if getattr(source, "typed", None) is not None:
            source = typed(source, self._texts(request))
        size = min(request.batch_size or ROWS, ROWS)
        if size < 1:
            raise OptionError("A batch size is at least 1.", "--batch-size 1024")
        chunks = (part for table in source.chunks(size) for part in _parts(table))
        first = next(chunks, None)
        if first is None:
            raise DataError("The data has no rows.", "Give at least one row to predict.")
        total = source.rows or 0
        # Every later chunk goes to the version that answered the first one.
        kind = source.arrays, origin_of(source)
        found = self._ask(first, request, request.model, *kind)
        parts, done = [found], first.num_rows
        if done == total:
            return found
        notify(done, total)
        with ThreadPoolExecutor(AHEAD, thread_name_prefix="maas-magics-ask") as threads:
            waiting: deque[tuple[int, Future[Prediction]]] = deque()
            for table in chain(chunks, (None,) * AHEAD):
                if waiting and (table is None or len(waiting) == AHEAD):
                    rows, future = waiting.popleft()
                    parts.append(future.result())
                    done += rows
                    notify(done, total)
                if table is not None:
                    future = threads.submit(self._ask, table, request, found.model, *kind)
                    waiting.append((table.num_rows, future))
        return joined(parts)

    def _ask(self, table: Any, request: PredictRequest, model: str, arrays: bool, origin: str) -> Prediction:
        params: dict[str, Any] = {"top": request.top, "arrays": str(arrays).lower(), "from": origin}
        if request.probabilities is not None:
            params["probabilities"] = str(request.probabilities).lower()
        asked = {**request.sampling, "max_tokens": request.max_tokens, "column": request.column}
        if asked := {name: value for name, value in asked.items() if value is not None}:
            params["writing"] = msgspec.json.encode(asked).decode()
        answer = self._client.request(
            "POST",
            f"/maas/v1/models/{quote(model, safe=':@')}/predict",
            content=rows_to_bytes(embedded(table)),
            headers={"content-type": "application/vnd.apache.arrow.stream"},
            params=params,
        )
        return prediction_of(answer.headers, answer.content)

    def infer(self, model: str, inputs: Mapping[str, Any]) -> Inferred:
        """Tensors in, tensors out, by the Open Inference Protocol."""
        return infer(self._client, model, {name: np.asarray(values) for name, values in inputs.items()})

    def generate(self, request: GenerateRequest) -> ChunkStream:
        """Begin an answer that comes in chunks."""
        check(request)
        if self.models.get(request.model).writes_to(request.data):
            return generate(self._client, request)
        return in_one_pass(request, self.predict)

    def load(self, model: str, kv_memory: int | None = None) -> None:
        """Open a model so that the first request finds it open; undoes `unload`."""
        asked = {} if kv_memory is None else {"parameters": {"kv_memory": kv_memory}}
        self._client.request(
            "POST",
            f"/v2/repository/models/{quote(model, safe=':@')}/load",
            content=msgspec.json.encode(asked),
            timeout=TO_LOAD,
        )

    def unload(self, model: str) -> None:
        """Close a model; it answers nothing until it is loaded again."""
        self._client.request("POST", f"/v2/repository/models/{quote(model, safe=':@')}/unload")

    def publish(self, candidate: str, name: str) -> ModelInfo:
        """Make a candidate of a sweep the next version of a model, and remove every other candidate."""
        return self.models.publish(candidate, name)

    def exported(self, model: str, variant: str) -> Mapping[str, bytes]:
        """Files of an export, by name."""
        path = f"/maas/v1/models/{quote(model, safe=':@')}/exports/{quote(variant, safe='')}"
        return msgspec.msgpack.decode(self._client.request("GET", path).content, type=dict[str, bytes])

    def traffic(self) -> Mapping[str, float]:
        """Statistics of the models' requests."""
        return msgspec.json.decode(self._client.request("GET", "/maas/v1/status").content, type=dict[str, float])

    def kept_back(self) -> Mapping[str, Any]:
        """What the service's owner keeps back of answers."""
        return server(self._client).limits

    def loaded(self) -> Mapping[str, bool]:
        """Models that are open (True) or were closed by `unload` (False)."""
        return msgspec.json.decode(self._client.request("GET", "/maas/v1/loaded").content, type=dict[str, bool])

    def close(self) -> None:
        """Close every connection."""
        with suppress(Exception):
            self._client.close()
