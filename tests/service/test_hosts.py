"""Which names a service answers to, and the lines of the README that start one."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest
from serving import Service, in_thread, spoken

from maas_magics.local.backend import LocalBackend
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client
from maas_magics.service.__main__ import own_names
from maas_magics.service.settings import Settings

README = Path(__file__).parents[2] / "README.md"
HEALTH = "/v2/health/live", "/v2/health/ready"


def status(url: str, path: str, host: str | None) -> int:
    head = f"GET {path} HTTP/1.1\r\n" + (f"Host: {host}\r\n" if host is not None else "") + "Connection: close\r\n\r\n"
    return int(spoken(url, head.encode()).split()[1])


@pytest.mark.parametrize("host", ["10.1.2.3:8000", "pod-7.cluster.local", "evil.example", "", "[fe80::1]", "a b", None])
def test_health_answers_whatever_host_is_asked(host: str | None, here: LocalBackend) -> None:
    with in_thread(here) as url:
        assert [status(url, path, host) for path in HEALTH] == [200, 200]
        assert status(url, "/v2", host) in (400, 403)
        assert status(url, "/openapi.json", host) in (400, 403)


@pytest.fixture(scope="module")
def everywhere(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that listens on every address; the tests speak to the loopback one."""
    folder = tmp_path_factory.mktemp("everywhere")
    (folder / "store").symlink_to(filled / "store")
    made = Service(folder, "--host", "0.0.0.0", "--allow-host", "models.example")
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        (socket.gethostname(), 200),
        (socket.gethostname().upper() + ":8000", 200),
        ("127.0.0.1", 200),
        ("localhost", 200),
        ("192.168.7.9:8000", 200),
        ("[2001:db8::7]:8000", 200),
        ("models.example", 200),
        ("evil.example", 403),
        ("192.168.7.9.evil.example", 403),
        ("0x7f.1", 403),
        ("", 403),
    ],
)
def test_a_service_of_a_machine_answers_to_its_names_and_addresses(host: str, answer: int, everywhere: Service) -> None:
    url = f"http://127.0.0.1:{everywhere.port}"
    head = f"GET /v2 HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {everywhere.token}\r\nConnection: close\r\n\r\n"
    assert int(spoken(url, head.encode()).split()[1]) == answer


def test_who_is_refused_is_told_what_to_type(here: LocalBackend) -> None:
    with in_thread(here) as url:
        told = httpx2.get(f"{url}/v2", headers={"host": "lab.example:80"}).json()
    assert told["error"] == "This service does not answer to the host name 'lab.example'."
    assert told["hint"].endswith("--allow-host lab.example")


def test_an_address_is_no_name_of_a_service_that_listens_on_this_machine_alone(here: LocalBackend) -> None:
    with in_thread(here) as url:
        assert status(url, "/v2", "192.168.7.9") == 403
    with in_thread(here, Settings(addresses=True)) as url:
        assert status(url, "/v2", "192.168.7.9") == 200
        assert status(url, "/v2", "nobody.example") == 403


def lines_of_the_readme() -> list[str]:
    """The lines for a service of one's own, as they are written."""
    section = README.read_text().partition("\n## A service\n")[2].partition("\n## ")[0]
    block = next(
        found for found in re.findall(r"```bash\n(.*?)```", section, re.DOTALL) if "maas-magics serve" in found
    )
    return [line for line in block.splitlines() if line.strip()]


@pytest.mark.skipif(os.name != "posix", reason="a shell")
def test_the_lines_of_the_readme_start_a_service(tmp_path: Path) -> None:
    """Every line as it is written; where another listens on the port, with a port of its own."""
    certificate(tmp_path)
    *before, serve = lines_of_the_readme()
    assert serve.startswith("maas-magics serve")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"MAAS_STORE": str(tmp_path / "store"), "OMP_NUM_THREADS": "1"}
    printed = [
        subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        for line in before
    ]
    token = printed[-1].stdout.strip()
    assert token and token not in (tmp_path / "tokens.json").read_text()
    for more in ("", " --port 0"):
        process = subprocess.Popen(
            ["bash", "-c", f"exec {serve}{more}"], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=open(tmp_path / "log", "w"),  # noqa: SIM115
        )  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        if line or "Cannot listen" not in (tmp_path / "log").read_text():
            break
        process.wait()
        process.stdout.close()
    try:
        assert line.startswith("Serving at https://"), (tmp_path / "log").read_text()
        port = int(line.rpartition(":")[2])
        for host in ("localhost", "127.0.0.1"):
            client = Client(f"https://{host}:{port}", lambda: token, str(tmp_path / "cert.pem"))
            assert client.request("GET", "/v2/health/ready").json() == {"live": True, "ready": True}
            backend = RemoteBackend(client)
            backend.check()
            assert backend.jobs() == () and list(backend.models.list()) == []
            backend.close()
        machine = socket.gethostname()
        context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            head = f"GET /v2 HTTP/1.1\r\nHost: {machine}:{port}\r\nAuthorization: Bearer {token}\r\n"
            secure.sendall(f"{head}Connection: close\r\n\r\n".encode())
            assert secure.recv(100).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_every_option_of_the_readme_is_one(tmp_path: Path) -> None:
    from maas_magics.service.__main__ import _parser

    section = README.read_text().partition("\n## A service\n")[2].partition("\n## ")[0]
    serve = next(line for line in lines_of_the_readme() if line.startswith("maas-magics serve"))
    assert vars(_parser().parse_args(shlex.split(serve)[2:]))["host"] == "0.0.0.0"
    there = {option for action in _parser()._actions for option in action.option_strings}
    for option in set(re.findall(r"`(--[a-z-]+)", section)) - {"--token-file", "--wait", "--sweep", "--certificate"}:
        assert option in there, option


def test_a_machine_has_names() -> None:
    assert socket.gethostname().lower() in own_names() and all(name == name.lower() for name in own_names())


def certificate(folder: Path) -> None:
    """A certificate for this machine, as an owner has one."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(7).not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(*private))
