"""The one seam: what a place that runs requests can do.

The local backend runs them in this process; a remote one sends the same values over a
wire. Nothing above this seam knows which of the two it speaks to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec

from maas_magics.api.events import Event, State
from maas_magics.api.records import ModelRecord
from maas_magics.api.requests import GenerateRequest, PredictRequest, Request
from maas_magics.api.results import ModelInfo, Prediction
from maas_magics.api.stream import ChunkStream

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class JobInfo(msgspec.Struct, frozen=True):
    """One line of a list of jobs.

    Attributes
    ----------
    id : str
    title : str
        What it does, for display.
    model : str
        Name of the model it makes or uses.
    state : State
    created : float
        Seconds since the Unix epoch.
    """

    id: str
    title: str
    model: str
    state: State
    created: float


@runtime_checkable
class Job(Protocol[R_co]):
    """One submitted execution."""

    @property
    def info(self) -> JobInfo:
        """Id, title, model and present state."""

    def events(self, after: int = 0, follow: bool = True) -> Iterator[Event]:
        """Replay every event with ``seq > after``, and, if ``follow``, yield the rest until ``Finished``.

        Parameters
        ----------
        after : int
            Sequence number of the last event that is known; 0 for all events.
        follow : bool
            Whether to wait for events to come.
        """

    def result(self, timeout: float | None = None) -> R_co:
        """Wait for the result.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.

        Raises
        ------
        TimeoutError
            If it is not there in time.
        Exception
            Whatever the job raised.
        """

    def stop(self) -> None:
        """Stop gracefully, keeping the best checkpoint; a second call drops the current work."""

    def pause(self) -> None:
        """Keep the state of a training on disk, and let others run.

        Raises
        ------
        MaasError
            If it is not a training.
        """

    def resume(self) -> None:
        """Continue where `pause` left off."""


class ModelStore(Protocol):
    """Models that the backend keeps."""

    def list(self) -> Sequence[ModelInfo]:
        """Newest version of every model, by name."""

    def get(self, ref: str) -> ModelInfo:
        """What ``NAME``, ``NAME:3`` or ``NAME@alias`` names.

        Parameters
        ----------
        ref : str
            A name stands for its newest version.
        """

    def versions(self, name: str) -> Sequence[ModelInfo]:
        """Every version of a model, oldest first.

        Parameters
        ----------
        name : str
            Name of a model, without version or alias.
        """

    def record(self, ref: str) -> ModelRecord:
        """All that is written down of the version that ``ref`` names.

        Parameters
        ----------
        ref : str
            ``NAME``, ``NAME:3`` or ``NAME@alias``.
        """

    def alias(self, ref: str, alias: str) -> None:
        """Make ``NAME@alias`` name the version that ``ref`` names now.

        Parameters
        ----------
        ref : str
            ``NAME``, ``NAME:3`` or ``NAME@alias``.
        alias : str
            Name for the version; it moves if it is there already.
        """

    def delete(self, ref: str) -> None:
        """Remove a version (``NAME:3``) or a whole model (``NAME``).

        Parameters
        ----------
        ref : str
            ``NAME:3`` or ``NAME@alias`` for one version, ``NAME`` for all of them.
        """


class Inferred(msgspec.Struct, frozen=True):
    """Outputs of a model by the names of its signature.

    Attributes
    ----------
    model : str
        ``name:version`` that answered.
    outputs : dict of str to ndarray
        First axis: rows. Text as objects.
    blank : ndarray of bool, optional
        Rows whose answers rest on nothing, where there are such.
    warnings : tuple of str
        What a server reported about the answers.
    """

    model: str
    outputs: dict[str, Any]
    blank: Any = None
    warnings: tuple[str, ...] = ()


class DataStore(Protocol):
    """Data sent ahead of a request, in chunks, under the SHA-256 of its bytes."""

    def offset(self, digest: str) -> int:
        """Bytes that are there, −1 once all are there and were checked.

        Parameters
        ----------
        digest : str
            SHA-256 of the whole data, 64 hexadecimal digits.
        """

    def append(self, digest: str, offset: int, chunk: bytes, total: int) -> int:
        """Write bytes from ``offset`` on; returns what `offset` does.

        Parameters
        ----------
        digest : str
            SHA-256 of the whole data, 64 hexadecimal digits.
        offset : int
            Bytes before ``chunk``.
        chunk : bytes
            The next part of the data.
        total : int
            Bytes of the whole data.

        Raises
        ------
        DataError
            If ``offset`` is not where the bytes end, or the whole does not have the digest.
        """


class Jobs(Protocol):
    """A place that runs requests as jobs."""

    def submit(self, request: Request[R], key: str = "") -> Job[R]:
        """Start a job, or queue it behind those that run.

        Parameters
        ----------
        request : Request
            What to run.
        key : str
            Chosen by the caller; a second request with the same key returns the job of the first one.
        """

    def job(self, id: str) -> Job[Any]:
        """A job by its id, or by the first four characters of it or more.

        Parameters
        ----------
        id : str
            Id of a job, or its first four characters or more.
        """

    def jobs(self) -> Sequence[JobInfo]:
        """Every job known, newest first."""


class Inference(Protocol):
    """A place that runs models."""

    def predict(self, request: PredictRequest) -> Prediction:
        """Predict with a model: the short path, which makes no job.

        Parameters
        ----------
        request : PredictRequest
            Model and rows.
        """

    def infer(self, model: str, inputs: Mapping[str, Any]) -> Inferred:
        """Tensors in, tensors out, by the names of the model's signature.

        Parameters
        ----------
        model : str
            ``NAME``, ``NAME:3`` or ``NAME@alias``.
        inputs : mapping of str to ndarray, shape (n, …)
            An array for each input of the signature; the first axis holds rows.

        Raises
        ------
        DataError
            If the inputs do not fit the signature.
        """

    def generate(self, request: GenerateRequest) -> ChunkStream:
        """Begin one answer that comes in chunks; of a model that answers in one pass it is one chunk with all of it.

        What is wrong with the request is raised here, what goes wrong later while the stream is read.

        Parameters
        ----------
        request : GenerateRequest
            Model, inputs of one row and limits.

        Raises
        ------
        ModelNotFound, ModelClosed
        OptionError
            If a value is out of range.
        DataError
            If the inputs do not fit the signature.
        """

    def load(self, model: str, kv_memory: int | None = None) -> None:
        """Open a model so that the first request finds it open; undoes `unload`.

        Parameters
        ----------
        model : str
            ``NAME``, ``NAME:3`` or ``NAME@alias``.
        kv_memory : int or None
            Bytes that the keys and values of a model that writes may take; as before when None.
        """

    def unload(self, model: str) -> None:
        """Close a model; it answers nothing until it is loaded again.

        Parameters
        ----------
        model : str
            ``NAME``, ``NAME:3`` or ``NAME@alias``.
        """

    def loaded(self) -> Mapping[str, bool]:
        """Models (``name:version``) that are open (True) or were closed by `unload` (False)."""

    def traffic(self) -> Mapping[str, float]:
        """Statistics of the models: requests, rows, milliseconds of a request, waiting; empty if not counted."""

    def kept_back(self) -> Mapping[str, Any]:
        """What its owner keeps back: ``harden``, requests a second as ``rate``, ``tokens_per_minute``; or nothing."""


class Models(Protocol):
    """A place that keeps models."""

    @property
    def models(self) -> ModelStore:
        """Models kept there."""

    def publish(self, candidate: str, name: str) -> ModelInfo:
        """Make a candidate of a sweep the next version of ``name``, and remove every other candidate of that sweep.

        Parameters
        ----------
        candidate : str
            ``NAME.sweep-ID:3``.
        name : str
            The model that gets the version.

        Raises
        ------
        OptionError
            If ``candidate`` is not a candidate of a sweep.
        """

    def exported(self, model: str, variant: str) -> Mapping[str, bytes]:
        """Files of an export, by name.

        Parameters
        ----------
        model : str
            ``NAME``, ``NAME:3`` or ``NAME@alias``.
        variant : str
            Name of the export, such as ``"onnx"``.

        Raises
        ------
        ModelNotFound
            If the version has no such export.
        """


class Backend(Jobs, Inference, Models, Protocol):
    """A place that runs requests: all that a cell may request."""

    @property
    def place(self) -> str:
        """Where it is, for display: a folder, or a URL without secrets."""

    @property
    def data(self) -> DataStore:
        """Data that requests may name by digest."""
