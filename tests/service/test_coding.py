"""Answers go packed where a client accepts that."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import httpx2
import numpy as np
import pytest
from serving import Service, in_thread, spoken

from maas_magics.local.backend import LocalBackend
from maas_magics.service.coding import accepted

PATH = "/v2/models/net/infer"


def body(rows: int = 1, **more: Any) -> bytes:
    x = {"name": "x", "shape": [rows, 8], "datatype": "FP32", "data": [0.5] * (8 * rows)}
    return json.dumps({"inputs": [x], **more}).encode()


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("gzip", "gzip"), ("x-gzip", "gzip"), ("GZIP", "gzip"), ("deflate", "deflate"), ("gzip, deflate", "gzip"),
        ("deflate, gzip", "gzip"), ("gzip;q=0.2, deflate", "deflate"), ("gzip;q=0", ""), ("gzip; q=0.0", ""), ("br", ""),
        ("identity", ""), ("*", ""), ("", ""), ("gzip;q=much", ""), ("gzip, deflate, br, zstd", "gzip"), (",,gzip", "gzip"),
    ],
)  # fmt: skip
def test_the_coding_that_a_client_likes_best(header: str, coding: str) -> None:
    assert accepted(header.encode())[0] == coding.encode()


@pytest.mark.parametrize("rows", [1, 200, 9_000])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_an_answer_is_the_same_packed(rows: int, binary: bool, coding: str, here: LocalBackend) -> None:
    sent = body(rows, parameters={"binary_data_output": binary})
    with in_thread(here) as url:
        plain = httpx2.post(url + PATH, content=sent, headers={"accept-encoding": "identity"})
        raw = [raw_answer(url, sent, coding, long) for long in (False, True)]
    unpack = gzip.decompress if coding == "gzip" else zlib.decompress
    for headers, told in raw:
        assert headers["content-encoding"] == coding and "accept-encoding" in headers["vary"]
        assert unpack(told) == plain.content
        assert int(headers["content-length"]) == len(told)
        key = "inference-header-content-length"
        assert headers.get(key) == plain.headers.get(key)


def raw_answer(url: str, sent: bytes, coding: str, long: bool) -> tuple[dict[str, str], bytes]:
    """Headers and body as they came, on the short path or the long one."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept-Encoding: {coding}\r\n".encode()
    if long:
        told = spoken(url, head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(sent), sent))
    else:
        told = spoken(url, head + b"Content-Length: %d\r\n\r\n%b" % (len(sent), sent))
    lines, _, rest = told.partition(b"\r\n\r\n")
    status, *headers = lines.decode().split("\r\n")
    assert " 200 " in status
    return dict(line.lower().split(": ", 1) for line in headers), rest


def test_small_answers_are_packed_only_for_those_who_ask_for_that(here: LocalBackend) -> None:
    with in_thread(here) as url:
        usual = httpx2.post(url + PATH, content=body(), headers={"accept-encoding": "gzip, deflate, br"})
        large = httpx2.post(url + PATH, content=body(200), headers={"accept-encoding": "gzip, deflate, br"})
        described = httpx2.get(f"{url}/openapi.json", headers={"accept-encoding": "gzip, deflate"})
        refused = httpx2.post(url + PATH, content=b"{", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in usual.headers
    assert large.headers["content-encoding"] == described.headers["content-encoding"] == "gzip"
    assert described.json()["openapi"] and refused.status_code == 400 and refused.json()["error"]


def test_tritons_client_gets_packed_answers(service: Service, here: LocalBackend) -> None:
    triton = pytest.importorskip("tritonclient.http")
    client = triton.InferenceServerClient(service.url.partition("://")[2])
    x = triton.InferInput("x", [3, 8], "FP32")
    x.set_data_from_numpy(np.ones((3, 8), np.float32))
    expected = here.infer("net", {"x": np.ones((3, 8), np.float32)}).outputs["probabilities"]
    for algorithm in ("gzip", "deflate"):
        found = client.infer("net", [x], headers=service.headers, response_compression_algorithm=algorithm)
        np.testing.assert_allclose(found.as_numpy("probabilities"), expected, rtol=1e-6)
