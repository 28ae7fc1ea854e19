"""Trainings of this process, one after another, in a thread that is there for all of it.

A thread that ended would take with it what torch keeps for it; one that waits here holds no backend, and no model.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import cache

_WAITING: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()


def in_turn(run: Callable[[], None]) -> None:
    """Call something behind what waits already.

    Parameters
    ----------
    run : callable
        It must not raise.
    """
    _WAITING.put(run)
    _begun()


@cache
def _begun() -> threading.Thread:
    thread = threading.Thread(target=_work, name="maas-magics-worker", daemon=True)
    thread.start()
    return thread


def _work() -> None:
    while True:
        run = _WAITING.get()
        run()
        del run  # while this waits for the next, no one is to hold the rows of the last
