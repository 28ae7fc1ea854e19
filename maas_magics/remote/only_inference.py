"""What backends have in common whose servers answer with models, and do nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeVar

from maas_magics.api.backend import Job, JobInfo
from maas_magics.api.errors import Refused
from maas_magics.api.records import ModelRecord
from maas_magics.api.requests import PredictRequest, Request
from maas_magics.api.results import ModelInfo, Prediction
from maas_magics.remote.client import Client
from maas_magics.remote.job import AskingJob

R = TypeVar("R")


def refuse(protocol: str, what: str) -> NoReturn:
    """Say that a protocol has no such thing.

    Parameters
    ----------
    protocol : str
        Its name.
    what : str
        What its servers do not do, as the rest of a sentence.

    Raises
    ------
    Refused
    """
    raise Refused(f"A server of {protocol} {what}.", "%connect a service of maas_magics, or kernel.")


class OnlyModels:
    """Models of a server that tells of them, and lets no one change them; a subclass has ``list`` and ``get``.

    Parameters
    ----------
    client : Client
        Speaks to the server.
    protocol : str
        Name of what it speaks.
    """

    def __init__(self, client: Client, protocol: str) -> None:
        self._client, self._protocol = client, protocol

    def get(self, ref: str) -> ModelInfo:
        """What a name stands for."""
        raise NotImplementedError

    def versions(self, name: str) -> Sequence[ModelInfo]:
        """The one that answers."""
        return [self.get(name)]

    def record(self, ref: str) -> ModelRecord:
        """No such thing in the protocol."""
        return refuse(self._protocol, "does not report how a model was trained")

    def alias(self, ref: str, alias: str) -> None:
        """No such thing in the protocol."""
        refuse(self._protocol, "gives models no aliases")

    def delete(self, ref: str) -> None:
        """No such thing in the protocol."""
        refuse(self._protocol, "removes no models")


class _NoData:
    """A server that takes no data ahead of a request.

    Parameters
    ----------
    protocol : str
        Name of what it speaks.
    """

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol

    def offset(self, digest: str) -> int:
        """Nothing is ever there."""
        return 0

    def append(self, digest: str, offset: int, chunk: bytes, total: int) -> int:
        """No such thing in the protocol."""
        return refuse(self._protocol, "keeps no data")


class _Listed(Protocol):
    def list(self) -> Sequence[ModelInfo]: ...


class OnlyInference:
    """Asks the models of a server; a subclass has ``models``, and answers.

    Parameters
    ----------
    client : Client
        Speaks to the server.
    protocol : str
        Name of what it speaks.
    """

    models: Any
    """What the server tells of its models."""

    def __init__(self, client: Client, protocol: str) -> None:
        self._client, self._protocol = client, protocol
        self.data = _NoData(protocol)

    @property
    def place(self) -> str:
        """URL of the server."""
        return self._client.url

    def submit(self, request: Request[R], key: str = "") -> Job[R]:
        """Predict many rows as a job; such a server has no other jobs."""
        if not isinstance(request, PredictRequest):
            word = type(request).__name__.removesuffix("Request").lower()
            refuse(self._protocol, f"does not {word}")
        info = JobInfo("ask", f"predict {request.model}", request.model, "running", 0.0)
        work: Any = AskingJob(info, lambda notify: self._predict(request, notify))
        return work  # type: ignore[no-any-return]

    def job(self, id: str) -> Job[Any]:
        """It keeps no jobs."""
        return refuse(self._protocol, "keeps no jobs")

    def jobs(self) -> Sequence[JobInfo]:
        """It keeps no jobs."""
        return ()

    def predict(self, request: PredictRequest) -> Prediction:
        """Predict with a model."""
        return self._predict(request, lambda done, total: None)

    def _predict(self, request: PredictRequest, notify: Callable[[int, int], None]) -> Prediction:
        """Predict, and notify of rows done and rows in all, 0 while unknown."""
        raise NotImplementedError

    def publish(self, candidate: str, name: str) -> ModelInfo:
        """No such thing in the protocol."""
        return refuse(self._protocol, "publishes no models")

    def exported(self, model: str, variant: str) -> Mapping[str, bytes]:
        """No such thing in the protocol."""
        return refuse(self._protocol, "hands out no files")

    def traffic(self) -> Mapping[str, float]:
        """Not reported."""
        return {}

    def kept_back(self) -> Mapping[str, Any]:
        """Not reported."""
        return {}

    def loaded(self) -> Mapping[str, bool]:
        """Models that the server lists."""
        listed: _Listed = self.models
        return {info.ref: True for info in listed.list()}

    def close(self) -> None:
        """Close every connection."""
        self._client.close()
