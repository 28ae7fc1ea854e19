"""The backend of a service: each training and export in a worker process of its own."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import Any, ClassVar, TypeVar

from maas_magics.api.backend import Job, JobInfo
from maas_magics.api.errors import GenerationEnded, MaasError, Refused, StoreError
from maas_magics.api.events import FINAL_STATES
from maas_magics.api.requests import ExportRequest, ImportRequest, Request, TrainRequest, is_named_split
from maas_magics.api.wire import Code, Graph, encode_request, uploads_of
from maas_magics.core import dispatch as tasks
from maas_magics.core.seal import signatures
from maas_magics.core.store.models import check_name
from maas_magics.core.store.uploads import Uploads
from maas_magics.local.backend import LocalBackend
from maas_magics.local.job import LocalJob
from maas_magics.local.keeper import Pool
from maas_magics.local.limits import Limits

R = TypeVar("R")

KEPT = 30 * 86_400.0
"""Seconds that data is kept after it was last named; a service looks when it starts."""


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
    limits : Limits, optional
    kv_memory : int or None
        Bytes of keys and values of each model that writes; the usual bound when None.
    require_signed : str
        File of the public keys, or folder of such files, that sign what this process opens; anything where it is empty.
    harden : str
        What is kept of answers, such as ``"round=2,top=1"``; all where it is empty.
    """

    serves: ClassVar[bool] = True

    def __init__(
        self,
        place: str,
        jobs: int = 1,
        memory: float = float("inf"),
        allow_code: bool = False,
        limits: Limits | None = None,
        kv_memory: int | None = None,
        require_signed: str = "",
        harden: str = "",
    ) -> None:
        if require_signed:
            signatures.require_signed(require_signed)
        super().__init__(place, memory, shared=True, kv_memory=kv_memory, harden=harden)
        self.allow_code = allow_code
        self.limits = limits or Limits()
        upload, uploads = self.limits.upload or float("inf"), self.limits.uploads or float("inf")
        self.data = Uploads(self.models.work / "data", upload, uploads)
        with contextlib.suppress(StoreError):  # a journal that cannot be read costs the jobs, not the models
            if all(info.state in FINAL_STATES for info, _ in self._journal.jobs()):
                self.data.forget(KEPT)
        flags = [*self.limits.words(), *(["--allow-code"] if allow_code else [])]
        self._pool = Pool(self.place, self._journal, self.trainings, jobs, flags, self._ended)
        self._pool.start()

    def submit(self, request: Request[R], key: str = "") -> Job[R]:
        """Queue a training, an export or an import; start anything else at once in a thread."""
        earlier = self.trainings.find(request)
        if isinstance(request, TrainRequest):
            request = self.trainings.whole(request, earlier)  # type: ignore[assignment]
            request = self.limits.bounded(request)  # type: ignore[assignment]
        self._check(request)
        if not isinstance(request, (TrainRequest, ExportRequest, ImportRequest)):
            return super().submit(request, key)
        title, model = tasks.title(request)
        info = JobInfo(uuid.uuid4().hex[:8], title, model, "queued", time.time())
        there = self._journal.open(info, self._owner, key, encode_request(request), self._owner)
        if there == info.id:
            if isinstance(request, TrainRequest):
                self.trainings.begin(info.id, request, earlier)
            try:
                self._possible(request)
            except MaasError as error:
                LocalJob[Any](info, self._journal).fail(error)
            self._pool.wake()
        return self.job(there)

    def _ended(self, info: JobInfo) -> None:
        """A worker is through with a job."""
        self.trainings.ended(info)
        self.loader.forget(info.model, None)

    def _lives(self, id: str, owner: str) -> bool:
        """A job whose request was written down is resumed, whatever became of the process that ran it."""
        return self._journal.request(id) is not None or super()._lives(id, owner)

    def _possible(self, request: Request[Any]) -> None:
        """Find at once what a worker would find only after its start."""
        if isinstance(request, (TrainRequest, ImportRequest)):
            check_name(request.name)
        elif isinstance(request, ExportRequest):
            self.models.resolve(request.model)

    def _check(self, request: Request[Any]) -> None:
        """Refuse what would read or write this machine's files, run code, or lacks its data."""
        if isinstance(request, TrainRequest) and isinstance(request.model, Code) and not self.allow_code:
            raise Refused(
                "This service does not run code that is sent to it.", "Its owner may start it with --allow-code."
            )
        if isinstance(request, TrainRequest) and isinstance(request.model, Graph):
            self.data.path(request.model.digest)
        if isinstance(request, ExportRequest):
            if request.out is not None:
                raise Refused("A service does not write copies to its own disk.", "Fetch the export instead.")
            return
        for name in request.__struct_fields__:
            if name not in ("data", "validation", "target"):
                continue
            value = getattr(request, name)
            if value is None and isinstance(request, ImportRequest):  # it need not have rows
                continue
            parts = value if isinstance(value, (list, tuple)) and name != "target" else [value]
            for rows in parts:
                sent = uploads_of(rows)
                for each in sent:
                    self.data.path(each.digest)
                unsent = not sent and (name == "data" or isinstance(rows, str))
                if unsent and name != "target" and not is_named_split(rows):
                    raise Refused(
                        "A service does not read files of its own disk.", "Send the rows, and name them by digest."
                    )

    def close(self) -> None:
        """Have the workers keep their state, and end them; a new service resumes their jobs.

        Answers that come in chunks end with an error that says so.
        """
        self.loader.end_generations(GenerationEnded("The service has ended.", "Try again once it is back."))
        self._pool.close()
