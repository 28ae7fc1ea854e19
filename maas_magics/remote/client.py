"""HTTP to one service: its address, its token, retries of what may be repeated, and its errors as ours."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from maas_magics.api.errors import MaasError, ServiceError
from maas_magics.api.wire import decode_error

PATIENCE = 20.0
"""Seconds for which a service that went away is tried again."""

TIMEOUT = httpx2.Timeout(60.0, connect=5.0)

TO_LOAD = httpx2.Timeout(600.0, connect=5.0)
"""For a model that is loaded: its ONNX export may have to be made first."""


class Client:
    """Speaks to one service.

    Parameters
    ----------
    url : str
        ``http://host:port`` or ``https://host:port``, with the prefix of a proxy if there is one.
    token : callable
        Gives the token, or an empty text, each time it is needed, so that no object holds it for long.
    certificate : str, optional
        File with the certificate that a service of one's own is known by.
    awaited : callable, optional
        Whether a service that is not there may come back; one that was stopped is not waited for.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        certificate: str | None = None,
        awaited: Callable[[], bool] = lambda: True,
    ) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._awaited = awaited
        verify: Any = ssl.create_default_context(cafile=certificate) if certificate else True
        plain = {"accept-encoding": "identity"}
        self._http = httpx2.Client(timeout=TIMEOUT, verify=verify, trust_env=not _loopback(url), headers=plain)

    def __repr__(self) -> str:
        return f"<Client {self.url}>"

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, Any] | None = None,
        patience: float = PATIENCE,
        repeat: bool = True,
        timeout: httpx2.Timeout = TIMEOUT,
    ) -> httpx2.Response:
        """A whole answer. A service that went away is tried again for a while.

        Parameters
        ----------
        method, path, content, headers, params
        patience : float
            Seconds for which it is tried again.
        repeat : bool
            Whether the request may reach the service twice; else it is repeated only if it did not reach it.
        timeout : httpx2.Timeout
            Seconds that it may take to answer.

        Raises
        ------
        MaasError
            What the service answered, as the same class with the same text.
        ServiceError
            If it cannot be reached.
        """
        return self._tried(
            lambda: self._http.request(
                method,
                self.url + path,
                content=content,
                headers=self._headers(headers),
                params=params,
                timeout=timeout,
            ),
            patience,
            repeat,
        )

    def open(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, Any] | None = None,
        patience: float = PATIENCE,
        repeat: bool = True,
        allowed: Collection[int] = (),
        timeout: httpx2.Timeout = TIMEOUT,
    ) -> httpx2.Response:
        """An answer that comes bit by bit, which the caller closes; parameters and errors as for `request`.

        Statuses of ``allowed`` are no errors.
        """

        def begun() -> httpx2.Response:
            asked = self._http.build_request(
                method,
                self.url + path,
                content=content,
                headers=self._headers(headers),
                params=params,
                timeout=timeout,
            )
            answer = self._http.send(asked, stream=True)
            if answer.status_code >= 400:
                answer.read()
            return answer

        return self._tried(begun, patience, repeat, allowed)

    def _tried(
        self, ask: Callable[[], httpx2.Response], patience: float, repeat: bool, allowed: Collection[int] = ()
    ) -> httpx2.Response:
        """What a service answers, that went away and may come again within ``patience`` seconds."""
        until = time.monotonic() + patience
        pause = 0.1
        while True:
            try:
                answer = ask()
            except httpx2.TransportError as error:
                lost = repeat or isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout))
                if not lost or time.monotonic() + pause > until or not self._awaited():
                    raise self._gone(error) from None
            else:
                if answer.status_code not in (429, 503) or time.monotonic() + pause > until:
                    return answer if answer.status_code in allowed else self._checked(answer)
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    @contextmanager
    def stream(self, path: str, headers: dict[str, str], params: dict[str, Any]) -> Iterator[httpx2.Response]:
        """An answer that comes bit by bit; raises `httpx2.TransportError` when it breaks."""
        timeout = httpx2.Timeout(60.0, connect=5.0)
        try:
            with self._http.stream(
                "GET", self.url + path, headers=self._headers(headers), params=params, timeout=timeout
            ) as answer:
                if answer.status_code != 200:
                    answer.read()
                    self._checked(answer)
                yield answer
        except httpx2.TransportError as error:
            if self._awaited():
                raise
            raise self._gone(error) from None

    def _headers(self, headers: dict[str, str] | None) -> dict[str, str]:
        token = self._token()
        return {**({"authorization": f"Bearer {token}"} if token else {}), **(headers or {})}

    def _checked(self, answer: httpx2.Response) -> httpx2.Response:
        if answer.status_code < 400:
            return answer
        error = decode_error(answer.content, f"{self.url} answered {answer.status_code}.")
        if answer.status_code == 401:
            error = type(error)(
                error.message,
                "Set the environment variable MAAS_TOKEN before the kernel starts, or %connect URL --token-file FILE.",
            )
        raise error

    def _gone(self, error: Exception) -> MaasError:
        if isinstance(error, httpx2.ConnectError) and "certificate" in str(error).lower():
            return ServiceError(
                f"The certificate of {self.url} is not trusted: {error}", "%connect URL --certificate FILE"
            )
        return ServiceError(
            f"{self.url} does not answer ({type(error).__name__}).", "Is it running? %connect local starts one."
        )


def _loopback(url: str) -> bool:
    return httpx2.URL(url).host in ("127.0.0.1", "localhost", "::1")
