"""What every request passes: where it is for, who sends it, how often, and how much."""

from __future__ import annotations

import ipaddress
import itertools
import re
import secrets
import time

from maas_magics.api.errors import (
    GenerationEnded,
    MaasError,
    ModelClosed,
    NotFound,
    Refused,
    StoreError,
)
from maas_magics.service.budget import Budget, Overloaded, TooLarge
from maas_magics.service.coding import Bytes, unpacked
from maas_magics.service.oip import Unsupported
from maas_magics.service.settings import Settings

SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")

MOST_HOSTS = 100
"""``Host`` headers that are remembered as good."""

HEALTH = frozenset({"/v2/health/live", "/v2/health/ready"})
"""Paths that answer under any ``Host``: probes send the address that they found."""

OPEN = HEALTH | {"/openapi.json"}
"""Paths that anyone may get."""

OWN = "/maas"
"""Prefix of what is not part of the Open Inference Protocol."""


class Unknown(Refused):
    """A request without a token that is known."""


class Impatient(Refused):
    """More requests, or tokens of texts, than the token may have.

    Parameters
    ----------
    message, hint : str
        As of any error.
    seconds : int
        After which it may try again.
    """

    def __init__(self, message: str, hint: str = "", seconds: int = 1) -> None:
        super().__init__(message, hint)
        self.seconds = seconds


_STATUS: tuple[tuple[type[BaseException], int], ...] = (
    (Unsupported, 501),
    (TooLarge, 413),
    (Unknown, 401),
    (Impatient, 429),
    (Refused, 403),
    (Overloaded, 503),
    (ModelClosed, 503),
    (GenerationEnded, 503),
    (NotFound, 404),
    (StoreError, 507),
    (MaasError, 400),
)


def status_of(error: BaseException) -> int:
    """HTTP status of an error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def scope_for(method: str, path: str) -> str:
    """Scope that a request needs; empty for none."""
    if path in OPEN and method in ("GET", "HEAD"):
        return ""
    if path.startswith((f"{OWN}/v1/jobs", f"{OWN}/v1/data")):
        return "train"
    if path.startswith(f"{OWN}/v1/models") and (method in ("PUT", "DELETE")):
        return "train"
    if path.startswith("/v2/repository/models/"):
        return "admin"
    return "predict"


def limits_for(path: str) -> tuple[int, int]:
    """Bytes that a body for a path may have, 0 for as many as any; and what each becomes when it is read."""
    if path.endswith("/predict") or f"{OWN}/v1/data" in path:
        return 0, 1
    if path.endswith(f"{OWN}/v1/jobs"):
        return 0, 8
    return 2**20, 16


class Head:
    """What the head of a request says; that of the next request may be the same.

    Attributes
    ----------
    length : int
        Bytes that its body announces; −1 if it does not say.
    coding, accept : bytes
        ``Content-Encoding`` and ``Accept-Encoding``.
    header : bytes or None
        Bytes of JSON before tensors in binary.
    file : bool
        Whether the body is a picture or a sound, by its ``Content-Type``.
    host, token : bytes
    origin : bytes
        Of the web page that sends it.
    asks : bytes
        Method that a web page wants to use, in a preflight request.
    id : str
        The client's own for this request, where it is sane.
    path, model : str
        Where it goes, and the model; filled in by the code that knows them.
    client : str
        Name of its token.
    passed : object
        What it was let in for.
    """

    __slots__ = (
        "accept", "asks", "client", "coding", "file", "header", "host", "id", "length", "model", "origin", "passed",
        "path", "token",
    )  # fmt: skip

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.id = self.client = self.path = self.model = ""
        self.passed: object = None
        self.length = -1
        self.accept = self.asks = self.coding = self.host = self.origin = self.token = b""
        self.header: bytes | None = None
        self.file = False
        for name, value in headers:
            if name == b"host":
                self.host = value
            elif name == b"authorization":
                self.token = value
            elif name == b"content-length":
                self.length = int(value) if value.isdigit() and len(value) < 16 else -1
            elif name == b"content-encoding":
                self.coding = value.lower()
            elif name == b"accept-encoding":
                self.accept = value
            elif name == b"inference-header-content-length":
                self.header = value
            elif name == b"content-type":
                self.file = value[:6].lower() in (b"image/", b"audio/")
            elif name == b"origin":
                self.origin = value
            elif name == b"access-control-request-method":
                self.asks = value
            elif name == b"x-request-id":
                told = value.decode("latin-1")
                self.id = told if SANE.fullmatch(told) else ""


class Visit:
    """One request.

    Attributes
    ----------
    head : Head
    id : str
    model : str
        ``name:version`` that answered.
    began : float
        When its head came.
    held : int
        Bytes of memory that it was given.
    openai : bool
        Whether its client reads answers in the form of OpenAI's API.
    """

    __slots__ = ("began", "head", "held", "id", "model", "openai")

    def __init__(self, head: Head, id: str) -> None:
        self.began = time.perf_counter()
        self.head = head
        self.id = id
        self.model = ""
        self.held = 0
        self.openai = False


class Gate:
    """Lets a request in, or raises why not; and gives it the memory that it takes.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tokens = settings.tokens
        self.body_limit = settings.body_limit
        self.budget = Budget(settings.request_memory)
        self._hosts = {host.encode().lower() for host in settings.hosts}
        self._any_host = b"*" in self._hosts
        self._met: set[bytes] = set()
        self._origins = {origin.encode() for origin in settings.origins}
        self._ids = itertools.count(1)
        self._prefix = secrets.token_hex(4) + "-"
        self._buckets: dict[str, list[float]] = {}

    def visit(self, head: Head) -> Visit:
        """A request with a head."""
        return Visit(head, head.id or f"{self._prefix}{next(self._ids):x}")

    def enter(self, visit: Visit, scope: str, path: str = "") -> None:
        """Check where it is for, who sends it, how often, and how much.

        Parameters
        ----------
        visit : Visit
        scope : str
            What it needs; see `scope_for`.
        path : str
            Names where health is served.

        Raises
        ------
        MaasError
        """
        head = visit.head
        passed = scope, self._tokens.version if self._tokens is not None else 0
        if head.passed != passed:
            self._check(head, scope, path)
            head.passed = passed
        if scope and self._settings.rate:
            self._count(head.client)

    def _check(self, head: Head, scope: str, path: str) -> None:
        """Check all that stays the same as long as a head does, and the tokens."""
        if not (self._any_host or head.host in self._met or (not scope and path in HEALTH)):
            self._check_host(head.host)
        if head.origin and not self.welcomes(head):
            raise Refused("This service does not answer web pages of that origin.", "--allow-origin ORIGIN")
        if not scope:
            return
        if self._tokens is not None:
            client = self._tokens.find(head.token[7:].strip()) if head.token[:7].lower() == b"bearer " else None
            if client is None:
                raise Unknown(
                    "The token is not known here." if head.token else "A token is needed.",
                    "Send it: Authorization: Bearer TOKEN",
                )
            head.client = client.name
            if scope not in client.scopes:
                raise Refused(f"The token {client.name!r} lacks the scope {scope!r}.", "Its owner can grant it.")
        if head.length > self.body_limit:
            raise self.too_large()

    def hold(self, visit: Visit, size: int) -> None:
        """Give a request memory.

        Raises
        ------
        TooLarge, Overloaded
        """
        self.budget.take(size, visit.held)
        visit.held += size

    def release(self, visit: Visit) -> None:
        """Take back the memory of a request."""
        if visit.held:
            size, visit.held = visit.held, 0
            self.budget.give(size)

    def welcomes(self, head: Head) -> bool:
        """Whether pages of the request's origin may read the answer."""
        return bool(self._origins & {head.origin, b"*"})

    def _check_host(self, host: bytes) -> None:
        name = _name(host)
        if name not in self._hosts and not (self._settings.addresses and _is_address(name)):
            shown = name[:80].decode("latin-1")
            raise Refused(
                f"This service does not answer to the host name {shown!r}.",
                f"Its owner may start it with --allow-host {shown if SANE.fullmatch(shown) else 'NAME'}",
            )
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

    def plain(self, visit: Visit, body: Bytes) -> Bytes:
        """A body as it was before it was compressed.

        Raises
        ------
        DataError
            If it cannot be decompressed, or becomes too large.
        """
        try:
            return unpacked(body, visit.head.coding, self.body_limit, lambda size: self.hold(visit, size))
        except OverflowError:
            raise self.too_large() from None


def _is_address(name: bytes) -> bool:
    """Whether a host is an IP address: no name that someone else could make lead here."""
    try:
        ipaddress.ip_address(name.decode("latin-1").partition("%")[0])
    except ValueError:
        return False
    return True


def _name(host: bytes) -> bytes:
    """A ``Host`` header without its port."""
    if host.startswith(b"["):
        return host[1:].partition(b"]")[0].lower()
    return host.partition(b":")[0].lower()


def retry_after(status: int, error: BaseException) -> list[tuple[bytes, bytes]]:
    """Header that says when to try again."""
    return [(b"retry-after", b"%d" % getattr(error, "seconds", 1))] if status in (429, 503) else []
