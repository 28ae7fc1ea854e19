"""The backend of a service: each training and export in a worker process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
import traceback
import uuid
from typing import Any, TypeVar

from maas_magics.api.backend import Job, JobInfo
from maas_magics.api.child import python
from maas_magics.api.errors import DataError, MaasError, Refused, Stopped
from maas_magics.api.events import FINAL_STATES, Finished, Message
from maas_magics.api.requests import ExportRequest, Request, TrainRequest, is_named_split
from maas_magics.api.wire import Code, Graph, Uploaded, encode_outcome, encode_request
from maas_magics.core import tasks
from maas_magics.core.journal import Journal
from maas_magics.core.store import check_name
from maas_magics.local.backend import LocalBackend
from maas_magics.local.job import POLL, LocalJob
from maas_magics.local.process import alive

R = TypeVar("R")

ATTEMPTS = 3
"""Deaths of a worker without a new checkpoint between them after which a job is given up."""

SECRET = re.compile("TOKEN|PASSWORD|JUPYTER", re.IGNORECASE)
"""Environment variables that a worker does not get."""

KEPT = 30 * 86_400.0
"""Seconds that data is kept after it was last named; a service looks when it starts."""

GRACE = 20.0
"""Seconds that workers get to keep their state when the service ends."""


class ServiceBackend(LocalBackend):
    """Runs trainings and exports in processes of their own, so that a crash takes down one job.

    Parameters
    ----------
    place : str
        Folder or URL of the store.
    jobs : int
        Workers at a time.
    memory : float
        Bytes of weights that are kept open.
    allow_code : bool
        Whether modules may come as source.
    """

    def __init__(self, place: str, jobs: int = 1, memory: float = float("inf"), allow_code: bool = False) -> None:
        super().__init__(place, memory, shared=True)
        self.allow_code = allow_code
        if all(info.state in FINAL_STATES for info, _ in self._journal.jobs()):
            self.data.forget(KEPT)
        self._pool = Pool(self, self._journal, jobs)
        self._pool.start()

    def submit(self, request: Request[R], key: str = "") -> Job[R]:
        """Queue a training or an export; start anything else at once in a thread."""
        earlier = self.trainings.find(request)
        if isinstance(request, TrainRequest):
            request = self.trainings.whole(request, earlier)  # type: ignore[assignment]
        self._check(request)
        if not isinstance(request, (TrainRequest, ExportRequest)):
            return super().submit(request, key)
        title, model = tasks.title(request)
        info = JobInfo(uuid.uuid4().hex[:8], title, model, "queued", time.time())
        there = self._journal.open(info, self._owner, key, encode_request(request))
        if there == info.id:
            if isinstance(request, TrainRequest):
                self.trainings.begin(info.id, request, earlier)
            try:
                self._possible(request)
            except MaasError as error:
                LocalJob[Any](info, self._journal).fail(error)
            self._pool.wake()
        return self.job(there)

    def _lives(self, id: str, owner: str) -> bool:
        """A job whose request was written down is gone on with, whatever became of the process that ran it."""
        return self._journal.request(id) is not None or super()._lives(id, owner)

    def _possible(self, request: Request[Any]) -> None:
        """Find at once what a worker would find only after its start."""
        if isinstance(request, TrainRequest):
            check_name(request.name)
        elif isinstance(request, ExportRequest):
            self.models.resolve(request.model)

    def _check(self, request: Request[Any]) -> None:
        """Refuse what would read or write this machine's files, run code, or lacks its data."""
        if isinstance(request, TrainRequest) and isinstance(request.model, Code) and not self.allow_code:
            raise Refused("This service runs no code that is sent to it.", "Its owner may start it --allow-code.")
        if isinstance(request, TrainRequest) and isinstance(request.model, Graph):
            self.data.path(request.model.digest)
        if isinstance(request, ExportRequest):
            if request.out is not None:
                raise Refused("A service writes no copy to a path of its own.", "Fetch the export instead.")
            return
        for name in ("data", "validation", "target"):
            value = getattr(request, name, None)
            parts = value if isinstance(value, (list, tuple)) and name != "target" else [value]
            for rows in parts:
                if isinstance(rows, Uploaded):
                    self.data.path(rows.digest)
                elif name == "data" or (name == "validation" and isinstance(rows, str) and not is_named_split(rows)):
                    raise Refused("A service reads no files of its own.", "Send the rows, and name them by digest.")

    def close(self) -> None:
        """Have the workers keep their state, and end them; a new service goes on with their jobs."""
        self._pool.close()


class Pool(threading.Thread):
    """Starts workers for the journal's queued jobs, and sees to those that die.

    Parameters
    ----------
    backend : ServiceBackend
    journal : Journal
    size : int
        Workers at a time.
    """

    def __init__(self, backend: ServiceBackend, journal: Journal, size: int) -> None:
        super().__init__(name="maas-magics-pool", daemon=True)
        self._backend = backend
        self._journal = journal
        self._size = size
        self._workers: dict[str, subprocess.Popen[bytes] | None] = {}
        self._deaths: dict[str, tuple[int, int]] = {}
        self._awake = threading.Event()
        self._closing = False

    def wake(self) -> None:
        """Look into the journal now."""
        self._awake.set()

    def run(self) -> None:
        """Start and watch until closed."""
        while not self._closing:
            try:
                self._look()
            except Exception:  # a journal that is locked, a machine without memory: it is tried again
                traceback.print_exc()
            self._awake.wait(POLL)
            self._awake.clear()

    def close(self) -> None:
        """Ask the workers to keep their state, and wait for them."""
        self._closing = True
        self.wake()
        self.join()
        for worker in self._workers.values():
            if worker is not None:
                worker.terminate()
        until = time.monotonic() + GRACE
        for worker in self._workers.values():
            if worker is not None:
                try:
                    worker.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    worker.kill()

    def _look(self) -> None:
        owners = {info.id: owner for info, owner in self._unfinished()}
        for id in list(self._workers):
            worker = self._workers[id]
            owner = owners.get(id)
            if owner is None:
                if worker is None or worker.poll() is not None:
                    self._ended(id)
            elif (worker.poll() is not None) if worker is not None else not alive(owner):
                self._died(id, None if worker is None else worker.returncode)
        for info, owner in self._unfinished():
            if info.id in self._workers:
                if self._journal.stops(info.id) >= 3 and (worker := self._workers[info.id]) is not None:
                    worker.kill()
                continue
            if info.state == "running" and alive(owner):
                self._workers[info.id] = None  # of a service that is gone; it goes on
            elif self._journal.stops(info.id) and not self._journal.events(info.id):
                job = LocalJob[Any](info, self._journal)
                job.fail(Stopped("The job was stopped before it began."))
            elif len(self._workers) < self._size:
                self._workers[info.id] = self._start(info.id)

    def _unfinished(self) -> list[tuple[JobInfo, str]]:
        """Jobs that a worker has to do, with their owners, oldest first."""
        return [(info, owner) for info, owner in self._journal.unfinished() if self._journal.request(info.id)]

    def _start(self, id: str) -> subprocess.Popen[bytes]:
        flags = ["--allow-code"] if self._backend.allow_code else []
        return subprocess.Popen(
            python("maas_magics.local.worker", self._backend.place, id, *flags),
            env={name: value for name, value in os.environ.items() if not SECRET.search(name)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _ended(self, id: str) -> None:
        del self._workers[id]
        self._deaths.pop(id, None)
        found = self._journal.find(id)
        if found is not None and found[0].state in FINAL_STATES:
            self._backend.trainings.ended(found[0])
            self._backend.loader.forget(found[0].model, None)

    def _died(self, id: str, code: int | None) -> None:
        """Put a job back into the queue, or give it up."""
        del self._workers[id]
        events = self._journal.events(id)
        seq = len(events)
        kept = max((event.seq for event in events if event.__class__.__name__ == "CheckpointSaved"), default=0)
        deaths, before = self._deaths.get(id, (0, 0))
        deaths = 1 if kept > before else deaths + 1
        self._deaths[id] = deaths, kept
        why = "signal " + str(-code) if code is not None and code < 0 else f"exit code {code}"
        text = f"The worker process died ({why})." if code is not None else "The worker process died."
        if deaths < ATTEMPTS:
            text += (
                " The job goes on from its last checkpoint."
                if self._backend.trainings.has(id)
                else " The job begins anew."
            )
            event = Message(seq=seq + 1, time=time.time(), text=text, level="warning")
            self._journal.append(id, [event], "queued")
            return
        text += f" It did so {deaths} times, and the job is given up."
        last = Finished(seq=seq + 1, time=time.time(), state="failed", error=text)
        self._journal.append(id, [last], "failed", encode_outcome(None, DataError(text)))
