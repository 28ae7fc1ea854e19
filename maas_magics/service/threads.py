"""Threads beside the event loop: some for inference, others for everything else.

They end with the process, whatever they do then: neither a signal nor the interpreter waits for one that hangs.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

FOR_ROWS = 4
"""Threads that read, run and answer large requests."""

FOR_CONTROL = 8
"""Threads for models, jobs and metrics."""


class Threads(ThreadPoolExecutor):
    """Runs calls in threads that no one waits for.

    Parameters
    ----------
    name : str
    count : int
        Threads at most.
    """

    def __init__(self, name: str, count: int) -> None:
        super().__init__(count, thread_name_prefix=name)
        self._name, self._most = name, count
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._begun = 0
        self._idle = 0
        self._guard = threading.Lock()

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have a call run."""
        future: Future[R] = Future()
        self._calls.put((future, partial(fn, *args, **kwargs)))
        with self._guard:
            more = self._idle <= 0 and self._begun < self._most
            if more:
                self._begun += 1
            else:
                self._idle -= 1
        if more:
            threading.Thread(target=self._work, name=f"{self._name}-{self._begun}", daemon=True).start()
        return future

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            del item
            if future.set_running_or_notify_cancel():
                try:
                    found = call()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(found)
                    del found
            del future, call
            with self._guard:
                self._idle += 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End threads that have nothing to do; no one waits for the others."""
        for _ in range(self._begun):
            self._calls.put(None)


class RowThreads:
    """Where large requests are read, run and answered."""

    def __init__(self) -> None:
        self._threads = Threads("maas-magics-rows", FOR_ROWS)

    async def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """What a call gives, made in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(fn, *args, **kwargs))

    def close(self) -> None:
        """End threads that have nothing to do."""
        self._threads.shutdown()
