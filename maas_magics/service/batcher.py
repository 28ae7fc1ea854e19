"""Dynamic batching: small requests that come at once are asked at once."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from maas_magics.api.backend import Inferred
from maas_magics.api.errors import MaasError

Array = np.ndarray[Any, Any]
Answer = Inferred | Exception


class Overloaded(MaasError):
    """More requests wait than may."""


class Asked:
    """One request on its way."""

    __slots__ = ("future", "inputs", "key", "rows", "since")

    def __init__(self, model: str, inputs: dict[str, Array], future: asyncio.Future[Inferred]) -> None:
        self.inputs = inputs
        self.future = future
        self.rows = len(next(iter(inputs.values()))) if inputs else 0
        self.since = time.perf_counter()
        parts: list[Any] = [model]
        for name, values in inputs.items():
            parts += (name, values.dtype.char, values.shape[1:])
            if len(values) != self.rows:
                parts.append(id(self))  # a mistake; merged with others it could come out right
        self.key = tuple(parts)
        """Requests of equal keys may be merged."""


class Batcher:
    """Takes whatever piled up while the last batch ran, and asks it at once.

    Requests are merged if they ask the same model with inputs of equal names, types and row shapes. A
    merged batch that fails is asked again one by one, so a bad row fails its own request alone.

    Parameters
    ----------
    infer : callable
        From a model and its inputs to `Inferred`; called in one thread.
    max_batch : int
        Most rows of a merged batch.
    max_delay : float
        Seconds that a request may wait for others.
    queue_limit : int
        Most requests that wait.
    observe : callable
        Gets the model's reference, requests, rows, seconds waited (sum over the requests), seconds computed, and
        how many failed, after each batch.
    """

    def __init__(
        self,
        infer: Callable[[str, Mapping[str, Any]], Inferred],
        max_batch: int,
        max_delay: float,
        queue_limit: int,
        observe: Callable[[str, int, int, float, float, int], None],
    ) -> None:
        self._infer = infer
        self._max_batch = max_batch
        self._max_delay = max_delay
        self._limit = queue_limit
        self._observe = observe
        self._queue: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.waiting = 0
        """Requests that have no answer yet."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to answer requests of an event loop."""
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name="maas-magics-batcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after what waits now."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(10)

    def ask(self, model: str, inputs: dict[str, Array]) -> asyncio.Future[Inferred]:
        """Outputs for some rows; called in the event loop's thread.

        Raises
        ------
        Overloaded
        """
        if self.waiting >= self._limit:
            raise Overloaded("The service has too much to do.", "Try again in a second.")
        assert self._loop is not None
        asked = Asked(model, inputs, self._loop.create_future())
        self.waiting += 1
        self._queue.put(asked)
        return asked.future

    def _run(self) -> None:
        groups: dict[tuple[Any, ...], list[Asked]] = {}
        open_ = True
        while open_ or groups:
            if not groups:
                first = self._queue.get()
                if first is None:
                    return
                groups[first.key] = [first]
            open_ = self._drain(groups) and open_
            key = next(iter(groups))
            if self._max_delay:
                open_ = self._linger(groups, key) and open_
            self._answer(self._take(groups, key))

    def _drain(self, groups: dict[tuple[Any, ...], list[Asked]]) -> bool:
        try:
            while True:
                asked = self._queue.get_nowait()
                if asked is None:
                    return False
                groups.setdefault(asked.key, []).append(asked)
        except queue.Empty:
            return True

    def _linger(self, groups: dict[tuple[Any, ...], list[Asked]], key: tuple[Any, ...]) -> bool:
        """Wait for others to join the oldest group, until it is full or its oldest request waited long enough."""
        while sum(asked.rows for asked in groups[key]) < self._max_batch:
            left = groups[key][0].since + self._max_delay - time.perf_counter()
            if left <= 0:
                break
            try:
                asked = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if asked is None:
                return False
            groups.setdefault(asked.key, []).append(asked)
        return True

    def _take(self, groups: dict[tuple[Any, ...], list[Asked]], key: tuple[Any, ...]) -> list[Asked]:
        """The next batch of a group; what is left of it goes behind the others."""
        group = groups.pop(key)
        rows, count = 0, 0
        for asked in group:
            if count and rows + asked.rows > self._max_batch:
                break
            rows, count = rows + asked.rows, count + 1
        if count < len(group):
            groups[key] = group[count:]
        return group[:count]

    def _answer(self, batch: list[Asked]) -> None:
        began = time.perf_counter()
        model = batch[0].key[0]
        answers = self._ask(model, [asked.inputs for asked in batch], [asked.rows for asked in batch])
        ended = time.perf_counter()
        ref = next((answer.model for answer in answers if isinstance(answer, Inferred)), "")
        failed = sum(isinstance(answer, Exception) for answer in answers)
        waited = sum(began - asked.since for asked in batch)
        self._observe(ref, len(batch), sum(asked.rows for asked in batch), waited, ended - began, failed)
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._deliver, batch, answers)
        except RuntimeError:  # the loop is closed, and nobody waits
            return

    def _ask(self, model: str, inputs: list[dict[str, Array]], rows: list[int]) -> list[Answer]:
        try:
            if len(inputs) == 1:
                return [self._infer(model, inputs[0])]
            merged = {name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]}
            found = self._infer(model, merged)
            if any(values.shape[:1] != (sum(rows),) for values in found.outputs.values()):
                raise ValueError("an output that has no row for each row cannot be split")
        except Exception as error:
            if len(inputs) == 1:
                return [error]
            return [self._ask(model, [one], [count])[0] for one, count in zip(inputs, rows, strict=True)]
        answers: list[Answer] = []
        start = 0
        for count in rows:
            stop = start + count
            answers.append(Inferred(found.model, {name: values[start:stop] for name, values in found.outputs.items()}))
            start = stop
        return answers

    def _deliver(self, batch: list[Asked], answers: list[Answer]) -> None:
        self.waiting -= len(batch)
        for asked, answer in zip(batch, answers, strict=True):
            if asked.future.done():  # whoever asked has gone
                continue
            if isinstance(answer, Exception):
                asked.future.set_exception(answer)
            else:
                asked.future.set_result(answer)
