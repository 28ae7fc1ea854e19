"""Who is let in, for what, how often and with how much; and that no token is ever told."""

from __future__ import annotations

import gzip
import json
import os
import re
import ssl
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest
from serving import Service, in_thread, remote, spoken

from maas_magics.api.errors import MaasError, OptionError, Refused, ServiceError
from maas_magics.api.requests import TrainRequest
from maas_magics.local.backend import LocalBackend
from maas_magics.remote.client import Client
from maas_magics.service.gate import OPEN, scope_for
from maas_magics.service.openapi import OPERATIONS
from maas_magics.service.settings import Settings
from maas_magics.service.tokens import SCOPES, Token, TokenFile, Tokens, digest_of

ONES = {"inputs": [{"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [1.0] * 8}]}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.fixture
def clients(here: LocalBackend, tmp_path: Path) -> Iterator[tuple[str, TokenFile]]:
    """URL of a service whose tokens stand in a file, and that file."""
    file = TokenFile(tmp_path / "tokens.json")
    with in_thread(here, Settings(tokens=Tokens(file.path))) as url:
        yield url, file


def test_each_path_needs_the_scope_that_fits_it() -> None:
    needed = {(path, method.upper()): scope_for(method.upper(), path) for path, method, *_ in OPERATIONS}
    assert {path for (path, _), scope in needed.items() if not scope} == OPEN
    for (path, method), scope in needed.items():
        own = path.startswith("/maas/v1/generations")  # whoever may ask may cancel what it asked for
        changes = path.startswith(("/maas/v1/jobs", "/maas/v1/data")) or (method in ("PUT", "DELETE") and not own)
        assert scope in SCOPES or path in OPEN
        assert (scope == "train") == changes
        assert (scope == "admin") == path.startswith("/v2/repository/models")


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_opens_what_its_scopes_say(scope: str, clients: tuple[str, TokenFile]) -> None:
    url, file = clients
    token = file.add("somebody", [scope])
    asked = {
        "predict": httpx2.post(f"{url}/v2/models/net/infer", json=ONES, headers=bearer(token)),
        "train": httpx2.get(f"{url}/maas/v1/jobs", headers=bearer(token)),
        "admin": httpx2.post(f"{url}/v2/repository/models/net/load", headers=bearer(token)),
    }
    for needed, answer in asked.items():
        assert answer.status_code == (200 if needed == scope else 403), answer.text
        if needed != scope:
            assert f"lacks the scope '{needed}'" in answer.json()["error"]


@pytest.mark.parametrize("sent", [{}, bearer("wrong"), {"authorization": "Basic eDp5"}, {"authorization": "Bearer"}])
def test_without_a_token_that_is_known_nothing_but_health_answers(sent: Any, clients: tuple[str, TokenFile]) -> None:
    url, file = clients
    file.add("somebody")
    answers = [
        httpx2.post(f"{url}/v2/models/net/infer", json=ONES, headers=sent),
        httpx2.get(f"{url}/v2", headers=sent),
        httpx2.get(f"{url}/maas/v1/jobs", headers=sent),
        httpx2.get(f"{url}/metrics", headers=sent),
        httpx2.get(f"{url}/nowhere", headers=sent),
    ]
    assert [answer.status_code for answer in answers] == [401] * 5
    assert all(answer.headers["www-authenticate"] == "Bearer" for answer in answers)
    assert httpx2.get(f"{url}/v2/health/ready").status_code == 200


def test_tokens_come_and_go_while_the_service_runs(clients: tuple[str, TokenFile], monkeypatch: Any) -> None:
    monkeypatch.setattr("maas_magics.service.tokens.LOOK", 0.0)
    url, file = clients
    token = file.add("guest", ["predict"])
    assert httpx2.get(f"{url}/v2", headers=bearer(token)).status_code == 200
    file.remove("guest")
    assert httpx2.get(f"{url}/v2", headers=bearer(token)).status_code == 401


def test_the_file_of_tokens_holds_digests_and_is_its_owners(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "sub" / "tokens.json")
    token = file.add("one", ["predict"])
    text = file.path.read_text()
    assert token not in text and digest_of(token.encode()) in text and file.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OptionError, match="There is a token 'one' already"):
        file.add("one")
    with pytest.raises(OptionError, match="There is no scope 'root'"):
        file.add("two", ["root"])
    with pytest.raises(MaasError, match="There is no token 'two'"):
        file.remove("two")
    file.path.write_text("junk")
    with pytest.raises(MaasError, match="cannot be read"):
        file.read()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:9", 200),
        ("[::1]:9", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)
def test_the_host_must_be_one_of_ours(host: str, status: int, here: LocalBackend) -> None:
    with in_thread(here) as url:
        assert httpx2.get(f"{url}/v2", headers={"host": host}).status_code == status


def test_web_pages_are_shut_out_unless_they_are_named(here: LocalBackend) -> None:
    with in_thread(here, Settings(origins=frozenset({"https://good.example"}))) as url:
        evil = httpx2.get(f"{url}/v2", headers={"origin": "https://evil.example"})
        good = httpx2.get(f"{url}/v2", headers={"origin": "https://good.example"})
    assert evil.status_code == 403 and "access-control-allow-origin" not in evil.headers
    assert good.status_code == 200 and good.headers["access-control-allow-origin"] == "https://good.example"


def test_a_page_that_is_named_may_ask_what_it_may_send(clients: tuple[str, TokenFile], here: LocalBackend) -> None:
    """Browsers ask without the token first."""
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    url = "/v2/models/net/infer"
    settings = Settings(origins=frozenset({"https://good.example"}), tokens=Tokens(clients[1].path))
    with in_thread(here, settings) as there:
        good = httpx2.options(there + url, headers={"origin": "https://good.example", **asks})
        evil = httpx2.options(there + url, headers={"origin": "https://evil.example", **asks})
        none = httpx2.options(there + url)
    assert good.status_code == 204 and "authorization" in good.headers["access-control-allow-headers"]
    assert good.headers["access-control-allow-origin"] == "https://good.example" and not good.content
    assert "POST" in good.headers["access-control-allow-methods"]
    assert evil.status_code == 403 and "access-control-allow-origin" not in evil.headers
    assert none.status_code == 401
    closed = httpx2.options(clients[0] + url, headers={"origin": "https://good.example", **asks})
    assert closed.status_code == 403


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v2/models/net/infer", {"POST"}),
        ("/maas/v1/jobs", {"GET", "HEAD", "POST"}),
        ("/maas/v1/models/net", {"GET", "HEAD", "DELETE"}),
        ("/maas/v1/data/" + "0" * 64, {"HEAD", "PATCH"}),
        ("/v2/health/ready", {"GET", "HEAD"}),
    ],
)
def test_a_method_that_is_not_there_is_told_which_are(path: str, allowed: set[str], here: LocalBackend) -> None:
    with in_thread(here) as url:
        answer = httpx2.request("PUT", url + path, content=b"x")
    assert answer.status_code == 405 and set(answer.headers["allow"].split(", ")) == allowed
    assert answer.json()["error"] == "The method is not for this path."


@pytest.mark.parametrize("path", ["/v2/models/net/infer", "/maas/v1/jobs", "/maas/v1/models/net/predict"])
def test_bodies_have_a_limit_packed_and_unpacked(path: str, here: LocalBackend) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    with in_thread(here, Settings(body_limit=100_000)) as url:
        long = httpx2.post(url + path, content=b"x" * 100_001)
        chunked = httpx2.post(url + path, content=(b"x" * 10_000 for _ in range(11)))
        packed = httpx2.post(url + path, content=bomb, headers={"content-encoding": "gzip"})
        inflated = httpx2.post(
            url + path, content=zlib.compress(b" " * 200_000), headers={"content-encoding": "deflate"}
        )
        junk = httpx2.post(url + path, content=b"junk", headers={"content-encoding": "gzip"})
        other = httpx2.post(url + path, content=b"junk", headers={"content-encoding": "br"})
    assert [answer.status_code for answer in (long, chunked, packed, inflated)] == [413] * 4
    assert all("larger than 100,000 bytes" in answer.json()["error"] for answer in (long, chunked, packed, inflated))
    assert junk.status_code == other.status_code == 400


def test_a_token_may_not_ask_too_often(here: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    told_by = SimpleNamespace(monotonic=lambda: clock[0], perf_counter=time.perf_counter, time=time.time)
    monkeypatch.setattr("maas_magics.service.gate.time", told_by)
    tokens = Tokens(own=[Token("a", digest_of(b"a")), Token("b", digest_of(b"b"))])
    with in_thread(here, Settings(tokens=tokens, rate=5)) as url:
        many = [httpx2.get(f"{url}/v2", headers=bearer("a")) for _ in range(7)]
        other = httpx2.get(f"{url}/v2", headers=bearer("b"))
        clock[0] += 0.2  # a fifth of a second is a request's worth
        later = [httpx2.get(f"{url}/v2", headers=bearer("a")) for _ in range(2)]
    assert [answer.status_code for answer in many] == [200] * 5 + [429] * 2 and other.status_code == 200
    assert many[-1].headers["retry-after"] == "1" and [answer.status_code for answer in later] == [200, 429]


def test_a_file_of_tokens_that_is_junk_shuts_nobody_out_and_is_not_told(
    clients: tuple[str, TokenFile], monkeypatch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("maas_magics.service.tokens.LOOK", 0.0)
    url, file = clients
    token = file.add("guest", ["predict"])
    assert httpx2.get(f"{url}/v2", headers=bearer(token)).status_code == 200
    for junk in ("junk", '[{"name": "x", "digest": "ü"}]'):
        file.path.write_text(junk)
        answers = [httpx2.get(f"{url}/v2", headers=bearer(sent)) for sent in (token, "other")]
        assert [answer.status_code for answer in answers] == [200, 401]
        assert str(file.path) not in answers[1].text
    assert "cannot be read" in capfd.readouterr().err


class Failing:
    """A backend with a mistake of its own, whose text tells what nobody should know."""

    data = None

    @property
    def models(self) -> Any:
        raise RuntimeError("/home/somebody/secret")

    def infer(self, model: str, inputs: Any) -> Any:
        raise RuntimeError("/home/somebody/secret")

    loaded = jobs = lambda self: self.models


@pytest.mark.parametrize(
    "path", ["/v2/models/net/infer", "/v2/models/net", "/maas/v1/models", "/maas/v1/loaded", "/maas/v1/jobs"]
)
def test_a_mistake_of_ones_own_tells_nothing_but_where_to_look(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    with in_thread(Failing()) as url:  # type: ignore[arg-type]
        answer = httpx2.request("POST" if path.endswith("infer") else "GET", url + path, json=ONES)
    told = capfd.readouterr().err
    assert answer.status_code == 500 and answer.json()["error"] == "The service failed."
    assert answer.headers["x-request-id"] in answer.json()["hint"] and "secret" not in answer.text
    assert f"Request {answer.headers['x-request-id']}:" in told and "/home/somebody/secret" in told


def test_a_body_or_a_head_that_does_not_come_ends_the_connection(
    here: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maas_magics.service.transport.SLOW", 0.3)  # seconds that a client may say nothing
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    body = json.dumps(ONES).encode()
    with in_thread(here) as url:
        for path in (b"/v2/models/net/infer", b"/maas/v1/jobs"):
            assert spoken(url, head % (path, 1000), b"{") == b""
        for begun in (b"", b"POST /maas/v1/jobs HTTP/1.1\r\nHost: loc"):
            assert spoken(url, begun) == b""
        # Slow, but something comes: all in all it takes longer than a client may say nothing, each piece far shorter.
        monkeypatch.setattr("maas_magics.service.transport.SLOW", 2.0)
        pieces = [body[i : i + 4] for i in range(0, len(body), 4)]
        close = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        told = spoken(url, close % (b"/v2/models/net/infer", len(body)), *pieces, pause=2.5 / len(pieces))
        assert told.startswith(b"HTTP/1.1 200 ")
        assert httpx2.get(f"{url}/v2").status_code == 200


def test_the_head_of_a_request_has_a_limit(here: LocalBackend) -> None:
    with in_thread(here) as url:
        for endless in (b"x: " + b"y" * 70_000, b"".join(b"x%d: y\r\n" % i for i in range(9_000))):
            assert spoken(url, b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n" + endless) == b""
        assert httpx2.get(f"{url}/v2").status_code == 200


def test_requests_that_are_sent_at_once_are_answered_in_turn(here: LocalBackend) -> None:
    with in_thread(here) as url:
        paths = [b"/v2/models/net/versions/1", b"/v2/health/live", b"/nowhere", b"/v2/models/net/versions/2"]
        head = b"GET %s HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %d\r\n%s\r\n"
        ends = [b"", b"", b"", b"Connection: close\r\n"]
        told = spoken(url, b"".join(head % (path, i, ends[i]) for i, path in enumerate(paths)))
    assert re.findall(rb"x-request-id: (\d)", told) == [b"0", b"1", b"2", b"3"]
    assert re.findall(rb"HTTP/1.1 (\d+)", told) == [b"200", b"200", b"404", b"200"]
    assert told.index(b'"versions":["1"]') < told.index(b'"versions":["2"]')


def test_a_large_answer_waits_for_a_slow_client(here: LocalBackend) -> None:
    x = np.random.default_rng(0).normal(size=(400_000, 8)).astype("<f4")
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": x.shape, "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
            ],
            "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
        }
    ).encode()
    with in_thread(here) as url:
        headers = {"inference-header-content-length": str(len(head))}
        with httpx2.stream("POST", f"{url}/v2/models/net/infer", content=head + x.tobytes(), headers=headers) as answer:
            time.sleep(0.3)
            body = answer.read()
    found = np.frombuffer(body[int(answer.headers["inference-header-content-length"]) :], "<f4").reshape(-1, 3)
    np.testing.assert_allclose(found, here.infer("net", {"x": x}).outputs["probabilities"], rtol=1e-5)


def test_requests_have_an_id(here: LocalBackend) -> None:
    with in_thread(here) as url:
        own = httpx2.get(f"{url}/v2", headers={"x-request-id": "mine-1"})
        insane = httpx2.get(f"{url}/v2", headers={"x-request-id": "<script>"})
        again = httpx2.get(f"{url}/nowhere")
    assert own.headers["x-request-id"] == "mine-1"
    assert len({insane.headers["x-request-id"], again.headers["x-request-id"], "<script>", "mine-1"}) == 4


def test_metrics_and_log_tell_what_happened(here: LocalBackend, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    tokens = Tokens(own=[Token("ada", digest_of(b"secret"))])
    with in_thread(here, Settings(tokens=tokens, access_log=str(log))) as url:
        for _ in range(3):
            httpx2.post(f"{url}/v2/models/net/infer", json=ONES, headers=bearer("secret"))
        httpx2.post(f"{url}/v2/models/nobody/infer", json=ONES, headers=bearer("secret"))
        told = httpx2.get(f"{url}/metrics", headers=bearer("secret")).text
        status = httpx2.get(f"{url}/maas/v1/status", headers=bearer("secret")).json()
    assert 'maas_requests_total{route="infer",status="200"} 3.0' in told
    assert 'maas_requests_total{route="infer",status="404"} 1.0' in told
    assert 'maas_rows_total{model="net:2"} 3.0' in told and "maas_request_seconds_bucket" in told
    assert status["requests"] == status["rows"] == 3 and status["waiting"] == 0
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["status"] for entry in entries] == [200, 200, 200, 404, 200, 200]
    assert {entry["client"] for entry in entries} == {"ada"} and entries[0]["path"] == "/v2/models/net/infer"
    assert [entry.get("model", "") for entry in entries] == ["net:2"] * 3 + [""] * 3
    assert 'maas_model_requests_total{model="net:2",outcome="success"} 3.0' in told
    assert "secret" not in log.read_text() + told


def test_no_token_in_anything_that_is_written_or_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    service = Service(tmp_path)
    try:
        with remote(service.url, service.token) as backend:
            job = backend.submit(TrainRequest(name="m", data=[[1.0, 2.0]] * 9, target=[0.0, 1.0, 2.0] * 3, epochs=1))
            job.result(600)
            shown = [repr(backend), repr(job), repr(vars(backend)), repr(backend._client), backend.place]
            shown += [repr(event) for event in job.events()]
        httpx2.get(f"{service.url}/v2", headers=bearer(service.token + "x"))
        httpx2.post(f"{service.url}/v2/models/net/infer", content=service.token, headers=service.headers)
        with pytest.raises(Refused) as refused, remote(service.url, service.token[:-1]) as backend:
            backend.jobs()
        shown += [str(refused.value), httpx2.get(f"{service.url}/metrics", headers=service.headers).text]
    finally:
        service.stop()
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != "token"]
    shown += [file.read_bytes().decode("latin-1") for file in written]
    shown += list(capfd.readouterr())
    assert len(written) > 5 and (tmp_path / "access.log") in written
    assert not [text[:100] for text in shown if service.token[:-1] in text]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "maas_magics.service", *words], capture_output=True, text=True, timeout=30
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "0.0.0.0"], "listens on 0.0.0.0 needs a token"),
        (["--host", "0.0.0.0", "--no-auth"], "listens on 0.0.0.0 needs a token"),
        ([], "A service needs a token"),
        (["--no-auth", "--tls-cert", "a.pem"], "a certificate and its key"),
        (["--no-auth", "--tls-cert", "a.pem", "--tls-key", "b.pem"], "There is no file 'a.pem'"),
        (["--no-auth", "--host", "localhost", "--port", "99999"], "Cannot listen on port 99999"),
        (["--no-auth", "--host", "192.0.2.1"], "needs a token"),
        (["--token-file", "nowhere"], "The token cannot be read"),
        (["token", "add", "x", "--tokens", "f", "--scopes", "all"], "There is no scope 'all'"),
    ],
)
def test_a_service_refuses_what_makes_no_sense(words: list[str], told: str, tmp_path: Path) -> None:
    found = run(*words, *(["--store", str(tmp_path)] if words[:1] != ["token"] else []))
    assert found.returncode == 2 and told in found.stderr and len(found.stderr.splitlines()) <= 2


def test_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t")
    file.chmod(0o644)
    found = run("--token-file", str(file), "--store", str(tmp_path))
    assert found.returncode == 2 and "Others may read" in found.stderr and "chmod 600" in found.stderr


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, 0), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def test_tls_from_end_to_end(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = certificate
    service = Service(tmp_path, "--tls-cert", str(cert), "--tls-key", str(key))
    try:
        assert service.url.startswith("https://")
        client = service.client(str(cert))
        assert client.request("GET", "/maas/v1/jobs").json() == []
        client.close()
        with pytest.raises(ServiceError, match="is not trusted") as caught:
            Client(service.url, lambda: "").request("GET", "/v2", patience=0)
        assert "--certificate" in caught.value.hint
        plain = Client(service.url.replace("https", "http"), lambda: "")
        with pytest.raises(ServiceError):
            plain.request("GET", "/v2", patience=0)
        assert ssl.get_server_certificate(("127.0.0.1", service.port)).startswith("-----BEGIN")
    finally:
        service.stop()


def test_a_service_starts_in_a_moment_without_torch(tmp_path: Path) -> None:
    code = "import sys, maas_magics.service.__main__, maas_magics.local.pool; print([m for m in ('torch', 'pandas', 'IPython', 'matplotlib') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert found.stdout.strip() == "[]"


def test_behind_proxies_that_strip_the_prefix_or_keep_it(tmp_path: Path) -> None:
    service = Service(tmp_path, "--root-path", "/user/ada/proxy/8000")
    try:
        for prefix in ("", "/user/ada/proxy/8000"):
            for path, status in (("/v2", 200), ("/maas/v1/jobs", 200), ("/v2/models/nobody", 404)):
                assert httpx2.get(service.url + prefix + path, headers=service.headers).status_code == status
            asked = httpx2.post(f"{service.url}{prefix}/v2/models/nobody/infer", json=ONES, headers=service.headers)
            assert asked.status_code == 404 and "no model 'nobody'" in asked.json()["error"]
            with remote(service.url + prefix, service.token) as backend:
                backend.check()
    finally:
        service.stop()


def test_behind_a_proxy_that_keeps_its_prefix(here: LocalBackend) -> None:
    import asyncio

    from maas_magics.service.app import create_app

    app = create_app(here)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(ONES).encode(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        app._batcher.start(loop)
        scope = {
            "type": "http", "method": "POST", "path": "/user/ada/proxy/8000/v2/models/net/infer", "query_string": b"",
            "root_path": "/user/ada/proxy/8000", "headers": [(b"host", b"localhost")], "http_version": "1.1",
        }  # fmt: skip
        await app(scope, receive, send)
        await app({**scope, "method": "GET", "path": "/user/ada/proxy/8000/v2"}, receive, send)
        await asyncio.to_thread(app._batcher.stop)

    asyncio.run(ask())
    assert [message["status"] for message in sent if "status" in message] == [200, 200]
