"""The backend of this kernel: one training at a time, the rest in a queue, and everything else at once."""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

from maas_magics.api.backend import Job, JobInfo
from maas_magics.api.errors import JobNotFound, did_you_mean
from maas_magics.api.requests import PredictRequest, Request, TrainRequest
from maas_magics.api.results import Prediction
from maas_magics.core import tasks
from maas_magics.core.context import Context
from maas_magics.core.inference.loader import Loader
from maas_magics.core.inference.predict import predict
from maas_magics.core.journal import Journal
from maas_magics.core.store import Store
from maas_magics.local.job import LocalJob, PastJob

R = TypeVar("R")


class LocalBackend:
    """Runs requests here.

    Trainings run one after another, since torch's random numbers belong to the whole process and two
    at once could not be repeated to the bit. Whatever else is asked for never waits behind one.

    Parameters
    ----------
    place : str
        Folder or URL of the store.
    """

    def __init__(self, place: str) -> None:
        self.models = Store(place)
        self._journal = Journal(self.models.work / "jobs.sqlite")
        self.loader = Loader(self.models)
        self._jobs: dict[str, LocalJob[Any]] = {}
        self._queue: queue.SimpleQueue[tuple[LocalJob[Any], Request[Any]]] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"

    @property
    def place(self) -> str:
        """Folder or URL of the store."""
        return self.models.place

    def submit(self, request: Request[R]) -> Job[R]:
        """Queue a training behind those that run; start anything else at once."""
        title, model = tasks.title(request)
        info = JobInfo(uuid.uuid4().hex[:8], title, model, "queued", time.time())
        job: LocalJob[R] = LocalJob(info, self._journal, self._owner)
        with self._lock:
            self._jobs[info.id] = job
            if not isinstance(request, TrainRequest):
                threading.Thread(
                    target=self._run, args=(job, request), name=f"maas-magics-{info.id}", daemon=True
                ).start()
                return job
            self._queue.put((job, request))
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="maas-magics-worker", daemon=True)
                self._worker.start()
        return job

    def _work(self) -> None:
        while True:
            self._run(*self._queue.get())

    def _run(self, job: LocalJob[Any], request: Request[Any]) -> None:
        job.run(partial(tasks.run, request, Context(self.models, self.loader, job.emit, job.stopping)))
        if isinstance(request, PredictRequest):
            # Millions of answers belong to whoever asked; the list of jobs must not hold on to them.
            self._jobs.pop(job.id, None)

    def job(self, id: str) -> Job[Any]:
        """A job by its id or its first characters.

        Raises
        ------
        JobNotFound
        """
        known = {info.id: (info, owner) for info, owner in self._journal.jobs()}
        found = [key for key in known if key.startswith(id)] if id else []
        if len(found) != 1:
            why = f"Several jobs begin with {id!r}." if found else f"There is no job {id!r}."
            raise JobNotFound(why, did_you_mean(id, found or known) or "%maas jobs lists them.")
        mine = self._jobs.get(found[0])
        if mine is not None:
            return mine
        info, owner = known[found[0]]
        return PastJob(info, self._journal, lambda: _alive(owner))

    def jobs(self) -> Sequence[JobInfo]:
        """Every job of this store, newest first."""
        found = []
        for info, owner in self._journal.jobs():
            mine = self._jobs.get(info.id)
            past = PastJob(info, self._journal, lambda owner=owner: _alive(owner))  # type: ignore[misc]
            found.append(mine.info if mine is not None else past.info)
        return found

    def predict(self, request: PredictRequest) -> Prediction:
        """Ask a model in this thread."""
        return predict(request, self.loader)


def _started(pid: int) -> str:
    """When a process began, so that a number used again is not taken for the same process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _alive(owner: str) -> bool:
    host, pid, started = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    return _runs(int(pid)) and _started(int(pid)) == started


def _runs(pid: int) -> bool:
    if sys.platform == "win32":
        # os.kill would end it there.
        import ctypes

        kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009  (there on Windows only)
        handle = kernel.OpenProcess(0x1000, False, pid)
        code = ctypes.c_ulong()
        kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return bool(handle) and code.value == 259
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
