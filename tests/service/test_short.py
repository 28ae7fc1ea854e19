"""The short path answers as the long one does, in turn, and holds nothing back from clients that go."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Mapping
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from serving import in_thread, spoken, wait_for
from torch import nn

from maas_magics.api.backend import Inferred
from maas_magics.api.requests import ExportRequest, TrainRequest
from maas_magics.local.backend import LocalBackend
from maas_magics.service.settings import Settings
from maas_magics.service.tokens import Token, Tokens, digest_of

PATH = "/v2/models/net/infer"


def body(value: float = 1.0, **more: Any) -> bytes:
    return json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [value] * 8}], **more}
    ).encode()


def binary() -> tuple[bytes, bytes]:
    x = np.linspace(-1, 1, 16, dtype="<f4")
    told = {"name": "x", "shape": [2, 8], "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [told], "parameters": {"binary_data_output": True}}).encode()
    return head + x.tobytes(), b"Inference-Header-Content-Length: %d\r\n" % len(head)


WORSE = body().replace(b"[1, 8]", b"[1, 7]")


def asked(
    path: str, sent: bytes, more: bytes = b"", *, long: bool = False, last: bool = True, version: bytes = b"1.1"
) -> bytes:
    """A request; one whose length is not told takes the long path."""
    head = b"POST %s HTTP/%s\r\nHost: localhost\r\nX-Request-Id: here\r\n" % (path.encode(), version) + more
    head += b"Connection: close\r\n" if last and version == b"1.1" else b""
    if long:
        return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(sent), sent)
    return head + b"Content-Length: %d\r\n\r\n%s" % (len(sent), sent)


def parts(told: bytes) -> tuple[bytes, set[bytes], bytes]:
    """Status line, headers and body of an answer."""
    head, _, rest = told.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    return status, {header.lower() for header in headers if not header.lower().startswith(b"date:")}, rest


@pytest.mark.parametrize(
    ("path", "sent", "more", "status"),
    [
        (PATH, body(id="a", outputs=[{"name": "probabilities"}]), b"", 200),
        (PATH.replace("net", "net/versions/1"), body(), b"", 200),
        (PATH.replace("net", "net@steady"), body(), b"", 200),
        (PATH, *binary(), 200),
        (PATH, body(), b"Origin: https://good.example\r\n", 200),
        (PATH, body(), b"Origin: https://bad.example\r\n", 403),
        (PATH, WORSE, b"", 400),
        (PATH, b"{", b"", 400),
        (PATH, body(), b"Inference-Header-Content-Length: many\r\n", 400),
        (PATH, body(), b"Inference-Header-Content-Length: 9999\r\n", 400),
        (PATH, body(outputs=[{"name": "nothing"}]), b"", 400),
        (PATH.replace("net", "nobody"), body(), b"", 404),
        (PATH, body(), b"Content-Encoding: br\r\n", 400),
    ],
)
def test_both_paths_say_the_same(path: str, sent: bytes, more: bytes, status: int, here: LocalBackend) -> None:
    with in_thread(here, Settings(origins=frozenset({"https://good.example"}))) as url:
        short, long = (parts(spoken(url, asked(path, sent, more, long=long))) for long in (False, True))
    assert short == long
    assert short[0].startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("long", [False, True])
def test_both_paths_pass_the_gate(long: bool, here: LocalBackend) -> None:
    tokens = Tokens(own=[Token("ann", digest_of(b"t" * 20), frozenset({"train"}))])
    with in_thread(here, Settings(tokens=tokens)) as url:
        told = [
            parts(spoken(url, asked(PATH, body(), more, long=long)))[0]
            for more in (b"", b"Authorization: Bearer wrong\r\n", b"Authorization: Bearer " + b"t" * 20 + b"\r\n")
        ]
        told.append(parts(spoken(url, asked(PATH, body(), long=long).replace(b"localhost", b"evil.example")))[0])
    assert [int(line.split()[1]) for line in told] == [401, 401, 403, 403]
    with in_thread(here, Settings(body_limit=100)) as url:
        assert parts(spoken(url, asked(PATH, body(), long=long)))[0].startswith(b"HTTP/1.1 413")


def test_requests_that_are_sent_at_once_are_answered_in_turn_on_either_path(here: LocalBackend) -> None:
    count = 12
    sent = b"".join(
        asked(PATH, body(id=str(i)), long=i % 3 == 1, last=i == count - 1)
        if i % 4
        else b"GET /v2/models/net HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for i in range(count)
    )
    with in_thread(here) as url:
        for step in (len(sent), 97):
            told = spoken(url, *(sent[i : i + step] for i in range(0, len(sent), step)))
            assert re.findall(rb'"id":"(\d+)"|"platform"', told) == [b"%d" % i if i % 4 else b"" for i in range(count)]


def test_an_older_client_is_hung_up_on_after_its_answer(here: LocalBackend) -> None:
    with in_thread(here) as url:
        status, headers, said = parts(spoken(url, asked(PATH, body(), version=b"1.0")))  # until it hangs up
    assert status.startswith(b"HTTP/1.1 200")
    told = {header for header in headers if header.startswith(b"connection")}
    assert told <= {
        b"connection: close"
    }  # which HTTP/1.0 takes for granted, and earlier versions of uvicorn did not say
    assert json.loads(said)["model_name"] == "net"


class Slow:
    """A backend whose model answers when it may."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.may = threading.Event()
        self.count = 0

    def infer(self, model: str, inputs: Mapping[str, Any]) -> Inferred:
        """As asked."""
        self.count += 1
        self.asked.set()
        self.may.wait(600)
        return Inferred("net:1", {"y": inputs["x"]})


def test_a_client_that_hangs_up_costs_the_next_nothing() -> None:
    slow = Slow()
    with in_thread(slow) as url:  # type: ignore[arg-type]
        host, _, port = url.partition("://")[2].partition(":")
        for number in range(3):
            gone = socket.create_connection((host, int(port)))
            gone.sendall(asked(PATH, body()))
            wait_for(lambda: httpx2.get(f"{url}/maas/v1/status").json()["waiting"] > number)  # noqa: B023
            gone.close()
            url.until_all_have_gone()
        slow.may.set()
        status, _, said = parts(spoken(url, asked(PATH, body(3.0))))
    assert status.startswith(b"HTTP/1.1 200")
    assert json.loads(said)["outputs"][0]["data"] == [3.0] * 8
    assert slow.count == 2  # the first, which was asked already, and the last


def test_a_service_that_ends_answers_what_it_has() -> None:
    slow = Slow()
    told: list[bytes] = []
    with in_thread(slow) as url:  # type: ignore[arg-type]
        thread = threading.Thread(target=lambda: told.append(spoken(url, asked(PATH, body(2.0), last=False))))
        thread.start()
        slow.asked.wait(600)
        threading.Thread(target=lambda: (url.until_it_ends(), slow.may.set())).start()
    thread.join(600)
    status, headers, said = parts(told[0])
    assert status.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in headers
    assert json.loads(said)["outputs"][0]["data"] == [2.0] * 8


def test_an_answer_of_many_values_is_whole(tmp_path: Any) -> None:
    backend = LocalBackend(str(tmp_path))
    torch.manual_seed(0)
    wide = nn.Linear(8, 60_000)
    x = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    y = np.zeros((8, 60_000), np.float32)
    backend.submit(TrainRequest(name="wide", data=x, target=y, model=wide, epochs=1)).result(600)
    backend.submit(ExportRequest(model="wide")).result(600)
    sent = {"inputs": [{"name": "x", "shape": [8, 8], "datatype": "FP32", "data": x.ravel().tolist()}]}
    with in_thread(backend) as url:
        _, _, said = parts(spoken(url, asked("/v2/models/wide/infer", json.dumps(sent).encode())))
    output = json.loads(said)["outputs"][0]
    assert output["shape"] == [8, 60_000]
    wanted = next(iter(backend.infer("wide", {"x": x}).outputs.values()))
    np.testing.assert_allclose(np.reshape(output["data"], (8, 60_000)), wanted, rtol=1e-5)
