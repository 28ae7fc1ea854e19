"""Whatever a request says that it holds is measured before it is made, and all requests have one budget."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pytest
from serving import in_thread

from maas_magics.api.arrow import extent
from maas_magics.api.backend import Inferred
from maas_magics.api.errors import DataError
from maas_magics.local.backend import LocalBackend
from maas_magics.service.budget import MOST_ROWS, Budget, Overloaded, TooLarge
from maas_magics.service.settings import Settings

PREDICT = "/maas/v1/models/cells/predict"
INFER = "/v2/models/net/infer"
SMALL = Settings(request_memory=64 * 2**20)


def stream(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=2**31)
    return bytes(sink.getvalue())


def one_long_text(rows: int, kind: pa.DataType) -> pa.Table:
    """Rows that share one text."""
    text = "x" * 1_000_000
    if pa.types.is_dictionary(kind):
        return pa.table({"kind": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([text]))})
    shared = pa.array([text], pa.string_view()).buffers()
    views = np.tile(np.frombuffer(shared[1], np.uint8), rows)
    return pa.table({"kind": pa.Array.from_buffers(pa.string_view(), rows, [None, pa.py_buffer(views), shared[2]])})


def run_ends(rows: int) -> pa.Table:
    ends, values = pa.array([rows], pa.int32()), pa.array([1.0])
    return pa.table({"size": pa.RunEndEncodedArray.from_arrays(ends, values)})


BOMBS: dict[str, tuple[Callable[[], bytes], int]] = {
    "rows without bytes": (lambda: stream(pa.table({"size": pa.nulls(50_000_000)})), 413),
    "lists of nothing": (
        lambda: stream(pa.table({"size": pa.FixedSizeListArray.from_arrays(pa.nulls(20_000_000), 20_000)})), 413,
    ),
    "a gigabyte in zstd": (lambda: stream(pa.table({"size": np.zeros(2**27)}), compression="zstd"), 413),
    "many columns in zstd": (
        lambda: stream(pa.table({str(place): np.zeros(10**6) for place in range(12)}), compression="zstd"), 413,
    ),
    "the same in lz4": (lambda: stream(pa.table({"size": np.zeros(2**27)}), compression="lz4"), 413),
    "a bit a row": (lambda: stream(pa.table({"flag": pa.array(np.zeros(MOST_ROWS + 1, bool))})), 413),
    "a text that all rows share": (lambda: stream(one_long_text(200_000, pa.dictionary(pa.int8(), pa.string()))), 413),
    "views of one text": (lambda: stream(one_long_text(200_000, pa.string_view())), 413),
    "one run": (lambda: stream(run_ends(1_000_000)), 400),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_rows_are_measured_before_they_are_made(name: str, here: LocalBackend) -> None:
    make, status = BOMBS[name]
    body = make()
    assert len(body) < 10_000_000
    with in_thread(here, SMALL) as url:
        before = pa.total_allocated_bytes()
        answer = httpx2.post(url + PREDICT, content=body, timeout=600)
        assert pa.total_allocated_bytes() - before < 2**20
        assert httpx2.get(f"{url}/maas/v1/models").status_code == 200
    assert answer.status_code == status, answer.text
    assert "Traceback" not in answer.text and answer.json()["error"]


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"compression": "lz4"}, {"use_legacy_format": True}])
def test_what_a_stream_says_is_what_it_holds(options: dict[str, Any]) -> None:
    table = pa.table(
        {
            "a": pa.array(["x", "yy", None] * 700),
            "b": np.arange(2100.0),
            "c": pa.array(["u", "v", "u"] * 700).dictionary_encode(),
            "d": pa.array([[1], [2, 3], []] * 700),
            "e": pa.array([{"f": 1}] * 2100),
        }
    )
    found = extent(stream(table, **options))
    assert found.rows == 2100 and found.batches == 2
    assert found.cells == 2100 * 4 + 2100 + 2 + 2100 + 2100
    assert found.bytes >= table.nbytes


def test_streams_that_do_not_hold_together_are_refused_or_measured(here: LocalBackend) -> None:
    whole = stream(
        pa.table({"a": ["x", None, "z"], "b": [1.0, 2.0, 3.0], "c": pa.array(["u"] * 3).dictionary_encode()})
    )
    rng = np.random.default_rng(0)
    with in_thread(here, SMALL) as url, httpx2.Client(base_url=url) as http:
        for turn in range(300):
            body = bytearray(whole[: rng.integers(len(whole))] if turn % 3 == 0 else whole)
            for place in rng.integers(0, max(1, len(body)), 3):
                body[place : place + 1] = bytes([rng.integers(256)])
            try:
                told = extent(bytes(body))
            except DataError:
                told = None
            answer = http.post(PREDICT, content=bytes(body))
            assert 400 <= answer.status_code < 500, answer.text
            if told is None:
                assert "Arrow stream" in answer.json()["error"]


def head(count: int, **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [count, 8], "datatype": "FP32", **more}


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[%b]}' % json.dumps(head(250_000, data=[0] * 2_000_000)).encode(),
        b'{"inputs":[%b]}' % json.dumps(head(250_000, data=[[0] * 8] * 250_000)).encode(),
        b'{"inputs":[],"parameters":{"a":[' + b"[]," * 1_500_000 + b"0]}}",
        b'{"inputs":[' + b'{"name":"","shape":[],"datatype":""},' * 100_000 + b"0]}",
        b'{"inputs":[{"name":"x","shape":[' + b"1," * 2_000_000 + b'1],"datatype":"FP32","data":[0]}]}',
    ],
    ids=["flat", "nested", "parameters", "inputs", "axes"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_json_is_measured_before_it_is_read(body: bytes, packed: bool, here: LocalBackend) -> None:
    with in_thread(here, Settings(request_memory=9 * 2**20)) as url:
        headers = {"content-encoding": "gzip"} if packed else {}
        answer = httpx2.post(url + INFER, content=gzip.compress(body, 1) if packed else body, headers=headers)
        assert httpx2.post(url + INFER, content=json.dumps({"inputs": [head(1, data=[0] * 8)]})).status_code == 200
    assert answer.status_code == 413 and "MB" in answer.json()["error"]


def binary(datatype: str, shape: list[int], data: bytes) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(data)}}
    told = json.dumps({"inputs": [tensor]}).encode()
    return told + data, {"inference-header-content-length": str(len(told))}


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "told"),
    [
        ("BOOL", [MOST_ROWS + 1, 8], bytes(8 * (MOST_ROWS + 1)), "rows"),
        ("BYTES", [2**20, 1], bytes(4 * 2**20), "MB"),
        ("FP32", [2**19, 8], bytes(2**24), "MB"),  # their answers
    ],
)
def test_tensors_are_measured_before_they_are_made(
    datatype: str, shape: list[int], data: bytes, told: str, here: LocalBackend
) -> None:
    body, headers = binary(datatype, shape, data)
    with in_thread(here, SMALL) as url:
        answer = httpx2.post(url + INFER, content=body, headers=headers, timeout=600)
    assert answer.status_code == 413 and told in answer.json()["error"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_bodies_are_unpacked_bit_by_bit(coding: str, here: LocalBackend) -> None:
    def pack(data: bytes) -> bytes:
        if coding == "zstd":
            return bytes(pa.compress(data, "zstd", asbytes=True)) if data else b""
        return gzip.compress(data) if coding == "gzip" else zlib.compress(data)

    body = json.dumps({"inputs": [head(3, data=[0.5] * 24)]}).encode()
    sent = {"content-encoding": coding}
    with in_thread(here, Settings(request_memory=16 * 2**20)) as url:
        plain = httpx2.post(url + INFER, content=body)
        good = httpx2.post(url + INFER, content=pack(body), headers=sent)
        bomb = httpx2.post(url + INFER, content=pack(bytes(40_000_000)), headers=sent)
        broken = httpx2.post(url + INFER, content=pack(body)[:-9], headers=sent)
        more = httpx2.post(url + INFER, content=pack(body) + b"junk", headers=sent)
        none = httpx2.post(url + INFER, content=b"", headers=sent)
    assert good.status_code == 200 and good.json()["outputs"] == plain.json()["outputs"]
    assert bomb.status_code == 413
    assert {answer.status_code for answer in (broken, more, none)} == {400}


class Slow:
    """A backend that answers when it may."""

    def __init__(self) -> None:
        self.asked, self.may = threading.Semaphore(0), threading.Event()

    def infer(self, model: str, inputs: Mapping[str, Any]) -> Inferred:
        """As asked."""
        self.asked.release()
        self.may.wait(600)
        return Inferred("net:1", {"y": np.zeros(len(inputs["x"]), np.float32)})

    def opened(self, model: str) -> bool:
        """Not so that the event loop would ask it."""
        return False


def test_all_requests_have_one_budget_which_they_give_back() -> None:
    slow = Slow()
    body, headers = binary("FP32", [2**16, 8], bytes(2**21))
    with in_thread(slow, Settings(request_memory=3 * 2**20)) as url, ThreadPoolExecutor(1) as threads:  # type: ignore[arg-type]
        first = threads.submit(httpx2.post, url + INFER, content=body, headers=headers, timeout=600)
        assert slow.asked.acquire(timeout=600)
        second = httpx2.post(url + INFER, content=body, headers=headers)
        assert second.status_code == 503 and second.headers["retry-after"] == "1"
        assert "enough memory" in second.json()["error"]
        slow.may.set()
        assert first.result(600).status_code == 200
        for _ in range(5):
            assert httpx2.post(url + INFER, content=body, headers=headers).status_code == 200


def test_a_budget_counts() -> None:
    budget = Budget(100)
    budget.take(60)
    with pytest.raises(Overloaded):
        budget.take(50)
    with pytest.raises(TooLarge):
        budget.take(50, had=60)
    budget.take(40)
    budget.give(100)
    assert budget.held == 0


STUCK = """
import sys, threading
from maas_magics.local.backend import LocalBackend
from maas_magics.service.app import create_app
from maas_magics.service.transport import configure
import uvicorn
class Stuck(LocalBackend):
    def predict(self, request):
        print("stuck", flush=True)
        threading.Event().wait()
    def infer(self, model, inputs):
        self.predict(None)
server = uvicorn.Server(configure(create_app(Stuck(sys.argv[1])), port=int(sys.argv[2]), timeout_graceful_shutdown=1))
server.run()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_requests_that_hang_hold_neither_management_nor_a_signal(filled: Path, free_port: int) -> None:
    words = [sys.executable, "-c", STUCK, str(filled / "store"), str(free_port)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{free_port}"
    assert process.stdout is not None
    try:
        rows = stream(pa.table({"size": [1.0]}))
        with ThreadPoolExecutor(24) as threads, httpx2.Client(base_url=url, timeout=600) as http:
            wait_for(http)
            for _ in range(12):
                threads.submit(_posted, url + PREDICT, rows)
                threads.submit(_posted, url + INFER, json.dumps({"inputs": [head(1, data=[0] * 8)]}).encode())
            assert process.stdout.readline() == "stuck\n"
            for _ in range(20):
                assert http.get("/maas/v1/models").status_code == 200
                assert http.get("/v2/models/net").status_code == 200
                assert http.get("/metrics").status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(600) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for(http: httpx2.Client) -> None:
    for _ in range(600):
        try:
            assert http.get("/v2/health/live").status_code == 200
            return
        except httpx2.TransportError:
            threading.Event().wait(0.05)
    raise AssertionError("the service did not start")


def _posted(url: str, body: bytes) -> None:
    with contextlib.suppress(httpx2.TransportError):
        httpx2.post(url, content=body, timeout=600)


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
