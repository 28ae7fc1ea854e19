"""What requests may hold in memory, all together: taken before it is made, given back when the answer went out."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

from maas_magics.api.errors import DataError, MaasError

MOST_ROWS = 2**20
"""Rows of one request."""

SWEEP = 32 * 2**20
"""Bytes of a request after which free memory goes back to the system."""

Hold = Callable[[int], None]
"""Takes so many bytes more for a request, or raises."""


class TooLarge(DataError):
    """A body, or what becomes of it, beyond the limit."""


class Overloaded(MaasError):
    """More requests at a time than may be."""


class Budget:
    """Bytes that requests hold; used from several threads.

    Parameters
    ----------
    most : int
        Bytes that they may hold at a time.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._lock = threading.Lock()

    def take(self, size: int, had: int = 0) -> None:
        """Count bytes that are about to be made, for a request that has some already.

        Raises
        ------
        TooLarge
            If the request would not fit if it were alone.
        Overloaded
            If it does not fit now.
        """
        with self._lock:
            if self.held + size <= self.most:
                self.held += size
                return
        if had + size > self.most:
            raise TooLarge(
                f"The request would take {(had + size) / 2**20:,.0f} MB; {self.most / 2**20:,.0f} MB are for all.",
                "Send fewer rows at a time.",
            )
        raise Overloaded("The service has not enough memory for this now.", "Try again in a second.")

    def give(self, size: int) -> None:
        """Count bytes that are no longer held."""
        with self._lock:
            self.held -= size
        if size >= SWEEP:
            _sweep()


def check_rows(rows: int) -> None:
    """Check that a request does not have more rows than one may have.

    Raises
    ------
    TooLarge
    """
    if rows > MOST_ROWS:
        raise TooLarge(f"The request has {rows:,} rows; one may have {MOST_ROWS:,}.", "Send fewer rows at a time.")


def _of_libc(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):  # other systems give memory back by themselves
        return None


_malloc_trim = _of_libc("malloc_trim")

_MMAP_THRESHOLD = -3


def give_back_at_once() -> None:
    """Have large blocks go back to the system when they are free; glibc keeps ever larger ones by itself."""
    if (mallopt := _of_libc("mallopt")) is not None:
        mallopt(_MMAP_THRESHOLD, 2**20)


def _sweep() -> None:
    """Give free memory back to the system, which glibc keeps for threads that may never want it."""
    if _malloc_trim is not None:
        threading.Thread(target=_malloc_trim, args=(0,), name="maas-magics-sweep", daemon=True).start()
