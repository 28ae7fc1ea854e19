"""Runs in MLflow: curves by step, what was requested and chosen as parameters, the best epoch's metrics at the end."""

from __future__ import annotations

import re
from typing import Any

from maas_magics.api.errors import MaasError, OptionError, require
from maas_magics.api.events import EpochEnd, Event, Finished, Started, Step
from maas_magics.trackers.run import Run, Start

STATES = {"succeeded": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}

MANY = 50
"""Metrics that are kept until they are sent in one request; what an epoch's end brings is always sent."""

LONGEST = 500
"""Characters of a parameter that every version of MLflow takes."""


def prepare(place: str) -> Start:
    """Function that starts a run of an experiment with the model's name.

    Parameters
    ----------
    place : str
        Tracking URI: a server's address or ``sqlite:///FILE``; MLflow's own default (``MLFLOW_TRACKING_URI``) if empty.
    """
    require("mlflow", "MLflow", "--track mlflow", "maas-magics[mlflow]")
    from mlflow import MlflowClient

    try:
        client = MlflowClient(tracking_uri=place or None)
    except Exception as error:  # its own classes have no common base across versions
        told = str(error).strip().splitlines()
        raise OptionError(
            f"MLflow takes no tracking URI {place!r}: {told[0][:200] if told else type(error).__name__}",
            "--track mlflow=sqlite:///mlflow.db, or the address of a server",
        ) from None
    return lambda run: MLflow(client, run)


class MLflow:
    """Writes one run; a callback.

    Metrics are ``loss/train``, ``loss/validation``, ``accuracy/validation`` …, ``loss/step`` and ``lr``, all by
    optimizer step, and ``best/loss`` … at the end.

    Parameters
    ----------
    client : MlflowClient
        Client of the tracking server.
    run : Run
        Name and parameters of the run.
    """

    def __init__(self, client: Any, run: Run) -> None:
        self._client, self._about = client, run
        self._run = ""
        self._waiting: list[Any] = []
        self._best: EpochEnd | None = None

    def __call__(self, event: Event) -> None:
        """Write an event down."""
        match event:
            case Started() if not self._run:
                self._start(event)
            case Step():
                self._note(event, event.step, {"loss/step": event.loss})
                if len(self._waiting) >= MANY:
                    self._send()
            case EpochEnd():
                self._best = event if event.best or self._best is None else self._best
                figures = {f"{name}/train": value for name, value in event.train.items()}
                figures |= {f"{name}/validation": value for name, value in event.validation.items()}
                self._note(event, event.step, {**figures, "lr": event.lr})
                self._send()
            case Finished() if self._run:
                self._finish(event)

    def _start(self, event: Started) -> None:
        from mlflow.entities import Param

        name = self._about.model
        found = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage != "active":
            raise MaasError(f"The experiment {name!r} of MLflow was deleted.", "Restore it, or train another name.")
        experiment = found.experiment_id if found is not None else self._client.create_experiment(name)
        run = self._client.create_run(experiment, start_time=_milliseconds(event), run_name=self._about.name)
        self._run = run.info.run_id
        told = {**event.summary, "parameters": event.parameters, "monitor": event.monitor, **self._about.params}
        params = [Param(_name(name), str(value)[:LONGEST]) for name, value in told.items()]
        self._client.log_batch(self._run, params=params)

    def _finish(self, event: Finished) -> None:
        if self._best is not None:
            figures = self._best.validation or self._best.train
            self._note(event, self._best.step, {f"best/{name}": value for name, value in figures.items()})
        self._send()
        self._client.set_terminated(self._run, STATES[event.state], end_time=_milliseconds(event))

    def _note(self, event: Event, step: int, figures: dict[str, float]) -> None:
        from mlflow.entities import Metric

        self._waiting += [Metric(_name(name), value, _milliseconds(event), step) for name, value in figures.items()]

    def _send(self) -> None:
        metrics, self._waiting = self._waiting, []
        if metrics and self._run:
            self._client.log_batch(self._run, metrics=metrics)


def _name(text: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w./-]", "_", text, flags=re.ASCII)


def _milliseconds(event: Event) -> int:
    return int(event.time * 1000)
