"""Dynamic batching: small requests that arrive together run as one batch."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from maas_magics.api.backend import Inferred
from maas_magics.api.errors import MaasError, ModelClosed, NotFound, StoreError
from maas_magics.service.budget import Overloaded
from maas_magics.service.shares import AnswerShare, Batch, whole

Array = np.ndarray[Any, Any]
Answer = Inferred | AnswerShare | Exception
Key = tuple[Any, ...]

WORKERS = 4
"""Models that run at the same time."""

QUICK = 0.001
"""Seconds up to which a batch is answered by the event loop itself: to hand it to a thread costs more."""

OF_THE_MODEL = (NotFound, ModelClosed, StoreError)
"""Errors that are not a request's own."""

MOST_NAMES = 10_000


class Asker(Protocol):
    """A client that waits for an answer."""

    @property
    def gone(self) -> bool:
        """Whether it waits no more."""

    def deliver(self, answer: Answer) -> None:
        """Take the answer; called in the event loop's thread."""


class Promise(asyncio.Future["Inferred | AnswerShare"]):
    """A future as an asker."""

    gone = property(asyncio.Future.done)

    def deliver(self, answer: Answer) -> None:
        """Take the answer."""
        if self.done():
            return
        if isinstance(answer, Exception):
            self.set_exception(answer)
        else:
            self.set_result(answer)


class PendingRequest:
    """One request on its way."""

    __slots__ = ("asker", "inputs", "key", "rows", "since")

    def __init__(self, model: str, inputs: dict[str, Array], asker: Asker) -> None:
        self.inputs = inputs
        self.asker = asker
        self.since = time.perf_counter()
        key: list[Any] = [model]
        rows = -1
        for name, values in inputs.items():
            key += (name, values.dtype.char, values.shape[1:])
            if rows < 0:
                rows = len(values)
            elif len(values) != rows:
                key.append(id(self))  # a mistake; merged with others it could come out right
        self.rows = rows
        self.key: Key = tuple(key)
        """Requests of equal keys may be merged."""


class Batcher:
    """Takes whatever piled up while a model's last batch ran, and runs it as one batch.

    Requests are merged if they name the same model with inputs of equal names, types and row shapes. A
    merged batch that fails runs again one by one, so a bad row fails its own request alone. A model has
    one batch at a time; several models have a thread each, so one that is slow, or is opened, holds up no other.
    A model that is open, and whose last batch was quick, runs in the event loop's thread.

    Everything but inference happens in that thread, so nothing here is locked.

    Parameters
    ----------
    infer : callable
        From a model and its inputs to `Inferred`; called in several threads.
    max_batch : int
        Most rows of a merged batch.
    max_delay : float
        Seconds that a request may wait for others.
    queue_limit : int
        Most requests that wait.
    observe : callable
        Gets the model's reference, requests, rows, seconds waited (sum over the requests), seconds computed, and
        how many failed, after each batch; in the event loop's thread.
    opened : callable, optional
        Whether a model is open, so that `infer` need not open it.
    """

    def __init__(
        self,
        infer: Callable[[str, Mapping[str, Any]], Inferred],
        max_batch: int,
        max_delay: float,
        queue_limit: int,
        observe: Callable[[str, int, int, float, float, int], None],
        opened: Callable[[str], bool] | None = None,
    ) -> None:
        self._infer = infer
        self._max_batch = max_batch
        self._max_delay = max_delay
        self._limit = queue_limit
        self._observe = observe
        self._opened = opened
        self._spent: dict[str, tuple[float, int]] = {}
        self._groups: dict[str, dict[Key, list[PendingRequest]]] = {}
        self._busy: set[str] = set()
        self._refs: dict[str, str] = {}
        self._scheduled = False
        self._batches: queue.SimpleQueue[list[PendingRequest] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self.waiting = 0
        """Requests that have no answer yet."""

    @property
    def alive(self) -> bool:
        """Whether requests are answered."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to answer requests of an event loop."""
        self._loop = loop
        for number in range(WORKERS):
            thread = threading.Thread(target=self._work, name=f"maas-magics-batcher-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End after what waits now; called in another thread than the loop's."""
        until = time.monotonic() + 10.0
        while self.waiting and time.monotonic() < until:
            time.sleep(0.01)
        for _ in self._threads:
            self._batches.put(None)
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def ask(self, model: str, inputs: dict[str, Array]) -> Promise:
        """Outputs for some rows; called in the event loop's thread.

        Raises
        ------
        Overloaded
        """
        promise = Promise(loop=self._loop)
        self.put(model, inputs, promise)
        return promise

    def put(self, model: str, inputs: dict[str, Array], asker: Asker) -> None:
        """Outputs for some rows, passed to the one that requested them; called in the event loop's thread.

        Raises
        ------
        Overloaded
        """
        if self.waiting >= self._limit:
            raise Overloaded("The service has too much to do.", "Try again in a second.")
        asked = PendingRequest(model, inputs, asker)
        self.waiting += 1
        self._groups.setdefault(model, {}).setdefault(asked.key, []).append(asked)
        if model not in self._busy:
            self._schedule()

    def _schedule(self) -> None:
        """Dispatch after everything else of this turn of the loop, so that what came in together runs together."""
        if not self._scheduled:
            assert self._loop is not None
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Hand batches of models that have none to threads that have none."""
        self._scheduled = False
        for model in list(self._groups):
            if len(self._busy) >= WORKERS:
                return
            if model in self._busy or self._lingers(model):
                continue
            batch: list[PendingRequest] = []
            while not batch and model in self._groups:
                batch = self._take(model)
            if not batch:
                continue
            if self._is_quick(model, batch):
                self._finish(batch, *self._run(batch))
                if model in self._groups:
                    self._schedule()
            else:
                self._busy.add(model)
                self._batches.put(batch)

    def _is_quick(self, model: str, batch: list[PendingRequest]) -> bool:
        """Whether a batch will take no longer than to wake a thread, judged by the model's last one."""
        if self._opened is None or model not in self._spent:
            return False
        seconds, rows = self._spent[model]
        now = sum(asked.rows for asked in batch)
        try:
            return seconds * max(1.0, now / rows) <= QUICK and self._opened(model)
        except MaasError:
            return False

    def _lingers(self, model: str) -> bool:
        """Whether a model's oldest group waits for others, until it is full or waited long enough."""
        if not self._max_delay:
            return False
        group = next(iter(self._groups[model].values()))
        left = group[0].since + self._max_delay - time.perf_counter()
        if left <= 0 or sum(asked.rows for asked in group) >= self._max_batch:
            return False
        assert self._loop is not None
        self._loop.call_later(left, self._dispatch)
        return True

    def _take(self, model: str) -> list[PendingRequest]:
        """The next batch of a model; what is left of its group goes behind the model's other groups."""
        groups = self._groups.pop(model)
        key = next(iter(groups))
        group = groups.pop(key)
        batch: list[PendingRequest] = []
        rows = count = 0
        for asked in group:
            if batch and rows + asked.rows > self._max_batch:
                break
            count += 1
            if asked.asker.gone:  # the client has gone
                self.waiting -= 1
            else:
                batch.append(asked)
                rows += asked.rows
        if count < len(group):
            groups[key] = group[count:]
        if groups:
            self._groups[model] = groups
        return batch

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            done = self._run(batch)
            assert self._loop is not None
            try:
                self._loop.call_soon_threadsafe(self._deliver, batch, *done)
            except RuntimeError:  # the loop is closed, and no one waits
                return
            del batch, done  # while this waits for the next, no one is to hold the rows of the last

    def _run(self, batch: list[PendingRequest]) -> tuple[list[Answer], float, float]:
        """Answers of a batch, when it began, and when it ended."""
        began = time.perf_counter()
        try:
            answers = self._ask(batch[0].key[0], [asked.inputs for asked in batch], [asked.rows for asked in batch])
        except Exception as error:
            answers = [error] * len(batch)
        return answers, began, time.perf_counter()

    def _ask(self, model: str, inputs: list[dict[str, Array]], rows: list[int]) -> list[Answer]:
        try:
            if len(inputs) == 1:
                return [whole(self._infer(model, inputs[0]))]
            merged = {name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]}
            found = self._infer(model, merged)
            total = sum(rows)
            if any(values.shape[:1] != (total,) for values in found.outputs.values()):
                raise ValueError("an output that has no row for each row cannot be split")
        except Exception as error:
            if len(inputs) == 1 or isinstance(error, OF_THE_MODEL):
                return [error] * len(inputs)
            return [self._ask(model, [one], [count])[0] for one, count in zip(inputs, rows, strict=True)]
        batch = Batch(found)
        stops = accumulate(rows)
        return [AnswerShare(batch, stop - count, stop) for count, stop in zip(rows, stops, strict=True)]

    def _deliver(self, batch: list[PendingRequest], answers: list[Answer], began: float, ended: float) -> None:
        self._busy.discard(batch[0].key[0])
        if self._groups:
            self._dispatch()
        self._finish(batch, answers, began, ended)

    def _finish(self, batch: list[PendingRequest], answers: list[Answer], began: float, ended: float) -> None:
        self.waiting -= len(batch)
        model = batch[0].key[0]
        failed, rows, waited, ref = 0, 0, 0.0, ""
        for asked, answer in zip(batch, answers, strict=True):
            rows += asked.rows
            waited += began - asked.since
            if isinstance(answer, Exception):
                failed += 1
            else:
                ref = answer.model
            try:
                asked.asker.deliver(answer)
            except Exception:  # one that cannot be sent costs no other its answer
                traceback.print_exc(file=sys.stderr)
        if failed == len(batch):
            ref = self._refs.get(model, "")
        elif model in self._refs or len(self._refs) < MOST_NAMES:
            self._refs[model] = ref
            self._spent[model] = ended - began, rows
        try:
            self._observe(ref, len(batch), rows, waited, ended - began, failed)
        except Exception:
            traceback.print_exc(file=sys.stderr)
