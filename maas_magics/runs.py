"""The jobs of one notebook or script: submitted, watched, waited for, and found again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from maas_magics.api.backend import Job, JobInfo
from maas_magics.api.callbacks import Callback
from maas_magics.api.errors import JobNotFound, MaasError, OptionError
from maas_magics.api.events import FINAL_STATES
from maas_magics.api.records import Comparison
from maas_magics.api.requests import PushRequest, Request, TrainRequest
from maas_magics.api.results import TrainedModel
from maas_magics.api.specs import CallSpec
from maas_magics.api.sweep import Sweep, SweepResult
from maas_magics.connection import Connection
from maas_magics.endpoint import Endpoint
from maas_magics.job import whole_id

R = TypeVar("R")


class Runs(Connection):
    """The jobs and sweeps that one notebook or script began.

    Parameters
    ----------
    store : str, optional
        Folder or URL of the local store; the default one when None.
    notify : callable, optional
        Gets a sentence about what happens by itself; written to stderr by default.
    """

    def __init__(self, store: str | None = None, notify: Callable[[str], None] | None = None) -> None:
        super().__init__(store)
        self._notify = notify or (lambda text: print(text, file=sys.stderr))
        self._going: dict[str, Job[Any]] = {}
        self._sweeps: dict[str, Sweep] = {}

    def connect(
        self,
        where: str,
        *,
        token_file: str | None = None,
        certificate: str | None = None,
        require_signed: str | None = None,
    ) -> None:
        """Choose where requests run; names of models mean what they mean there.

        Parameters
        ----------
        where : str
            ``"kernel"``, ``"local"``, the address of a service, or ``oip+`` or ``openai+`` and the address of another
            server.
        token_file : str, optional
            File with the token of the service.
        certificate : str, optional
            File with the certificate that the service is known by.
        require_signed : str, optional
            File of public keys: only models that one of them signed are opened there.
        """
        super().connect(where, token_file=token_file, certificate=certificate, require_signed=require_signed)
        self._forget()

    def _forget(self) -> None:
        """Let go of what was known of the backend before."""
        self._going = {}

    def serve(self, ref: str, kv_memory: str | None = None) -> Endpoint:
        """Put a model of the local store behind this machine's service, once it is there.

        Parameters
        ----------
        ref : str
            ``NAME``, ``NAME:3`` or ``NAME@alias``.
        kv_memory : str, optional
            What the keys and values of a model that writes may take, as ``"512MB"``.
        """
        self.wait_for(ref)
        return super().serve(ref, kv_memory)

    def run(
        self,
        request: Request[R],
        *,
        background: bool = False,
        live: bool = False,
        callbacks: Sequence[Callback] = (),
        track: Sequence[str] = (),
    ) -> R | Job[R]:
        """Submit a request and wait for its result, or hand out the job.

        Parameters
        ----------
        request : Request
            What to run.
        background : bool
            Return the `Job` at once.
        live : bool
            Show the live view.
        callbacks : sequence of Callback
            Get every event of the job; see `Callback`.
        track : sequence of str
            Trackers that write a training down: ``"tensorboard"``, ``"mlflow=URI"``.
        """
        from maas_magics.callbacks import heard

        listen = heard(callbacks, track)
        name = getattr(request, "name", None)
        if name is None:
            self.wait_for(getattr(request, "model", ""))
        out = getattr(request, "out", None)
        if out and "\0" in out:
            raise OptionError(f"{out!r} is not a path.", "--out FOLDER")
        if out and self._remote and "://" in out:
            raise OptionError("An export of a service is copied to this machine.", "--out FOLDER")
        if out and self._remote:
            request = msgspec.structs.replace(request, out=None)
        job: Job[R] = listen(request, self.backend.submit(request))
        if name is not None:
            self._going[name] = job
        if live:
            from maas_magics.widgets import watch

            watch(job, block=not background)
        if background:
            return job
        result = self._finish(job)
        return self._delivered(result, out) if out and self._remote else result

    def train(
        self, request: TrainRequest, call: CallSpec, *, live: bool = False, resume: bool = False
    ) -> TrainedModel | SweepResult | Job[TrainedModel] | Job[SweepResult]:
        """Train once; or sweep or race, and publish the best: see `maas_magics.sweeps.start.start_sweep`.

        Parameters
        ----------
        request : TrainRequest
            The training, or what all trainings have in common.
        call : CallSpec
            How it runs.
        live : bool
            Show the live view of a training; that of a sweep is always shown.
        resume : bool
            Whether to continue the newest sweep or race of the model instead of beginning one.
        """
        if not call.to:
            return self._train(request, call, live, resume)
        if call.background:
            raise OptionError("--to waits for the training, and --background does not.", f"%maas push NAME {call.to}")
        if self.at_home:
            from maas_magics.core.store.places import Place

            Place(call.to).names("")
        result = self._train(request, call, live, resume)
        made = getattr(result, "model", result)
        if isinstance(made, TrainedModel) and made.info.version:
            try:
                self.run(PushRequest(model=made.info.ref, url=call.to))
            except MaasError as error:
                told = f"{made.info.ref} is trained, and in the store; it was not sent: {error.message}"
                raise type(error)(told, f"%maas push {made.info.ref} {call.to}") from None
        return result

    def _train(
        self, request: TrainRequest, call: CallSpec, live: bool, resume: bool
    ) -> TrainedModel | SweepResult | Job[TrainedModel] | Job[SweepResult]:
        if call.race and call.sweep:
            raise OptionError("A race and a sweep are two things.", "Race first, then sweep what won.")
        if call.budget is not None and call.sweep:
            raise OptionError("A budget belongs to a race or to one training.", "--trials 20 bounds a sweep.")
        if not (call.race or call.sweep):
            if call.budget is not None:
                from maas_magics.sweeps.race import seconds_of

                request = msgspec.structs.replace(request, most_seconds=seconds_of(call.budget))
            found: TrainedModel | Job[TrainedModel] = self.run(
                request, background=call.background, live=live, callbacks=call.callbacks, track=call.track
            )
            return found
        from maas_magics.core.store.storage import open_storage
        from maas_magics.sweeps.start import SweepContext, start_sweep
        from maas_magics.widgets import watch

        place = "" if self.at_home else self.backend.place
        context = SweepContext(self.backend, open_storage(self.store)[1], place)
        job = start_sweep(request, call, context, resume=resume)
        self._going[request.name] = self._sweeps[job.id] = job
        watch(job, block=not call.background)
        if call.background:
            return job
        result: SweepResult | Job[SweepResult] = self._finish(job)
        return result

    def jobs(self) -> list[JobInfo]:
        """Jobs of the backend and sweeps of this session, newest first."""
        sweeps = [job.info for job in self._sweeps.values()]
        return sorted([*sweeps, *self.backend.jobs()], key=lambda info: info.created, reverse=True)

    def job(self, id: str) -> Job[Any]:
        """A job of the backend, or a sweep of this session, by its id or the first four characters of it or more.

        Parameters
        ----------
        id : str
            Id of a job, or its first four characters or more.

        Raises
        ------
        JobNotFound
            If there is none, or several begin so.
        """
        if self._sweeps and id not in self._sweeps:
            id = whole_id(id, [info.id for info in self.jobs()])
        return self._sweeps.get(id) or self.backend.job(id)

    def job_of(self, word: str | None = None, *, going: bool = False) -> Job[Any]:
        """A job by its id, or by the model that it makes or uses; the newest where nothing is named.

        Parameters
        ----------
        word : str, optional
            Name of a model, an id, or its first four characters or more.
        going : bool
            Look among those that have not ended first.

        Raises
        ------
        JobNotFound
        """
        jobs = self.jobs()
        if word is None:
            if not jobs:
                raise JobNotFound("There is no job yet.", "%train NAME --data df --target column -b makes one.")
            found = jobs
        elif any(info.id == word for info in jobs):
            return self.job(word)
        else:
            name = word.partition(":")[0].partition("@")[0]
            about = [info for info in jobs if info.model == name]
            found = [info for info in about if info.title.startswith(("train ", "sweep ", "race "))] or about
        if not found:
            return self.job(str(word))
        left = [info for info in found if info.state not in FINAL_STATES] if going else []
        return self.job((left or found)[0].id)

    def attach(self, id: str, *, wait: bool = False) -> Any:
        """Show a job again from its first event on, and hand it out; with ``wait`` its result, as `run` does.

        Parameters
        ----------
        id : str
            Id of a job, or its first four characters or more.
        wait : bool
            Whether to wait for the end and return the result.
        """
        from maas_magics.widgets import watch

        job = self.job(id)
        watch(job, block=wait)
        if not wait:
            return job
        try:
            return self._finish(job)
        except MaasError:
            if job.info.state == "succeeded":
                return job  # a prediction, whose answers went to its caller
            raise

    def compare(self, refs: Sequence[str]) -> Comparison:
        """Versions of models side by side; their curves are shown where a notebook runs this.

        Parameters
        ----------
        refs : sequence of str
            ``NAME``, ``NAME:3`` or ``NAME@alias``, one for each version.
        """
        from maas_magics.core.comparing import compare
        from maas_magics.widgets.compare import show_comparison

        for ref in refs:
            self.wait_for(ref)
        found = compare(refs, self.backend.models)
        show_comparison(found.records)
        return found

    def _delivered(self, artifact: Any, out: str) -> Any:
        """An export of a service with a copy of it here."""
        from pathlib import Path

        from maas_magics.core.delivery import deliver_files

        files = self.backend.exported(artifact.model, artifact.variant)
        place = deliver_files(files, Path(out).expanduser())
        return msgspec.structs.replace(artifact, path=str(place))

    def _finish(self, job: Job[R]) -> R | Job[R]:
        """Result of a job, or the job itself once it is paused.

        Waits in the main thread, where an interrupt stops the job cleanly and is then raised; the interrupt that comes
        before a kernel's end stops nothing that outlives it.
        """
        try:
            while True:
                try:
                    return job.result(timeout=0.2)
                except TimeoutError:
                    state = job.info.state
                    if state in FINAL_STATES:
                        return job.result()
                    if state == "paused":
                        return job
        except KeyboardInterrupt:
            from maas_magics.widgets.wish import stop_if_wished

            stop_if_wished(job)
            raise

    def wait_for(self, ref: str) -> None:
        """Wait for the job that is making the model of a name, if there is one, and notify of it.

        Parameters
        ----------
        ref : str
            ``NAME``, ``NAME:3`` or ``NAME@alias``.
        """
        name = ref.partition(":")[0].partition("@")[0]
        job = self._going.pop(name, None)
        if job is None or job.info.state in (*FINAL_STATES, "paused"):
            return
        self._notify(f"Waiting for job {job.info.id} ({job.info.title}).")
        self._finish(job)
