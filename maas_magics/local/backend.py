"""The backend of this kernel: one training at a time, the rest in a queue, and everything else at once."""

from __future__ import annotations

import atexit
import contextlib
import math
import threading
import time
import uuid
import weakref
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, ClassVar, TypeVar

import msgspec

from maas_magics.api.backend import Inferred, Job, JobInfo
from maas_magics.api.errors import ModelNotFound, OptionError, StoreError, did_you_mean
from maas_magics.api.events import FINAL_STATES
from maas_magics.api.requests import GenerateRequest, PredictRequest, Request, TrainRequest
from maas_magics.api.results import ModelInfo, Prediction
from maas_magics.api.stream import ChunkStream
from maas_magics.api.sweep import CANDIDATE
from maas_magics.core import dispatch as tasks
from maas_magics.core.context import Context
from maas_magics.core.generate import generate
from maas_magics.core.inference.hardened import read_harden
from maas_magics.core.inference.loader import Loader
from maas_magics.core.inference.predict import predict
from maas_magics.core.store.journal import Journal
from maas_magics.core.store.manifest import check_files
from maas_magics.core.store.models import Store
from maas_magics.core.store.uploads import Uploads
from maas_magics.job import whole_id
from maas_magics.local.job import JournalJob, LocalJob
from maas_magics.local.process import alive, this_process
from maas_magics.local.trainings import Trainings
from maas_magics.local.turns import in_turn

R = TypeVar("R")

PATIENCE = 10.0
"""Seconds that the end of a process waits for a training to keep its state."""


_TRAINING: weakref.WeakSet[LocalBackend] = weakref.WeakSet()
"""Those that have trained, for the end of the process; one that no one needs any longer is not kept for it."""


def _leave() -> None:
    for backend in list(_TRAINING):
        backend.leave()


@cache
def _leaves_at_exit() -> None:
    """Have the end of the process wait for trainings: asked at the first, so that it comes before torch's own end."""
    atexit.register(_leave)


class LocalBackend:
    """Runs requests here.

    Trainings run one after another, since torch's random numbers belong to the whole process and two
    at once could not be repeated to the bit. Whatever else is requested never waits behind one.

    Parameters
    ----------
    place : str
        Folder or URL of the store.
    memory : float
        Bytes of weights that are kept open.
    shared : bool
        Whether the processor is shared with a server's other work.
    kv_memory : int or None
        Bytes of keys and values of each model that writes; the usual bound when None.
    harden : str
        What is kept of answers, such as ``"round=2,top=1"``; all where it is empty.
    """

    serves: ClassVar[bool] = False
    """Whether requests come from elsewhere."""

    def __init__(
        self,
        place: str,
        memory: float = math.inf,
        shared: bool = False,
        kv_memory: int | None = None,
        harden: str = "",
    ) -> None:
        self.models: Store = Store(place, self._removed)
        self._journal = Journal(self.models.work / "jobs.sqlite", later=True)
        self._harden = harden
        self.loader = Loader(self.models, memory, shared, kv_memory, read_harden(harden))
        self.data: Uploads = Uploads(self.models.work / "data")
        self.trainings = Trainings(self.models.work / "jobs", self._journal, self.models.storage.names)
        self._jobs: dict[str, LocalJob[Any]] = {}
        self._leaving = False
        self._idle = threading.Event()
        self._idle.set()
        self._owner = this_process()

    def _removed(self, name: str) -> None:
        """A model is gone; what is kept of its trainings goes too, where the journal says what that is."""
        with contextlib.suppress(StoreError):
            self.trainings.remove(name)

    @property
    def place(self) -> str:
        """Folder or URL of the store."""
        return self.models.place

    def submit(self, request: Request[R], key: str = "") -> Job[R]:
        """Queue a training behind those that run; start anything else at once."""
        title, model = tasks.title(request)
        for each in list(self._jobs.values()):
            each.catch_up()
        earlier = self.trainings.find(request)
        if isinstance(request, TrainRequest):
            request = self.trainings.whole(request, earlier)  # type: ignore[assignment]
        info = JobInfo(uuid.uuid4().hex[:8], title, model, "queued", time.time())
        there = self._journal.open(info, self._owner, key)
        if there != info.id:
            return self.job(there)
        if not isinstance(request, TrainRequest):
            job: LocalJob[R] = LocalJob(info, self._journal)
            self._jobs[info.id] = job
            threading.Thread(target=self._run, args=(job, request), name=f"maas-magics-{info.id}", daemon=True).start()
            return job
        self.trainings.begin(info.id, request, earlier)
        job = LocalJob(info, self._journal, again=lambda: self._queued(job, request))
        self._jobs[info.id] = job
        self._queued(job, request)
        return job

    def _queued(self, job: LocalJob[Any], request: Request[Any]) -> None:
        """Put a training behind those that run."""
        _TRAINING.add(self)
        _leaves_at_exit()
        in_turn(partial(self._turn, job, request))

    def _turn(self, job: LocalJob[Any], request: Request[Any]) -> None:
        if self._leaving:
            return
        self._idle.clear()
        try:
            self._run(job, request)
        finally:
            self._idle.set()

    def leave(self) -> None:
        """Have a training keep its state before the process ends, which torch's threads would not survive else."""
        self._leaving = True
        for job in list(self._jobs.values()):
            if not job.done:
                job.suspend()
        self._idle.wait(PATIENCE)

    def _run(self, job: LocalJob[Any], request: Request[Any]) -> None:
        folder = self.trainings.folder(job.id) if isinstance(request, TrainRequest) else None
        context = Context(
            self.models,
            self.loader,
            job.emit,
            job.stopping,
            self.data,
            folder,
            written=job.written,
            exports_later=True,
            served=self.serves,
        )
        job.run(partial(tasks.run, request, context))
        if folder is not None and job.done:
            self.trainings.ended(job.info)
        if isinstance(request, PredictRequest):
            # Millions of answers belong to the caller; the list of jobs must not hold on to them.
            self._jobs.pop(job.id, None)

    def job(self, id: str) -> Job[Any]:
        """A job by its id or the first four characters of it or more.

        Raises
        ------
        JobNotFound
        """
        known = {info.id: (info, owner) for info, owner in self._journal.jobs()}
        found = whole_id(id, list(known))
        mine = self._jobs.get(found)
        if mine is not None:
            return mine
        info, owner = known[found]
        return JournalJob(info, self._journal, lambda: self._lives(info.id, owner))

    def jobs(self) -> Sequence[JobInfo]:
        """Every job of this store, newest first."""
        found = []
        for info, owner in self._journal.jobs():
            mine = self._jobs.get(info.id)
            gone = mine is None and info.state not in FINAL_STATES and not self._lives(info.id, owner)
            found.append(
                mine.info if mine is not None else msgspec.structs.replace(info, state="failed") if gone else info
            )
        return found

    def _lives(self, id: str, owner: str) -> bool:
        """Whether someone runs a job of another process, or will."""
        return alive(owner)

    def predict(self, request: PredictRequest) -> Prediction:
        """Predict with a model in this thread."""
        return predict(request, self.loader)

    def infer(self, model: str, inputs: Mapping[str, Any]) -> Inferred:
        """Tensors in, tensors out, by the names of the model's signature."""
        predictor = self.loader.predictor(model)
        return Inferred(predictor.ref, *predictor.infer(inputs))

    def generate(self, request: GenerateRequest) -> ChunkStream:
        """Begin an answer that comes in chunks."""
        return generate(request, self.loader)

    def generating(self) -> Mapping[str, float]:
        """Answers in chunks that are kept now, and that wait; steps, answers begun, and seconds waited so far."""
        loops = self.loader.loops()
        return {
            "states": sum(loop.states for loop in loops),
            "waiting": sum(loop.waiting for loop in loops),
            "steps": sum(loop.steps for loop in loops),
            "begun": sum(loop.begun for loop in loops),
            "waited": sum(loop.waited for loop in loops),
        }

    def opened(self, model: str) -> bool:
        """Whether a model is open, so that `infer` need not open it."""
        return self.loader.opened(model)

    def load(self, model: str, kv_memory: int | None = None) -> None:
        """Open a model so that the first request finds it open; undoes `unload`."""
        self.loader.load(model, kv_memory)

    def unload(self, model: str) -> None:
        """Close a model; it answers nothing until it is loaded again."""
        self.loader.unload(model)

    def publish(self, candidate: str, name: str) -> ModelInfo:
        """Make a candidate of a sweep the next version of a model, and remove every other candidate."""
        source, version = self.models.resolve(candidate)
        if CANDIDATE not in source:
            raise OptionError(f"{source!r} is not a candidate of a sweep.", f"NAME{CANDIDATE}ID:1")
        info = self.models.copy(f"{source}:{version}", name)
        self.loader.move(source, version, info.name, info.version)
        self.models.delete(source)
        return info

    def exported(self, model: str, variant: str) -> Mapping[str, bytes]:
        """Files of an export, by name."""
        name, version = self.models.resolve(model)
        exports = self.models.folder(name, version) / "exports"
        there = sorted(path.name for path in exports.iterdir()) if exports.is_dir() else []
        if variant not in there:
            raise ModelNotFound(
                f"{name}:{version} has no export {variant!r}.",
                did_you_mean(variant, there) or f"%export {name}:{version} --format {variant}",
            )
        check_files(exports.parent, f"exports/{variant}")
        return {file.name: file.read_bytes() for file in sorted((exports / variant).iterdir()) if file.is_file()}

    def traffic(self) -> Mapping[str, float]:
        """Not counted in a kernel."""
        return {}

    def kept_back(self) -> Mapping[str, Any]:
        """How answers are hardened."""
        return {"harden": self._harden} if self._harden else {}

    def loaded(self) -> Mapping[str, bool]:
        """Models that are open (True) or were closed by `unload` (False)."""
        return self.loader.loaded()
