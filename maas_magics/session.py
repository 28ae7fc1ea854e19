"""The composition root: the requests of one notebook to the connected backend, and what its names mean."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from maas_magics.api.backend import Job, JobInfo
from maas_magics.api.callbacks import Callback
from maas_magics.api.errors import JobNotFound, MaasError, OptionError
from maas_magics.api.events import FINAL_STATES
from maas_magics.api.gallery import Gallery
from maas_magics.api.highlight import Highlighted
from maas_magics.api.records import Comparison
from maas_magics.api.requests import GenerateRequest, PredictRequest, Request, TrainRequest
from maas_magics.api.results import ModelInfo, Prediction
from maas_magics.api.search import SearchRequest, SearchResult
from maas_magics.api.specs import CallSpec
from maas_magics.api.stream import ChunkStream
from maas_magics.api.sweep import Sweep, SweepResult
from maas_magics.connection import Connection
from maas_magics.endpoint import Endpoint
from maas_magics.job import whole_id

if TYPE_CHECKING:
    from torch import nn

R = TypeVar("R")

SLOW = 2.0
"""Seconds after which a prediction shows its progress."""

FILES = ("a picture:", "a sound:")
"""How the meaning of an input begins that takes files."""

MANY_ROWS = 20_000
"""Rows from which a prediction may become slow."""


class Session(Connection):
    """The state of one notebook or script: its backend, and the jobs and sweeps that it began.

    Parameters
    ----------
    store : str, optional
        Folder or URL of the local store; the default one when None.
    notify : callable, optional
        Gets a sentence about what the session does on its own; written to stderr by default.
    """

    def __init__(self, store: str | None = None, notify: Callable[[str], None] | None = None) -> None:
        super().__init__(store)
        self._notify = notify or (lambda text: print(text, file=sys.stderr))
        self._going: dict[str, Job[Any]] = {}
        self._sweeps: dict[str, Sweep] = {}
        self._vectors: Any = None

    def connect(self, where: str, *, token_file: str | None = None, certificate: str | None = None) -> None:
        """Choose where requests run; names of models mean what they mean there.

        Parameters
        ----------
        where : str
            ``"kernel"``, ``"local"``, the address of a service, or ``oip+`` and the address of another server.
        token_file : str, optional
            File with the token of the service.
        certificate : str, optional
            File with the certificate that the service is known by.
        """
        super().connect(where, token_file=token_file, certificate=certificate)
        self._going, self._vectors = {}, None

    def serve(self, ref: str) -> Endpoint:
        """Put a model of the local store behind this machine's service, once it is there.

        Parameters
        ----------
        ref : str
            ``NAME``, ``NAME:3`` or ``NAME@alias``.
        """
        self.wait_for(ref)
        return super().serve(ref)

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

    def sweep(
        self,
        request: TrainRequest,
        line: str,
        *,
        trials: int = 20,
        resume: bool = False,
        background: bool = False,
        callbacks: Sequence[Callback] = (),
        track: Sequence[str] = (),
    ) -> SweepResult | Job[SweepResult]:
        """Train with many values, and publish the best; see `maas_magics.sweeps.start.start_sweep`.

        Parameters
        ----------
        request : TrainRequest
            The training of each trial, but for the values that the sweep sets.
        line : str
            What is searched, such as ``"lr=1e-4..1e-1 log, hidden=[64,128]"``.
        trials : int
            Number of trainings.
        resume : bool
            Whether to continue the newest sweep of the model instead of beginning one.
        background : bool
            Return the `Job` at once.
        callbacks : sequence of Callback
            Get every event of the sweep.
        track : sequence of str
            Trackers of each trial: ``"tensorboard"``, ``"mlflow=URI"``.
        """
        from maas_magics.core.store.storage import open_storage
        from maas_magics.sweeps.start import start_sweep
        from maas_magics.widgets import watch

        job = start_sweep(
            request,
            line,
            trials,
            self.backend,
            open_storage(self.store)[1],
            "" if self.at_home else self.backend.place,
            resume=resume,
            callbacks=callbacks,
            track=track,
        )
        self._going[request.name] = self._sweeps[job.id] = job
        watch(job, block=not background)
        return job if background else self._finish(job)

    def race(self, request: TrainRequest, call: CallSpec, *, resume: bool = False) -> SweepResult | Job[SweepResult]:
        """Train several networks, and publish the best; see `maas_magics.sweeps.start.start_race`.

        Parameters
        ----------
        request : TrainRequest
            What all have in common.
        call : CallSpec
            With ``race``.
        resume : bool
            Whether to continue the newest race of the model instead of beginning one.
        """
        from maas_magics.core.store.storage import open_storage
        from maas_magics.sweeps.start import start_race
        from maas_magics.widgets import watch

        job = start_race(
            request,
            call.budget,
            self.backend,
            open_storage(self.store)[1],
            "" if self.at_home else self.backend.place,
            resume=resume,
            callbacks=call.callbacks,
            track=call.track,
        )
        self._going[request.name] = self._sweeps[job.id] = job
        watch(job, block=not call.background)
        return job if call.background else self._finish(job)

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

    def predict(self, request: PredictRequest, show: Callable[[Highlighted], None] | None = None) -> Any:
        """Answers in the library the rows came from.

        Parameters
        ----------
        request : PredictRequest
            Model and rows.
        show : callable, optional
            Gets the texts with their entities marked, where the model finds such.
        """
        if self._going:
            self.wait_for(request.model)
        data = request.data
        if isinstance(data, str) and self._is_text(data, request.model):
            data = self.read_text(data, request.model)
            request = msgspec.structs.replace(request, data=data)
        if type(data).__module__ == "numpy" and data.ndim and data.dtype.kind in "biuf" and not request.top:
            answered = self._asked(request, len(data))
            columns = answered.columns
            wanted = "probabilities" if request.probabilities else "prediction"
            if wanted not in columns:
                return _of_heads(columns, self.backend.models.get(answered.model), request)
            found = columns[wanted]
            if type(found) is type(data):
                return found
            from maas_magics.core.data.sources import as_numpy

            return as_numpy(found)
        from maas_magics.core.data.sources import notes_of, open_source

        source = open_source(data, request.csv)  # once: a lazy table is worked out, a stream read, a single time
        for note in notes_of(source):
            self._notify(note)
        prediction = self._asked(msgspec.structs.replace(request, data=source, csv=None), source.rows)
        for warning in prediction.warnings:
            self._notify(warning)
        columns = prediction.columns
        if show is not None:
            self._show(source, prediction, show)
        if source.arrays:
            if "top_1" in columns:
                return source.restore(columns)
            wanted = "probabilities" if request.probabilities else "prediction"
            if wanted in columns:
                return source.restore({"": columns[wanted]})
            return source.restore(_of_heads(columns, self.backend.models.get(prediction.model), request))
        info = self.backend.models.get(prediction.model)
        return source.restore(_flat(columns, info))

    def _show(self, source: Any, prediction: Prediction, show: Callable[[Highlighted], None]) -> None:
        from maas_magics.core.highlighting import highlighted

        found = highlighted(source, prediction.columns, self.backend.models.get(prediction.model))
        if found is not None:
            show(found)

    def highlight(self, request: PredictRequest) -> Highlighted:
        """Texts with the entities that a model finds in them.

        Parameters
        ----------
        request : PredictRequest
            Model and rows.
        """
        found: list[Highlighted] = []
        self.predict(request, found.append)
        if not found:
            raise OptionError(
                f"{request.model} finds no entities in texts.", "%train NAME --data df --target spans, or tags"
            )
        return found[0]

    def search(self, request: SearchRequest) -> SearchResult:
        """Rows of a table that are most like a text; vectors of the newest tables are kept.

        Parameters
        ----------
        request : SearchRequest
            Model, query and table.
        """
        from maas_magics.core.data.sources import open_source
        from maas_magics.core.searching import Vectors, search

        self.wait_for(request.model)
        info = self.backend.models.get(request.model)

        def ask(texts: Any) -> Any:
            source = open_source(texts)
            columns = self._asked(PredictRequest(model=info.ref, data=source), source.rows).columns
            return next(iter(columns.values()))

        self._vectors = self._vectors or Vectors()
        return search(request, info, ask, self._vectors)

    def generate(self, request: GenerateRequest) -> ChunkStream:
        """An answer in chunks; of a model that answers in one pass one chunk, with what `predict` gives.

        Parameters
        ----------
        request : GenerateRequest
            Model, inputs of one row and limits.
        """
        from maas_magics.core.chunks import in_one_pass

        if self._going:
            self.wait_for(request.model)
        info = self.backend.models.get(request.model)
        if info.iterative:
            return self.backend.generate(request)
        return in_one_pass(request, self.predict, info.ref)

    def gallery(self, request: PredictRequest, answers: Any, *, only_files: bool = False) -> Gallery | None:
        """The first rows with their answers, where a column holds pictures or sounds; else None.

        Parameters
        ----------
        request : PredictRequest
            Model and rows.
        answers : Any
            What `predict` answered.
        only_files : bool
            Whether arrays are no pictures.
        """
        from maas_magics.core.gallery import answered

        inputs = self.backend.models.get(request.model).signature.inputs
        if only_files and not any(spec.meaning.startswith(FILES) for spec in inputs):
            return None
        return answered(request.data, request.csv, answers, request.model, only_files)

    def augmented(self, data: Any, ways: Sequence[str], rows: int, seed: int, csv: str | None) -> Gallery:
        """Rows as they are, and beside each as a training may vary it.

        Parameters
        ----------
        data : Any
            Rows, as for `predict`.
        ways : sequence of str
            Ways in which they are varied.
        rows : int
            How many.
        seed : int
            Of the random numbers.
        csv : str or None
            How CSV files are written.
        """
        from maas_magics.core.gallery import augmented

        return augmented(data, ways, rows, seed, csv)

    def _asked(self, request: PredictRequest, rows: int | None) -> Prediction:
        """Answers by the short path, or through a job that is watched where there may be many rows."""
        if rows is not None and rows <= MANY_ROWS:
            return self.backend.predict(request)
        job = self.backend.submit(request)
        try:
            return job.result(timeout=SLOW)
        except TimeoutError:
            from maas_magics.widgets import watch

            watch(job)
            found = self._finish(job)
            assert isinstance(found, Prediction)
            return found
        except KeyboardInterrupt:
            from maas_magics.widgets.wish import stop_if_wished

            stop_if_wished(job)
            raise

    def read_rows(self, text: str, model: str) -> Any:
        """Rows that stand in a cell: CSV, JSON, or JSON lines.

        Parameters
        ----------
        text : str
            The cell.
        model : str
            Model that the rows are for; its signature decides how texts and numbers are read.
        """
        from maas_magics.core.data.text import from_cell, read_rows

        return from_cell(read_rows(text, self.backend.models.get(model).signature.inputs))

    def _is_text(self, data: str, model: str) -> bool:
        """Whether a text is one to answer, and not a path: of several words, for a model that takes one text."""
        if " " not in data.strip() or (any(mark in data for mark in "*?[") and "/" in data) or os.path.exists(data):
            return False
        inputs = self.backend.models.get(model).signature.inputs
        return len(inputs) == 1 and inputs[0].datatype == "BYTES"

    def read_text(self, text: str, model: str) -> Any:
        """One row that is a text, for a model that takes one.

        Parameters
        ----------
        text : str
            The cell.
        model : str
            Model that the text is for.
        """
        from maas_magics.core.data.text import one_text

        return one_text(text, self.backend.models.get(model).signature.inputs)

    def load(self, ref: str) -> nn.Module:
        """The trained network of a version, in eval mode.

        Parameters
        ----------
        ref : str
            ``NAME``, ``NAME:3`` or ``NAME@alias``.
        """
        from maas_magics.core.inference.loader import Loader
        from maas_magics.core.networks.outputs import as_written
        from maas_magics.core.store.models import Store

        self.wait_for(ref)
        backend = self.backend
        if not isinstance(backend.models, Store):
            raise OptionError("The model is on another machine; its network is not here.")
        loader: Loader = backend.loader  # type: ignore[attr-defined]
        return as_written(loader.model(*backend.models.whole(ref)).net)


def _of_heads(columns: dict[str, Any], info: ModelInfo, request: PredictRequest) -> dict[str, Any]:
    """An array for each head of a model of several: its answer, or the probabilities of its labels."""
    from maas_magics.core.data.sources import as_numpy

    wanted = {head: f"{head}_probabilities" if request.probabilities else head for head in info.target}
    return {head: as_numpy(columns.get(name, columns[head])) for head, name in wanted.items()}


def _flat(columns: dict[str, Any], info: ModelInfo) -> dict[str, Any]:
    """One column for each number: probabilities by label, several predictions by target."""
    flat: dict[str, Any] = {}
    for name, values in columns.items():
        if getattr(values, "ndim", 1) == 1:
            flat[name] = values
            continue
        if info.vector:
            from maas_magics.core.data.vectors import one_column

            flat[name] = one_column(values)
            continue
        head = name.removesuffix("_probabilities")
        labels: Sequence[Any]
        if name == "probabilities":
            prefix, labels = "probability", info.classes
        elif name != head and head in info.head_classes:
            prefix, labels = f"{head}_probability", info.head_classes[head]
        else:
            prefix, labels = name, info.target
        width = values.shape[1]
        shown: Sequence[Any] = labels if len(labels) == width else range(width)
        flat |= {f"{prefix}_{label}": values[:, i] for i, label in enumerate(shown)}
    return flat


_session: Session | None = None


def current() -> Session:
    """The session of this process, made on first use."""
    global _session
    if _session is None:
        _session = Session()
    return _session
