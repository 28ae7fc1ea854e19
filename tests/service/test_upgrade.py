"""An offer to speak another protocol is passed over, and the request is answered with its body."""

from __future__ import annotations

import json
import re

import pytest
from serving import in_thread, spoken

from maas_magics.local.backend import LocalBackend

PATH = b"/v2/models/net/infer"
BODY = json.dumps(
    {"id": "kept", "inputs": [{"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [1] * 8}]}
).encode()
JAVA = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\nUpgrade: h2c\r\n"
OFFERS = {
    "h2c": JAVA,
    "h2c, another order": b"Upgrade: h2c\r\nConnection: HTTP2-Settings, Upgrade\r\nHTTP2-Settings: AAMAAABk\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "TLS": b"CONNECTION: upgrade\r\nUPGRADE: TLS/1.2, HTTP/2.0\r\n",
}


def sent(offer: bytes, chunked: bool = False, close: bool = False) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\n%b" % (PATH, offer)
    if close:
        head = head.replace(b"Upgrade,", b"Upgrade, close,").replace(b"HTTP2-Settings, Upgrade", b"close, Upgrade")
        head += b"" if b"close" in head else b"Connection: close\r\n"
    if chunked:
        return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("step", [10_000, 50])
def test_a_body_is_kept_beside_an_offer(offer: str, chunked: bool, step: int, here: LocalBackend) -> None:
    data = sent(OFFERS[offer], chunked) + sent(OFFERS[offer], chunked, close=True)
    with in_thread(here) as url:
        told = spoken(url, *(data[place : place + step] for place in range(0, len(data), step)))
    assert told.count(b"HTTP/1.1 200 OK") == 2 and told.count(b'"id":"kept"') == 2
    assert b"101" not in told.split(b"\r\n", 1)[0] and b"upgrade:" not in told.lower()


def test_a_get_that_offers_is_answered(here: LocalBackend) -> None:
    plain = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n"
    with in_thread(here) as url:
        told = spoken(url, plain + JAVA + b"\r\n" + plain + b"Connection: close\r\n\r\n")
    assert told.count(b"HTTP/1.1 200 OK") == 2


def test_what_only_looks_like_an_offer_stays_a_body(here: LocalBackend) -> None:
    """Nothing that a body holds is read as a request of its own."""
    hidden = b"GET /v2/models/nobody HTTP/1.1\r\nHost: localhost\r\n\r\n"
    body = BODY[:-1] + b" " * 3 + b"}"
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\n%b" % (PATH, JAVA)
    data = (
        head
        + b"Content-Length: %d\r\n\r\n%b" % (len(hidden), hidden)
        + head
        + b"Content-Length: %d\r\n\r\n" % len(body)
    )
    with in_thread(here) as url:
        told = spoken(url, data + body + b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1\.1 (\d+)", told) == [b"400", b"200", b"200"]


def test_other_protocols_are_refused_in_plain_http(here: LocalBackend) -> None:
    with in_thread(here) as url:
        prior = spoken(url, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        connect = spoken(url, b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        v2 = spoken(url, b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert (
        prior.startswith(b"HTTP/1.1 400")
        and connect.startswith((b"HTTP/1.1 4", b""))
        and v2.startswith(b"HTTP/1.1 200")
    )
