"""What torch keeps for the whole process while it traces a graph or trains: its random numbers, its modes, its loggers.

A training draws from the process's random numbers, and tracing a graph puts them back to where they were
when it began. So one lock is shared: a training holds it from its seed on, and yields it between two steps to any that
traces.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from maas_magics.core.compat.loggers import TRACING

_lock = threading.RLock()
_waiting = 0
_count = threading.Lock()


@contextmanager
def training_lock() -> Iterator[None]:
    """Hold the lock for a training, but for `yield_lock`."""
    with _lock:
        yield


@contextmanager
def tracing_lock() -> Iterator[None]:
    """Hold the lock; a training in this thread may do so too, since it draws nothing meanwhile."""
    global _waiting
    with _count:
        _waiting += 1
    try:
        with _lock:
            yield
    finally:
        with _count:
            _waiting -= 1


def tracing_waits() -> bool:
    """Whether another thread waits to trace; cheap enough for every step."""
    return _waiting > 0


def yield_lock() -> None:
    """Let those who wait trace; called in the thread that holds the lock once, between two steps."""
    _lock.release()
    try:
        while _waiting:
            time.sleep(0.002)
    finally:
        _lock.acquire()


@contextmanager
def suppress_torch_logging() -> Iterator[None]:
    """No warnings, and no log of how torch's exporters work inside or what they find wrong: their error says enough."""
    loggers = [logging.getLogger(name) for name in TRACING]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
