"""Finding a service: one on this machine, started if there is none, or one by its address; and the token for it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from maas_magics.api import private
from maas_magics.api.child import python
from maas_magics.api.errors import MaasError, OptionError, ServiceError
from maas_magics.api.secrets import read_token
from maas_magics.remote.client import Client

READY = "service.json"
"""File in a store's working folder in which the service of this machine writes its address."""

TOKEN = "service.token"
"""File beside it that holds the token for it, readable by its owner alone."""

LOG = "service.log"

START = 30.0
"""Seconds that a service gets to start."""


class RunningService(msgspec.Struct, frozen=True):
    """A service of this machine.

    Attributes
    ----------
    url : str
    pid : int
    require_signed : str
        File of the public keys that sign what it may open; empty where it opens anything.
    """

    url: str
    pid: int
    require_signed: str = ""


def start_local(place: str, work: Path, require_signed: str = "") -> RunningService:
    """The service of a store on this machine; started, to outlive this process, if there is none.

    Parameters
    ----------
    place : str
        Folder or URL of the store.
    work : Path
        The store's working folder.
    require_signed : str
        File of the public keys that sign what it may open; it opens anything where this is empty.

    Raises
    ------
    ServiceError
        If it does not start, or runs already and may open other models.
    """
    token_file(work)
    lock = work / "service.lock"
    until = time.monotonic() + START
    while True:
        found = find_local(work)
        if found is not None:
            if require_signed and found.require_signed != require_signed:
                raise ServiceError(
                    "The service of this machine runs already, and opens models that these keys have not signed.",
                    "%serve --stop, and connect again.",
                )
            return found
        if _locked(lock):
            break
        if time.monotonic() > until:
            raise ServiceError("Another process has been starting a service for too long.", f"Remove {lock}.")
        time.sleep(0.1)
    try:
        with open(private.file(work / LOG), "ab") as log:
            process = subprocess.Popen(
                python("maas_magics.service", "--store", place, "--port", "0",
                       "--token-file", str(work / TOKEN), "--ready-file", str(work / READY),
                       *(["--require-signed", require_signed] if require_signed else [])),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip
        while time.monotonic() < until:
            found = find_local(work)
            if found is not None:
                return found
            if process.poll() is not None:
                break
            time.sleep(0.05)
        lines = (work / LOG).read_text(errors="replace").strip().splitlines()
        raise ServiceError(
            f"The service did not start: {lines[-1] if lines else 'it wrote nothing'}", f"See {work / LOG}."
        )
    finally:
        lock.unlink(missing_ok=True)


def find_local(work: Path) -> RunningService | None:
    """The service of this machine, if it answers."""
    found = _told(work)
    if found is None:
        return None
    client = Client(found.url, lambda: "")
    try:
        client.request("GET", "/v2/health/live", patience=0.0)
    except MaasError:
        return None
    finally:
        client.close()
    return found


def _told(work: Path) -> RunningService | None:
    """What the service of this machine wrote when it began, unless it took that back."""
    try:
        return msgspec.json.decode((work / READY).read_bytes(), type=RunningService)
    except (OSError, msgspec.MsgspecError):
        return None


def is_meant(work: Path, url: str) -> bool:
    """Whether a service of this machine should be at an address: only a clean stop removes it."""
    found = _told(work)
    return found is not None and found.url == url


def stop_local(work: Path) -> bool:
    """Stop the service of this machine; its jobs keep their state, and continue when it is started again."""
    found = find_local(work)
    if found is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(found.pid, signal.SIGTERM)
    until = time.monotonic() + START
    while time.monotonic() < until and find_local(work) is not None:
        time.sleep(0.05)
    return True


def _locked(lock: Path) -> bool:
    """Whether this process may start a service now."""
    with suppress(FileNotFoundError):
        if time.time() - lock.stat().st_mtime > 2 * START:
            lock.unlink(missing_ok=True)
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def token_file(work: Path) -> Path:
    """File with the token of this machine's service; made when it is missing."""
    file = work / TOKEN
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w") as out:
            out.write(secrets.token_urlsafe(32) + "\n")
    return file


def check_url(url: str) -> str:
    """The address of a service, without anything that does not belong there.

    Raises
    ------
    OptionError
        If it is none, or holds a secret.
    """
    parts = urlsplit(url)
    try:
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise OptionError(f"{url.rpartition('@')[2]!r} is not the address of a service.", "%connect https://host:8000")
    if parts.username is not None or parts.query or parts.fragment:
        raise OptionError(
            "The address of a service holds no token, query or fragment.",
            "Put the token into the environment variable MAAS_TOKEN, or a file: --token-file FILE.",
        )
    if parts.scheme == "http" and not _private(str(parts.hostname)) and os.environ.get("MAAS_INSECURE") != "1":
        raise OptionError(
            f"http://{parts.hostname} would send the token and the data unencrypted.",
            "Use https://, an SSH tunnel, or set MAAS_INSECURE=1 where the network itself is encrypted.",
        )
    return url.rstrip("/")


def _private(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(OSError):
        return socket.gethostbyname(host).startswith("127.") or host == "::1"
    return host == "::1"


def token_for(url: str, file: str | None) -> Callable[[], str]:
    """Where the token for a service comes from: a file, ``MAAS_TOKEN``, or the keyring; read anew each time."""
    if file is not None:
        path = Path(file).expanduser()
        read_token(path)
        return lambda: read_token(path)
    return lambda: os.environ.get("MAAS_TOKEN", "").strip() or _from_keyring(urlsplit(url).netloc)


def _from_keyring(host: str) -> str:
    with suppress(Exception):  # no keyring, a locked one: there is no token then
        import keyring

        return keyring.get_password("maas_magics", host) or ""
    return ""
