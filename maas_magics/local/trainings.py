"""What is kept of trainings, so that they can be resumed: one folder of checkpoints for each name."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from maas_magics.api import private
from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import MaasError, OptionError, StoreError
from maas_magics.api.events import FINAL_STATES
from maas_magics.api.requests import Request, TrainRequest
from maas_magics.api.wire import decode_request
from maas_magics.core.store.journal import Journal
from maas_magics.job import named
from maas_magics.local.process import alive


class Trainings:
    """Folders of checkpoints, by job; of every name the newest is kept.

    Parameters
    ----------
    place : Path
        Holds a folder for each job.
    journal : Journal
    names : callable
        Names of the models that are there.
    """

    def __init__(self, place: Path, journal: Journal, names: Callable[[], Sequence[str]]) -> None:
        self._place = place
        self._names = names
        self._journal = journal
        self._asked: dict[str, TrainRequest] = {}
        self._taken_up: dict[str, tuple[TrainRequest | None, list[int]]] = {}
        """By job: the request that it continued from, and when what it took up was written."""

    def folder(self, id: str) -> Path:
        """Checkpoints of a job."""
        return self._place / id

    def has(self, id: str) -> bool:
        """Whether a job has a checkpoint."""
        return bool(self._checkpoints(id))

    def _checkpoints(self, id: str) -> list[Path]:
        """Checkpoints of a job; none where another one takes them up at this moment."""
        with contextlib.suppress(FileNotFoundError):
            return list(self.folder(id).glob("checkpoint-*.pt"))
        return []

    def find(self, request: Request[Any]) -> str:
        """Job that a request resumes from; empty where it resumes from none.

        Raises
        ------
        OptionError
            If there is none, or someone is at it.
        """
        if not isinstance(request, TrainRequest) or not request.resume:
            return ""
        jobs = self._of(request.name)
        if isinstance(request.resume, str):
            jobs = [(info, owner) for info, owner in jobs if named(info.id, request.resume)]
        for info, owner in jobs:
            if self._goes_on(info, owner):
                word = "resume" if info.state == "paused" else "attach"
                raise OptionError(f"The job {info.id} ({info.title}) is {info.state}.", f"%maas {word} {info.id}")
            if self.has(info.id):
                return info.id
        raise OptionError(f"There is no checkpoint of a training of {request.name!r}.", "Drop --resume.")

    def _of(self, name: str) -> list[tuple[JobInfo, str]]:
        """Trainings of a name with their owners, newest first."""
        return [(info, owner) for info, owner in self._journal.jobs() if info.title == f"train {name}"]

    def _goes_on(self, info: JobInfo, owner: str) -> bool:
        """Whether someone runs a training, or will."""
        return info.state not in FINAL_STATES and (alive(owner) or self._journal.request(info.id) is not None)

    def whole(self, request: TrainRequest, earlier: str) -> TrainRequest:
        """A request with everything that it leaves out to the one before.

        Raises
        ------
        OptionError
            If there is no data, and no one here knows what it was.
        """
        if not earlier or request.data is not None:
            if request.data is None:
                raise OptionError("There is no data to learn from.", "--data df --target column")
            return request
        before = self._line(earlier)
        if before is None and (written := self._journal.request(earlier)) is not None:
            found: Any = decode_request(written)
            before = found
        if before is None:
            raise OptionError(
                f"The data of the training of {request.name!r} is not here any more.",
                "Repeat the whole line, with --resume.",
            )
        said = {
            field.name: value
            for field in msgspec.structs.fields(TrainRequest)
            if (value := getattr(request, field.name)) is not None
            and not (isinstance(value, (str, int, float, bool, tuple, dict)) and value == field.default)
            and not (isinstance(value, dict) and not value)
        }
        return msgspec.structs.replace(before, **said)

    def begin(self, id: str, request: TrainRequest, earlier: str) -> None:
        """Note a request for later, and give its job the checkpoints that it resumes from."""
        self._asked[id] = request
        with contextlib.suppress(OSError):  # a disk that takes nothing is reported when something is to be kept
            private.folder(self._place)
        if earlier:
            before = self._line(earlier)
            try:
                os.replace(self.folder(earlier), self.folder(id))
            except OSError as error:
                raise MaasError(f"The checkpoints of the job {earlier} cannot be resumed from: {error}") from None
            self._asked.pop(earlier, None)
            self._taken_up.pop(earlier, None)
            self._taken_up[id] = before, self._written(id)

    def _line(self, id: str) -> TrainRequest | None:
        """The request that the checkpoints of a job were made by, where it was made here."""
        before, written = self._taken_up.get(id, (None, []))
        if before is not None and written == self._written(id):
            return before  # nothing came of what was requested since
        return self._asked.get(id)

    def _written(self, id: str) -> list[int]:
        found = []
        for file in self._checkpoints(id):
            with contextlib.suppress(FileNotFoundError):
                found.append(file.stat().st_mtime_ns)
        return sorted(found)

    def ended(self, info: JobInfo) -> None:
        """Keep no more than the newest checkpoints of a name, and none of models that were removed.

        Raises nothing, as the thread that says so has other trainings to run: what cannot be removed now is removed
        after the next one.
        """
        if not self.has(info.id):
            self._asked.pop(info.id, None)
            return
        with contextlib.suppress(OSError, StoreError):
            self._tidy(info)

    def _tidy(self, info: JobInfo) -> None:
        names = self._names()
        for other, _ in self._journal.jobs():
            older = other.title == info.title and other.id != info.id and other.state in FINAL_STATES
            if older or (other.state in ("succeeded", "stopped") and other.model not in names):
                self.forget(other.id)

    def remove(self, name: str) -> None:
        """Keep nothing of a model that was removed but what a training of it that continues needs."""
        over = {info.id for info, owner in self._of(name) if not self._goes_on(info, owner)}
        self._asked = {id: kept for id, kept in self._asked.items() if id not in over}
        for id in over:
            self.forget(id)

    def forget(self, id: str) -> None:
        """Remove the checkpoints of a job."""
        self._asked.pop(id, None)
        self._taken_up.pop(id, None)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder(id))
