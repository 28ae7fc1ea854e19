"""The loop that steps every answer of one model at once, and hands out what comes of it."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Sequence
from typing import Any

from maas_magics.api.errors import GenerationEnded, MaasError
from maas_magics.api.stream import Chunk, Finish, Usage
from maas_magics.core.chunks import AHEAD, ChunkReader, Chunks
from maas_magics.core.data.arrow import Array
from maas_magics.core.runtimes import IterativeSession, Sampler, State, unanswered

PATIENCE = 30.0
"""Seconds for which an answer that its reader does not take may keep others waiting for its slot."""


class Ongoing:
    """One answer on its way; all but ``chunks`` belongs to the loop's thread."""

    __slots__ = (
        "asked", "batch", "chunks", "fed", "index", "inputs", "max_steps", "sampler", "since", "state", "steps",
        "timeout", "until",
    )  # fmt: skip

    def __init__(
        self,
        inputs: Sequence[Array],
        sampler: Sampler,
        chunks: Chunks,
        max_steps: int | None,
        timeout: float | None,
        batch: bool,
    ) -> None:
        self.inputs = inputs
        self.sampler = sampler
        self.chunks = chunks
        self.max_steps = max_steps
        self.timeout = timeout
        self.batch = batch
        self.asked = time.monotonic()
        self.fed: list[Any] = []  # what was chosen, of one that may have to make room and begin anew
        self.until = math.inf if timeout is None else time.monotonic() + timeout
        self.since = math.inf  # when its reader was found too far behind
        self.state: State | None = None
        self.index = self.steps = 0


class Loop:
    """Generates with one open model, in a thread that is there while there is something to do.

    Every step takes all answers whose readers are not too far behind; others join between two steps, up to the slots
    of the session. An answer that is closed is dropped before the next step; one whose reader takes nothing makes room
    to others that wait. What is for a batch waits where someone waits for another answer, and makes room to it where
    its state can be had again.

    Parameters
    ----------
    session : IterativeSession
    ref : str
        ``name:version``.
    """

    def __init__(self, session: IterativeSession, ref: str) -> None:
        self.session = session
        self.ref = ref
        self._news = threading.Condition()
        self._waiting: list[Ongoing] = []
        self._going: list[Ongoing] = []
        self._thread: threading.Thread | None = None
        self._end: MaasError | None = None
        self.steps = 0
        """Passes so far."""
        self.begun, self.waited = 0, 0.0
        """Answers that had their turn, and the seconds that they waited for it, added up."""

    @property
    def states(self) -> int:
        """Answers whose state is kept now."""
        return len(self._going)

    @property
    def waiting(self) -> int:
        """Answers that wait for their turn."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way."""
        return self._thread is None

    def generate(
        self,
        inputs: Sequence[Array],
        sampler: Sampler,
        max_steps: int | None = None,
        timeout: float | None = None,
        ahead: int = AHEAD,
        batch: bool = False,
    ) -> ChunkReader:
        """Begin an answer.

        Parameters
        ----------
        inputs : sequence of ndarray
            Of one row, in the order of the signature.
        sampler : Sampler
        max_steps : int, optional
        timeout : float, optional
            Seconds.
        ahead : int
            Chunks that may be made before their reader takes them.
        batch : bool
            Whether it waits where others are waited for.

        Raises
        ------
        MaasError
            If the loop was ended.
        """
        chunks = Chunks(self._look, ahead)
        with self._news:
            if self._end is not None:
                raise _again(self._end)
            self._waiting.append(Ongoing(inputs, sampler, chunks, max_steps, timeout, batch))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"maas-magics-generate-{self.ref}", daemon=True)
                self._thread.start()
            self._news.notify()
        return ChunkReader(chunks, self.ref)

    def end(self, error: MaasError) -> None:
        """End every answer with an error, between two steps; requests for another get it too."""
        with self._news:
            self._end = error
            self._news.notify()

    def _look(self) -> None:
        with self._news:
            self._news.notify()

    # --- in the loop's thread; the lock of a reader is never taken while the loop's own is held ---

    def _run(self) -> None:
        try:
            while (ready := self._turn()) is not None:
                for one in [one for one in ready if one.state is None]:
                    self._begin(one)
                self._step([one for one in ready if one.state is not None])
        except Exception as error:  # a runtime that breaks its word ends what is on its way, and nothing else
            with self._news:
                every, self._thread = self._every(), None
                self._going, self._waiting = [], []
            for one in every:
                with contextlib.suppress(Exception):
                    if one.state is not None:
                        one.state.close()
                one.chunks.fail(_told(error))

    def _turn(self) -> list[Ongoing] | None:
        """Answers to step now; None when there is nothing more to do, and the thread ends."""
        while True:
            self._sweep()
            with self._news:
                self._make_room()
                while self._waiting and len(self._going) < self.session.slots:
                    self._going.append(self._waiting.pop(self._next()))
                if not self._going and not self._waiting:
                    self._thread = None
                    return None
                ready = [one for one in self._going if one.chunks.has_room and not one.chunks.closed]
                ready.sort(key=lambda one: one.batch)  # the first ones' prompts are read first
                if ready and self._end is None:
                    return ready
                if not any(one.chunks.closed for one in self._every()) and self._end is None:
                    until = min(one.until for one in self._every())
                    if self._waiting:
                        until = min(until, *(one.since + PATIENCE for one in self._going))
                    self._news.wait(None if until == math.inf else max(0.0, until - time.monotonic()))

    def _next(self) -> int:
        """Which of those that wait comes next."""
        return next((place for place, one in enumerate(self._waiting) if not one.batch), 0)

    def _make_room(self) -> None:
        """Take the turn of answers for a batch, the newest first, for others that wait."""
        waiting = sum(not one.batch and not one.chunks.closed for one in self._waiting)
        wanted = waiting - (self.session.slots - len(self._going))
        for one in self._going[::-1]:
            if wanted > 0 and one.batch and (one.state is None or getattr(one.state, "resumable", False)):
                state, one.state = one.state, None
                if state is not None:
                    state.close()
                self._going.remove(one)
                self._waiting.insert(0, one)
                wanted -= 1

    def _every(self) -> list[Ongoing]:
        return [*self._going, *self._waiting]

    def _sweep(self) -> None:
        """Drop answers that no one reads, that took too long, that keep others waiting, or that all are to end."""
        with self._news:
            every, error = self._every(), self._end
            crowd = len(self._waiting) if len(self._going) >= self.session.slots else 0
        now = time.monotonic()
        for one in every:
            if one.state is None or one.chunks.has_room:
                one.since = math.inf
            else:
                one.since = min(one.since, now)
        unread = sorted((one for one in every if one.since + PATIENCE <= now), key=lambda one: one.since)[:crowd]
        for one in every:
            if one.chunks.closed:
                self._drop(one)
            elif error is not None:
                self._drop(one, _again(error))
            elif now >= one.until:
                told = f"{self.ref} took longer than {one.timeout:g} s."
                self._drop(one, GenerationEnded(told, "Request fewer steps, or give it more time."))
            elif one in unread:
                told = f"This answer of {self.ref} was not read for {PATIENCE:g} s while others waited."
                self._drop(one, GenerationEnded(told, "Read it as it comes, or close it."))

    def _drop(self, one: Ongoing, error: Exception | None = None) -> None:
        """Free an answer's state, then notify its reader of the error, if there is one."""
        with self._news:
            for them in (self._going, self._waiting):
                if one in them:
                    them.remove(one)
        state, one.state = one.state, None
        if state is not None:
            state.close()
        if error is not None:
            one.chunks.fail(error)

    def _begin(self, one: Ongoing) -> None:
        try:
            one.state = self.session.start(one.inputs)
            for value in one.fed:
                one.state.feed(value)
            if not one.steps:
                self.begun += 1
                self.waited += time.monotonic() - one.asked
        except Exception as error:  # whatever a runtime raises
            self._drop(one, _told(error))

    def _step(self, several: list[Ongoing]) -> None:
        """One pass over several answers; where it fails, each alone."""
        if not several:
            return
        self.steps += 1
        try:
            outputs = self.session.step([one.state for one in several if one.state is not None])
        except Exception as error:  # whatever a runtime raises
            if len(several) == 1:
                self._drop(several[0], _told(error))
                return
            for one in several:
                self._step([one])
            return
        for one, output in zip(several, outputs, strict=True):
            if output is None:
                continue
            try:
                self._choose(one, output)
            except Exception as error:
                self._drop(one, _told(error))

    def _choose(self, one: Ongoing, output: Array) -> None:
        assert one.state is not None
        one.steps += 1
        value, delta, stop = one.sampler.choose(output)
        finish: Finish = stop or ("length" if one.steps == one.max_steps else "")
        if not finish:
            one.state.feed(value)
            if one.batch and getattr(one.state, "resumable", False):
                one.fed.append(value)
            finish = "length" if getattr(one.state, "full", False) else ""
        if finish == "length" and (rest := getattr(one.sampler, "rest", None)) is not None:
            delta = _joined(delta, rest())
        if delta is None and not finish:
            return
        chunk = Chunk(one.index, delta, finish, Usage(one.state.size, one.steps) if finish else None)
        one.index += 1
        if finish:
            self._drop(one)
        one.chunks.put(chunk)


def _joined(delta: Any, rest: Any) -> Any:
    """The last delta with what was held back: texts, or dicts of a text and of lists."""
    if isinstance(rest, dict):
        return {name: (delta or {}).get(name, type(more)()) + more for name, more in rest.items()}
    return (delta or "") + rest or None


def _told(error: Exception) -> MaasError:
    return error if isinstance(error, MaasError) else unanswered(error)


def _again(error: MaasError) -> MaasError:
    """The same error for one more reader: each is raised once."""
    return type(error)(error.message, error.hint)
