"""Workers for the jobs of a store: each is started, watched, and taken over by another service if this one is gone."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from maas_magics.api.backend import JobInfo
from maas_magics.api.child import python
from maas_magics.api.errors import DataError, Stopped, StoreError
from maas_magics.api.events import FINAL_STATES, Finished, Message
from maas_magics.api.wire import encode_outcome
from maas_magics.core.store.journal import Held, Journal
from maas_magics.local.job import POLL, LocalJob
from maas_magics.local.process import alive, here, this_process
from maas_magics.local.trainings import Trainings

ATTEMPTS = 3
"""Deaths of a worker without a new checkpoint between them after which a job is given up."""

SECRET = re.compile("TOKEN|PASSWORD|JUPYTER", re.IGNORECASE)
"""Environment variables that a worker does not get."""

GRACE = 20.0
"""Seconds that workers get to keep their state when the service ends."""

BEAT = 2.0
"""Seconds between two signs of life of a service, and of a worker."""

SILENCE = 60.0
"""Seconds without one after which a process is held for dead; on this machine it is ended then."""

START = 300.0
"""Seconds that a worker gets to begin."""

TROUBLE = 5.0
"""Seconds between two looks while the journal cannot be used."""

ENOUGH = 3
"""Stops that end a worker which heeds none."""


@dataclass
class Signs:
    """What is seen of a beat, by this process's own clock: neither another machine's nor a sleep of this one counts."""

    beat: float = -1.0
    since: float = field(default_factory=time.monotonic)

    def silent(self, beat: float) -> float:
        """Seconds since the beat was last seen to change."""
        if beat != self.beat:
            self.beat, self.since = beat, time.monotonic()
        return time.monotonic() - self.since


@dataclass
class Worker:
    """A process that runs a job.

    Attributes
    ----------
    process : Popen or None
        None for one that another service started.
    signs : Signs
        Of its life.
    """

    process: subprocess.Popen[bytes] | None
    signs: Signs = field(default_factory=Signs)


class Pool(threading.Thread):
    """Starts workers for the queued jobs that it keeps, and sees to those that die or hang.

    Parameters
    ----------
    place : str
        Folder or URL of the store.
    journal : Journal
    trainings : Trainings
    size : int
        Workers at a time.
    flags : sequence of str
        Further words for every worker.
    ended : callable
        Called with every job that ended.
    """

    def __init__(
        self,
        place: str,
        journal: Journal,
        trainings: Trainings,
        size: int,
        flags: Sequence[str],
        ended: Callable[[JobInfo], None],
    ) -> None:
        super().__init__(name="maas-magics-pool", daemon=True)
        self.name_here = this_process()
        """Who keeps the jobs."""
        self._place, self._journal, self._trainings = place, journal, trainings
        self._size, self._flags, self._notify = size, tuple(flags), ended
        self._workers: dict[str, Worker] = {}
        self._deaths: dict[str, tuple[int, int]] = {}
        self._others: dict[str, Signs] = {}
        self._awake = threading.Event()
        self._closing = False
        self._beaten = -BEAT

    def wake(self) -> None:
        """Look into the journal now."""
        self._awake.set()

    def run(self) -> None:
        """Start and watch until closed."""
        trouble = ""
        while not self._closing:
            try:
                self._look()
                trouble = ""
            except Exception as error:  # a journal that is locked or broken, a machine without memory
                # Time in which this process could not look does not count as silence of others.
                self._others.clear()
                for worker in self._workers.values():
                    worker.signs = Signs()
                if trouble != repr(error):
                    trouble = repr(error)
                    if isinstance(error, StoreError):
                        print(error, file=sys.stderr)
                    else:
                        traceback.print_exc()
            self._awake.wait(TROUBLE if trouble else POLL)
            self._awake.clear()

    def close(self) -> None:
        """Request from the workers that they keep their state, and wait for them."""
        self._closing = True
        self.wake()
        self.join()
        own = [worker.process for worker in self._workers.values() if worker.process is not None]
        for process in own:
            process.terminate()
        until = time.monotonic() + GRACE
        for process in own:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                _kill(process.pid)
                process.wait()

    def _look(self) -> None:
        held = {job.info.id: job for job in self._journal.held()}
        self._show_life(held)
        for id, worker in list(self._workers.items()):
            self._watch(id, worker, held.get(id))
        for job in held.values():
            if job.info.id not in self._workers and self._mine(job):
                self._take_up(job)

    def _show_life(self, held: dict[str, Held]) -> None:
        """Show other services that the jobs kept here need no other keeper."""
        mine = any(job.keeper == self.name_here for job in held.values())
        if mine and time.monotonic() - self._beaten >= BEAT:
            self._journal.beat_keeper(self.name_here)
            self._beaten = time.monotonic()

    def _mine(self, job: Held) -> bool:
        """Whether a job is kept here; one whose keeper is gone is from now on."""
        if job.keeper == self.name_here:
            return True
        if job.keeper and alive(job.keeper):
            signs = self._others.setdefault(job.keeper, Signs())
            if signs.silent(self._journal.keepers().get(job.keeper, 0.0)) < SILENCE:
                return False
        self._journal.keep(job, self.name_here)
        return False  # its line is read anew with the next look

    def _take_up(self, job: Held) -> None:
        """Find the worker of a job that is kept here, or start one."""
        if job.info.state == "running" and alive(job.owner):
            self._workers[job.info.id] = Worker(None)  # of a service that is gone; it continues
        elif job.info.state == "running":
            self._died(job, "died")
        elif job.stops >= ENOUGH or (job.stops and not self._journal.events(job.info.id)):
            self._stopped(job, "The job was stopped before it began.")
        elif len(self._workers) < self._size:
            self._workers[job.info.id] = Worker(self._start(job.info.id))

    def _start(self, id: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            python("maas_magics.local.worker", self._place, id, self.name_here, *self._flags),
            env={name: value for name, value in os.environ.items() if not SECRET.search(name)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _watch(self, id: str, worker: Worker, job: Held | None) -> None:
        """See to a worker that left, hangs, or heeds no stop."""
        process = worker.process
        gone = process.poll() is not None if process is not None else job is None or not alive(job.owner)
        if gone:
            del self._workers[id]
            self._left(id, None if process is None else process.returncode)
            return
        if job is None or job.keeper != self.name_here:
            if job is not None:
                del self._workers[id]  # another service held this one for dead, and resumes it
            return
        begun = job.info.state == "running"
        silent = worker.signs.silent(job.beat if begun else -1.0)
        if job.stops >= ENOUGH:
            self._end(worker, job)
            if (left := self._still(id)) is not None:
                self._stopped(left, "The job was stopped: its process ignored three stops, and was ended.")
        elif silent > (SILENCE if begun else START):
            self._end(worker, job)
            if (left := self._still(id)) is not None:
                self._died(left, f"gave no sign of life for {silent:.0f} s, and was ended")

    def _end(self, worker: Worker, job: Held) -> None:
        """End a process and all that it started."""
        del self._workers[job.info.id]
        if worker.process is not None:
            _kill(worker.process.pid)
            worker.process.wait()
        elif (number := here(job.owner)) is not None and alive(job.owner):
            _kill(number)

    def _still(self, id: str) -> Held | None:
        """A job as it stands now, where it is unfinished and kept here."""
        return next((job for job in self._journal.held(id) if job.keeper == self.name_here), None)

    def _left(self, id: str, code: int | None) -> None:
        """See what a worker left behind that is not there any more."""
        job = self._still(id)
        if job is None:
            self._ended(id)
        elif job.info.state == "running" or code:
            self._died(job, "died" if code is None else f"died ({_reason(code)})")

    def _ended(self, id: str) -> None:
        self._deaths.pop(id, None)
        found = self._journal.find(id)
        if found is not None and found[0].state in FINAL_STATES:
            self._notify(found[0])

    def _stopped(self, job: Held, text: str) -> None:
        """Write down that a job ended because it was stopped."""
        if self._trainings.has(job.info.id):
            text += " Its last checkpoint is kept: --resume resumes from it."
        LocalJob[Any](job.info, self._journal, self._journal.events(job.info.id)).fail(Stopped(text))
        self._ended(job.info.id)

    def _died(self, job: Held, how: str) -> None:
        """Put a job back into the queue, or give it up."""
        id = job.info.id
        events = self._journal.events(id)
        seq = len(events)
        kept = max((event.seq for event in events if event.__class__.__name__ == "CheckpointSaved"), default=0)
        deaths, before = self._deaths.get(id, (0, 0))
        deaths = 1 if kept > before else deaths + 1
        self._deaths[id] = deaths, kept
        text = f"The worker process {how}."
        if deaths < ATTEMPTS:
            goes_on = self._trainings.has(id)
            text += " The job resumes from its last checkpoint." if goes_on else " The job begins anew."
            self._journal.take_back(job, [Message(seq=seq + 1, time=time.time(), text=text, level="warning")])
            return
        text += f" It did so {deaths} times, and the job is given up."
        last = Finished(seq=seq + 1, time=time.time(), state="failed", error=text)
        self._journal.append(id, [last], "failed", encode_outcome(None, DataError(text)), job.owner)
        self._ended(id)


def _reason(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _kill(pid: int) -> None:
    """End a worker and the processes of its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)
