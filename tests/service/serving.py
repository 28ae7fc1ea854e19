"""A real service for tests: a process of its own, or an application in a thread over any backend."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from maas_magics.api.backend import Backend
from maas_magics.api.errors import MaasError
from maas_magics.api.events import FINAL_STATES
from maas_magics.local.backend import LocalBackend
from maas_magics.local.job import LocalJob
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client
from maas_magics.service.app import create_app
from maas_magics.service.settings import Settings
from maas_magics.service.transport import configure

T = TypeVar("T")

LIMIT = 600.0
"""Seconds after which a test gives up what has not come: it says that something hangs, not that it is slow."""


def wait_for(look: Callable[[], T]) -> T:
    """What ``look`` finds, as soon as it finds something."""
    until = time.monotonic() + LIMIT
    while not (found := look()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)
    return found


def halt(pid: int, store: Path) -> None:
    """Have a worker stand still, but not while it writes into the journal, where everybody would wait for it."""
    journal = sqlite3.connect(store / "jobs.sqlite", timeout=LIMIT, isolation_level=None)
    try:
        journal.execute("BEGIN IMMEDIATE")
        with suppress(ProcessLookupError):  # it may have ended meanwhile
            os.kill(pid, signal.SIGSTOP)
        stat = Path(f"/proc/{pid}/stat")
        wait_for(lambda: not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "TZX")
    finally:
        journal.close()


class Service:
    """A service in a process of its own.

    Parameters
    ----------
    folder : Path
        Holds its store, token and log.
    options : sequence of str
        Further words of the command line.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.token = secrets.token_urlsafe(32)
        self._token_file = folder / "token"
        folder.mkdir(parents=True, exist_ok=True)
        self._token_file.write_text(self.token)
        self._token_file.chmod(0o600)
        self._options: Sequence[str] = options
        self.port = 0
        self.start()

    def start(self) -> None:
        """Run it, on the port that it had before."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "maas_magics.service", "--store", str(self.store), "--port", str(self.port)]
            + ["--token-file", str(self._token_file), "--access-log", str(self.folder / "access.log"), *self._options],
            stdout=subprocess.PIPE,
            stderr=open(self.folder / "stderr.log", "ab"),  # noqa: SIM115
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("Serving at "), (self.folder / "stderr.log").read_text()
        self.url = line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])

    def client(self, certificate: str | None = None) -> Client:
        """Somebody who knows the token."""
        return Client(self.url, lambda: self.token, certificate)

    @property
    def headers(self) -> dict[str, str]:
        """Header of a request that is let in."""
        return {"authorization": f"Bearer {self.token}"}

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as it should end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        if self.process.stdout is not None:
            self.process.stdout.close()


def end_jobs(backend: LocalBackend) -> None:
    """End what a test that failed left behind: every other training of this process would wait for it."""
    for info in backend.jobs():
        job = backend.job(info.id)
        if isinstance(job, LocalJob) and info.state not in FINAL_STATES:
            job.stop()
            job.stop()
            with suppress(MaasError):
                job.result(LIMIT)


class Address(str):
    """URL of an application in this process."""

    server: Any

    def until_all_have_gone(self) -> None:
        """Wait until the server knows that nobody is connected."""
        wait_for(lambda: not self.server.server_state.connections)

    def until_it_ends(self) -> None:
        """Wait until the server takes nobody in any more."""
        wait_for(lambda: not any(listening.is_serving() for listening in self.server.servers))


@contextmanager
def in_thread(backend: Backend, settings: Settings | None = None) -> Iterator[Address]:
    """URL of an application in this process."""
    app = create_app(backend, settings)
    server: Any = uvicorn.Server(configure(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    address = Address(f"http://127.0.0.1:{port}")
    address.server = server
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join(LIMIT)
        if type(backend) is LocalBackend:
            end_jobs(backend)


@contextmanager
def remote(url: str, token: str = "") -> Iterator[RemoteBackend]:
    """A backend that speaks to a service."""
    made = RemoteBackend(Client(url, lambda: token))
    try:
        yield made
    finally:
        made.close()


def spoken(url: str, *sent: bytes, pause: float = 0.0) -> bytes:
    """What a service says until it hangs up."""
    host, _, port = url.partition("://")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        told = b""
        try:
            for part in sent:
                connection.sendall(part)
                time.sleep(pause)
            while part := connection.recv(65536):
                told += part
        except ConnectionError:
            pass
        return told
