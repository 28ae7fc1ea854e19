"""The composition root: which backend this notebook speaks to, and what its names mean."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from maas_magics.api.backend import Backend, Job
from maas_magics.api.callbacks import Callback
from maas_magics.api.endpoint import Endpoint
from maas_magics.api.errors import OptionError
from maas_magics.api.events import FINAL_STATES
from maas_magics.api.place import default_place
from maas_magics.api.records import Comparison
from maas_magics.api.requests import PredictRequest, Request, TrainRequest
from maas_magics.api.results import ModelInfo, Prediction
from maas_magics.api.sweep import SweepResult

if TYPE_CHECKING:
    from torch import nn

R = TypeVar("R")

SLOW = 2.0
"""Seconds after which a prediction shows its progress."""

MANY_ROWS = 20_000
"""Rows from which a prediction may become slow."""


class Session:
    """What one notebook or script says to a backend.

    Parameters
    ----------
    store : str, optional
        Folder or URL of the local store; the default one when None.
    tell : callable, optional
        Gets a sentence about what the session does on its own; written to stderr by default.
    """

    def __init__(self, store: str | None = None, tell: Callable[[str], None] | None = None) -> None:
        self._store = store
        self._tell = tell or (lambda text: print(text, file=sys.stderr))
        self._backend: Backend | None = None
        self._remote = False
        self._here = False
        self._token = ""
        self._lock = threading.Lock()
        self._going: dict[str, Job[Any]] = {}

    @property
    def store(self) -> str:
        """Folder or URL of the local store."""
        return self._store or default_place()

    @property
    def backend(self) -> Backend:
        """Where requests run; the local one is made on first use."""
        with self._lock:
            if self._backend is None:
                from maas_magics.local.backend import LocalBackend

                self._backend = LocalBackend(self.store)
            return self._backend

    @property
    def remote(self) -> bool:
        """Whether requests run outside this kernel."""
        return self._remote

    def connect(self, where: str, *, token_file: str | None = None, certificate: str | None = None) -> None:
        """Choose where requests run.

        Parameters
        ----------
        where : str
            ``"kernel"``, ``"local"`` for this machine's service, the address of a service, or the address of any
            server of the Open Inference Protocol with ``oip+`` before it.
        token_file, certificate : str, optional
            File with the token for it, and with the certificate that it is known by.

        Raises
        ------
        MaasError
            If it cannot be reached, or does not take the token; the session stays where it was.
        """
        made: Backend | None
        token = ""
        if where == "kernel":
            made = None
        elif where == "local":
            made, token = self._local_service()
        else:
            from maas_magics.remote.connect import check_url, token_for

            token = token_file or "$MAAS_TOKEN"
            plain = where.removeprefix("oip+")
            url = check_url(plain)
            made = _reach(url, token_for(url, token_file), certificate, only_inference=plain != where)
        with self._lock:
            # The backend before stays open: jobs of it may be watched still.
            self._backend, self._remote, self._token = made, made is not None, token
            self._here = where == "local"
            self._going = {}

    def _local_service(self) -> tuple[Backend, str]:
        """Service of this machine, and the file with its token."""
        from maas_magics.api.secrets import read_token
        from maas_magics.core.storage import open_storage
        from maas_magics.remote.connect import start_local, token_file

        work = open_storage(self.store)[1]
        running = start_local(self.store, work)
        file = token_file(work)
        return _reach(running.url, lambda: read_token(file), None, only_inference=False), str(file)

    def where(self) -> str:
        """Where requests run, for a person."""
        if not self._remote:
            return "Cells run in this kernel."
        return f"Cells run on {self.backend.place}."

    def serve(self, ref: str) -> Endpoint:
        """Put a model of the local store behind this machine's service."""
        from pathlib import Path

        self.wait_for(ref)
        backend, token = (self.backend, self._token) if self._remote else self._local_service()
        info = backend.models.get(ref)
        backend.load(ref)
        if token and not token.startswith("$"):
            with contextlib.suppress(ValueError):
                token = "~/" + Path(token).expanduser().relative_to(Path.home()).as_posix()
        name = info.ref if ":" in ref or "@" in ref else info.name
        return Endpoint(model=name, url=backend.place, token=token, signature=info.signature)

    def stop_serving(self, ref: str | None) -> str:
        """Close one model, or stop this machine's service; says what was done."""
        from maas_magics.core.storage import open_storage
        from maas_magics.remote.connect import find_local, stop_local

        work = open_storage(self.store)[1]
        if ref is not None:
            if self._remote:
                self.backend.unload(ref)
            elif find_local(work) is not None:
                self._local_service()[0].unload(ref)
            return f"{ref} is closed."
        return "The service has stopped." if stop_local(work) else "No service of this store runs on this machine."

    def model_names(self) -> list[str]:
        """Names of the models, without loading what runs them."""
        if self._remote:
            return [info.name for info in self.backend.models.list()]
        from maas_magics.core.storage import open_storage

        return open_storage(self.store)[0].names()

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
        background : bool
            Return the `Job` at once.
        live : bool
            Show the live view.
        callbacks : sequence of Callback
            Are told every event of the job; see `Callback`.
        track : sequence of str
            Trackers that write a training down: ``"tensorboard"``, ``"mlflow=URI"``.
        """
        from maas_magics.listening import heard

        listen = heard(callbacks, track)
        name = getattr(request, "name", None)
        if name is None:
            self.wait_for(getattr(request, "model", ""))
        out = getattr(request, "out", None)
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
        """Train with many values, and publish the best; see `maas_magics.sweeps.start.start_sweep`."""
        from maas_magics.core.storage import open_storage
        from maas_magics.sweeps.start import start_sweep
        from maas_magics.widgets.sweep import watch_sweep

        # The kernel and this machine's service keep their models in one store.
        place = "" if not self._remote or self._here else self.backend.place
        job = start_sweep(
            request,
            line,
            trials,
            self.backend,
            open_storage(self.store)[1],
            place,
            resume=resume,
            callbacks=callbacks,
            track=track,
        )
        self._going[request.name] = job
        watch_sweep(job, block=not background)
        return job if background else self._finish(job)

    def compare(self, refs: Sequence[str]) -> Comparison:
        """Versions of models side by side; their curves are shown where a notebook runs this."""
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

        Waits in the main thread, where an interrupt stops the job cleanly and is then raised.
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
            job.stop()
            raise

    def wait_for(self, ref: str) -> None:
        """If a job is making the model that ``ref`` names, say so and wait for it."""
        name = ref.partition(":")[0].partition("@")[0]
        job = self._going.pop(name, None)
        if job is None or job.info.state in (*FINAL_STATES, "paused"):
            return
        self._tell(f"Waiting for job {job.info.id} ({job.info.title}).")
        self._finish(job)

    def predict(self, request: PredictRequest) -> Any:
        """Answers in the library the rows came from."""
        if self._going:
            self.wait_for(request.model)
        data = request.data
        if type(data).__module__ == "numpy" and data.ndim and data.dtype.kind in "biuf" and not request.top:
            found = self._asked(request, len(data)).columns["probabilities" if request.probabilities else "prediction"]
            if type(found) is type(data):
                return found
            from maas_magics.core.data.sources import as_numpy

            return as_numpy(found)
        from maas_magics.core.data.sources import open_source

        source = open_source(data)  # once: a lazy table is worked out, and a stream read, a single time
        prediction = self._asked(msgspec.structs.replace(request, data=source), source.rows)
        columns = prediction.columns
        if source.arrays:
            if "top_1" in columns:
                return source.restore(columns)
            return source.restore({"": columns["probabilities" if request.probabilities else "prediction"]})
        info = self.backend.models.get(prediction.model)
        return source.restore(_flat(columns, info))

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
            job.stop()
            raise

    def read_rows(self, text: str, model: str) -> Any:
        """Rows that stand in a cell: CSV, JSON, or JSON lines."""
        from maas_magics.core.data.text import read_rows

        return read_rows(text, self.backend.models.get(model).signature.inputs)

    def load(self, ref: str) -> nn.Module:
        """The trained network of a version, in eval mode."""
        from maas_magics.core.inference.loader import Loader
        from maas_magics.core.store import Store

        self.wait_for(ref)
        backend = self.backend
        if not isinstance(backend.models, Store):
            raise OptionError("The model is on another machine; its network is not here.")
        loader: Loader = backend.loader  # type: ignore[attr-defined]
        return loader.model(*backend.models.resolve(ref)).net


def _flat(columns: dict[str, Any], info: ModelInfo) -> dict[str, Any]:
    """One column for each number: probabilities by label, several predictions by target."""
    flat: dict[str, Any] = {}
    for name, values in columns.items():
        if getattr(values, "ndim", 1) == 1:
            flat[name] = values
            continue
        prefix, labels = ("probability", info.classes) if name == "probabilities" else (name, info.target)
        width = values.shape[1]
        shown: Sequence[Any] = labels if len(labels) == width else range(width)
        flat |= {f"{prefix}_{label}": values[:, i] for i, label in enumerate(shown)}
    return flat


def _reach(url: str, token: Callable[[], str], certificate: str | None, *, only_inference: bool) -> Backend:
    """A backend that has answered, and takes the token."""
    from maas_magics.remote.client import Client

    client = Client(url, token, certificate)
    try:
        if only_inference:
            from maas_magics.remote.inference import InferenceBackend

            return InferenceBackend(client)
        from maas_magics.remote.backend import RemoteBackend

        backend = RemoteBackend(client)
        backend.check()
        return backend
    except BaseException:
        client.close()
        raise


_session: Session | None = None


def current() -> Session:
    """The session of this process, made on first use."""
    global _session
    if _session is None:
        _session = Session()
    return _session


def load(shell: Any) -> None:
    """Register the magics and their completion."""
    from maas_magics.magics import register

    register(shell, current())


def unload(shell: Any) -> None:
    """Take the magics and their completion away."""
    from maas_magics.magics import unregister

    unregister(shell)
