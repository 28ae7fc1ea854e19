"""What every answer has, whichever way it takes: its headers, its error, and its line in the log."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence

from starlette.exceptions import HTTPException

from maas_magics.api.errors import MaasError
from maas_magics.api.wire import encode_error
from maas_magics.service.coding import Bytes, packed
from maas_magics.service.gate import Gate, Visit, retry_after, status_of
from maas_magics.service.log import AccessLog, Entry
from maas_magics.service.messages import BINARY, JSON, READABLE, Headers
from maas_magics.service.metrics import ServiceMetrics
from maas_magics.service.openai.errors import in_their_form

_WORDS = {404: "There is nothing at this path.", 405: "The method is not for this path."}


class Answers:
    """Errors, headers and records of answers.

    Parameters
    ----------
    gate : Gate
    metrics : ServiceMetrics
    log : AccessLog
    """

    def __init__(self, gate: Gate, metrics: ServiceMetrics, log: AccessLog) -> None:
        self._gate = gate
        self._metrics = metrics
        self._log = log

    def own(self, visit: Visit) -> Headers:
        """Headers of the service's own."""
        own = [(b"x-request-id", visit.id.encode())]
        head = visit.head
        if head.origin and self._gate.welcomes(head):
            own += [(b"access-control-allow-origin", head.origin), (b"vary", b"origin"), READABLE]
        return own

    def whole(self, visit: Visit, parts: Sequence[Bytes], header: int | None) -> tuple[int, Headers, list[Bytes]]:
        """Status, headers and body of an answer to a request for inference, packed where its client likes that."""
        body, coding = packed(parts, visit.head.accept)
        headers = [JSON] if header is None else [BINARY, (b"inference-header-content-length", b"%d" % header)]
        if coding:
            headers += [(b"content-encoding", coding), (b"vary", b"accept-encoding")]
        return 200, headers, body

    def refused(self, visit: Visit, error: Exception) -> tuple[int, Headers, list[Bytes]]:
        """The same of an error."""
        status, headers, body = self.refusal(visit, error)
        return status, headers, [body]

    def refusal(self, visit: Visit, error: Exception) -> tuple[int, Headers, bytes]:
        """Status, headers and body of an error; of one not raised on purpose nothing but where to look."""
        headers: Headers = [JSON]
        if isinstance(error, HTTPException):
            status = error.status_code
            headers += [(name.encode(), value.encode()) for name, value in (error.headers or {}).items()]
            error = MaasError(_WORDS.get(status, str(error.detail)[:200]))
        else:
            status = status_of(error)
            headers += retry_after(status, error)
        if status == 500:
            print_error(visit, error)
            error = MaasError("The service failed.", f"Its owner finds why under {visit.id}.")
        elif status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if visit.openai and isinstance(error, MaasError):
            return status, headers, in_their_form(status, error)
        return status, headers, encode_error(error)

    def record(self, visit: Visit, route: str, method: str, path: str, status: int) -> None:
        """Count a request that was answered, and log it."""
        seconds = time.perf_counter() - visit.began
        self._metrics.request(route, status, seconds)
        if self._log.is_open:
            ms = int(seconds * 1e6) / 1000
            self._log.write(
                Entry(time.time(), visit.id, visit.head.client, method, path[:200], status, ms, visit.model)
            )


def print_error(visit: Visit, error: Exception) -> None:
    """Notify the service's owner."""
    print(f"Request {visit.id}:", file=sys.stderr)
    traceback.print_exception(error, file=sys.stderr)
