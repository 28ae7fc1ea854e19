"""Whose turn it is with what torch keeps for the whole process: its random numbers, its tracing modes.

A training draws from the process's random numbers, and tracing a graph puts them back to where they were
when it began. So the two take turns: a training holds the turn from its seed on, and gives way between two
steps to whoever traces.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_turn = threading.RLock()
_waiting = 0
_count = threading.Lock()


@contextmanager
def training() -> Iterator[None]:
    """Hold the turn, but for `give_way`."""
    with _turn:
        yield


@contextmanager
def tracing() -> Iterator[None]:
    """Hold the turn; a training in this thread may do so too, since it draws nothing meanwhile."""
    global _waiting
    with _count:
        _waiting += 1
    try:
        with _turn:
            yield
    finally:
        with _count:
            _waiting -= 1


def wanted() -> bool:
    """Whether somebody waits to trace; cheap enough for every step."""
    return _waiting > 0


def give_way() -> None:
    """Let those who wait trace; called in the thread that holds the turn once, between two steps."""
    _turn.release()
    try:
        while _waiting:
            time.sleep(0.002)
    finally:
        _turn.acquire()
