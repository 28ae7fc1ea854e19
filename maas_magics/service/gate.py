"""What every request passes: where it is for, who sends it, how often, and how much."""

from __future__ import annotations

import itertools
import re
import secrets
import time
import zlib

from maas_magics.api.errors import (
    DataError,
    MaasError,
    ModelClosed,
    NotFound,
    Refused,
    StoreError,
)
from maas_magics.service.batcher import Overloaded
from maas_magics.service.oip import Unsupported
from maas_magics.service.settings import Settings

SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")

MOST_HOSTS = 100
"""``Host`` headers that are remembered as good."""

OPEN = frozenset({"/v2/health/live", "/v2/health/ready", "/openapi.json"})
"""Paths that anybody may get."""


class TooLarge(DataError):
    """A body beyond the limit."""


class Unknown(Refused):
    """A request without a token that is known."""


class Impatient(Refused):
    """More requests than the token may send."""


_STATUS: tuple[tuple[type[BaseException], int], ...] = (
    (Unsupported, 501),
    (TooLarge, 413),
    (Unknown, 401),
    (Impatient, 429),
    (Refused, 403),
    (Overloaded, 503),
    (ModelClosed, 503),
    (NotFound, 404),
    (StoreError, 507),
    (MaasError, 400),
)


def status_of(error: BaseException) -> int:
    """HTTP status that tells an error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def scope_for(method: str, path: str) -> str:
    """Scope that a request needs; empty for none."""
    if path in OPEN and method in ("GET", "HEAD"):
        return ""
    if path.startswith(("/v1/jobs", "/v1/data")):
        return "train"
    if path.startswith("/v1/models") and (method in ("PUT", "DELETE")):
        return "train"
    if path.startswith("/v2/repository/models/"):
        return "admin"
    return "predict"


class Visit:
    """One request, as far as its head tells.

    Attributes
    ----------
    id : str
        The client's own where it is sane.
    client : str
        Name of its token.
    length : int
        Bytes that its body announces; −1 if it does not say.
    coding : bytes
        ``Content-Encoding``.
    header : bytes or None
        Bytes of JSON before tensors in binary.
    origin : bytes
        Of the web page that sends it.
    asks : bytes
        Method that a web page asks whether it may use.
    model : str
        ``name:version`` that answered.
    began : float
        When its head came.
    """

    __slots__ = (
        "asks", "began", "client", "coding", "header", "host", "id", "length", "model", "origin",
        "token",
    )  # fmt: skip

    def __init__(self, headers: list[tuple[bytes, bytes]], ids: itertools.count[int], prefix: str) -> None:
        self.began = time.perf_counter()
        self.id = self.client = self.model = ""
        self.length = -1
        self.asks = self.coding = self.host = self.origin = self.token = b""
        self.header: bytes | None = None
        for name, value in headers:
            if name == b"host":
                self.host = value
            elif name == b"authorization":
                self.token = value
            elif name == b"content-length":
                self.length = int(value) if value.isdigit() and len(value) < 16 else -1
            elif name == b"content-encoding":
                self.coding = value.lower()
            elif name == b"inference-header-content-length":
                self.header = value
            elif name == b"origin":
                self.origin = value
            elif name == b"access-control-request-method":
                self.asks = value
            elif name == b"x-request-id":
                told = value.decode("latin-1")
                self.id = told if SANE.fullmatch(told) else ""
        self.id = self.id or f"{prefix}{next(ids):x}"


class Gate:
    """Lets a request in, or raises why not.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.body_limit = settings.body_limit
        self._hosts = {host.encode().lower() for host in settings.hosts}
        self._any_host = b"*" in self._hosts
        self._met: set[bytes] = set()
        self._origins = {origin.encode() for origin in settings.origins}
        self._ids = itertools.count(1)
        self._prefix = secrets.token_hex(4) + "-"
        self._buckets: dict[str, list[float]] = {}

    def visit(self, headers: list[tuple[bytes, bytes]]) -> Visit:
        """Read a request's head."""
        return Visit(headers, self._ids, self._prefix)

    def enter(self, visit: Visit, scope: str) -> None:
        """Check where it is for, who sends it, and how often.

        Parameters
        ----------
        visit : Visit
        scope : str
            What it needs; see `scope_for`.

        Raises
        ------
        Refused
        """
        if not (self._any_host or visit.host in self._met):
            self._check_host(visit.host)
        if visit.origin and not self.welcomes(visit):
            raise Refused("This service does not answer web pages of that origin.", "--allow-origin ORIGIN")
        if not scope:
            return
        tokens = self._settings.tokens
        if tokens is not None:
            client = tokens.find(visit.token[7:].strip()) if visit.token[:7].lower() == b"bearer " else None
            if client is None:
                raise Unknown(
                    "The token is not known here." if visit.token else "A token is needed.",
                    "Send it: Authorization: Bearer TOKEN",
                )
            visit.client = client.name
            if scope not in client.scopes:
                raise Refused(f"The token {client.name!r} lacks the scope {scope!r}.", "Ask the service's owner.")
        if self._settings.rate:
            self._count(visit.client)
        if visit.length > self.body_limit:
            raise self.too_large()

    def welcomes(self, visit: Visit) -> bool:
        """Whether pages of the request's origin may read the answer."""
        return bool(self._origins & {visit.origin, b"*"})

    def _check_host(self, host: bytes) -> None:
        if _name(host) not in self._hosts:
            raise Refused("This service does not answer to that host name.", "Its owner may use --allow-host.")
        if len(self._met) < MOST_HOSTS:
            self._met.add(host)

    def too_large(self) -> TooLarge:
        """Error of a body beyond the limit."""
        return TooLarge(f"The body is larger than {self.body_limit:,} bytes.", "Send fewer rows at a time.")

    def _count(self, client: str) -> None:
        """A bucket of one second's requests for each client."""
        now, rate = time.monotonic(), self._settings.rate
        most = max(rate, 1.0)
        bucket = self._buckets.setdefault(client, [most, now])
        bucket[0] = min(most, bucket[0] + (now - bucket[1]) * rate)
        bucket[1] = now
        if bucket[0] < 1.0:
            raise Impatient(f"More than {rate:g} requests a second.", "Wait a second.")
        bucket[0] -= 1.0

    def plain(self, visit: Visit, body: bytes) -> bytes:
        """A body as it was before it was compressed.

        Raises
        ------
        DataError
            If it cannot be decompressed, or becomes too large.
        """
        if visit.coding in (b"", b"identity"):
            return body
        if visit.coding not in (b"gzip", b"x-gzip", b"deflate"):
            raise DataError(f"Bodies in {visit.coding[:40].decode('latin-1')!r} are not read.", "gzip or deflate")
        limit = self.body_limit
        kinds = (31,) if visit.coding != b"deflate" else (15, -15)  # some send deflate without zlib's frame
        for bits in kinds:
            inflate = zlib.decompressobj(bits)
            try:
                found = inflate.decompress(body, limit + 1)
            except zlib.error:
                continue
            if len(found) > limit:
                raise self.too_large()
            if inflate.eof and not inflate.unused_data:
                return found
        raise DataError("The compressed body cannot be read.")


def _name(host: bytes) -> bytes:
    """A ``Host`` header without its port."""
    if host.startswith(b"["):
        return host[1:].partition(b"]")[0].lower()
    return host.partition(b":")[0].lower()


def retry_after(status: int) -> list[tuple[bytes, bytes]]:
    """Header that tells when to come again."""
    return [(b"retry-after", b"1")] if status in (429, 503) else []
