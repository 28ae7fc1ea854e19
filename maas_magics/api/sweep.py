"""What comes back of a sweep: its trials, the best of them, and the model that was published."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeGuard

import msgspec

from maas_magics.api.backend import Job
from maas_magics.api.results import TrainedModel, always
from maas_magics.api.space import Space
from maas_magics.api.tables import format_number, html_table, size

CANDIDATE = ".sweep-"
"""Stands between a model's name and a sweep's id in the name that its best trials have until the sweep is over."""

TrialState = Literal["running", "done", "pruned", "diverged", "failed", "stopped"]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One training of a sweep.

    Attributes
    ----------
    number : int
        Counted from 1.
    state : TrialState
        ``pruned``: stopped since it was behind the others; ``stopped``: by the user, and run again when resumed.
    params : dict of str to Any
        Values of the parameters that are swept.
    value : float or None
        The monitored metric at the trial's best epoch.
    epochs : int
        Epochs that ran.
    seconds : float
        Wall time; 0 for a trial with the same values as an earlier one, whose value it shares.
    error : str
        Why it failed.
    bytes : int
        Size of the version of a network that took part in a race; 0 where it is not known.
    latency : float or None
        Milliseconds that its answer to one row takes.
    """

    number: int
    state: TrialState = "running"
    params: dict[str, Any] = {}
    value: float | None = msgspec.field(default=None, name="figure")  # as 0.1 wrote it
    epochs: int = 0
    seconds: float = 0.0
    error: str = ""
    bytes: int = 0
    latency: float | None = None


class SweepResult(msgspec.Struct, frozen=True, kw_only=True):
    """A sweep that is over, or was stopped.

    Attributes
    ----------
    model : TrainedModel
        The best trial's, as it was published.
    best : Trial
    trials : tuple of Trial
        Every trial, in the order they ran.
    monitor : str
        Name of the metric that chose: ``val_loss``, ``val_accuracy`` ….
    mode : {"min", "max"}
        Whether a smaller or a larger one is better.
    table : Any
        One row for each trial as a pandas DataFrame, or an Arrow table where pandas is not installed.
    stopped : bool
        Whether the user stopped it before its last trial.
    """

    model: TrainedModel
    best: Trial
    trials: tuple[Trial, ...]
    monitor: str
    mode: Literal["min", "max"]
    table: Any
    stopped: bool = False

    @property
    def params(self) -> dict[str, Any]:
        """Values of the best trial."""
        return self.best.params

    @property
    def ref(self) -> str:
        """``name:version`` of the published model."""
        return self.model.ref

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {shown(value)}" for name, value in self.params.items())
        best = f"best {self.best.number}: {self.monitor} {format_number(self.best.value or 0.0)} with {told}"
        return f"<SweepResult {self.ref} · {len(self.trials)} trials · {best}>"

    def _repr_html_(self) -> str:
        rows = [(name, shown(value)) for name, value in self.params.items()]
        rows.append((self.monitor, format_number(self.best.value or 0.0)))
        baseline = self.model.baseline
        if (name := self.monitor.removeprefix("val_")) in baseline:
            rows.append((f"{self.monitor}, {always(baseline)}", format_number(baseline[name])))
        rows.append(("model", self.ref))
        return html_table(rows, f"best of {len(self.trials)} trials: {self.best.number}")


class Sweep(Job[SweepResult], Protocol):
    """A sweep that runs: a job, and what can be seen of its trials."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Trials so far, the one that runs last."""

    @property
    def best(self) -> Trial | None:
        """The best trial so far."""

    @property
    def space(self) -> Space:
        """Parameters that are swept."""

    @property
    def metric(self) -> str:
        """Name of the metric that chooses: ``val_loss``, ``val_accuracy`` …."""

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether a smaller or a larger value is better."""


def is_sweep(job: Job[Any]) -> TypeGuard[Sweep]:
    """Whether a job is a sweep, whose trials can be seen.

    Parameters
    ----------
    job : Job
        Any job.
    """
    return hasattr(type(job), "trials")


def shown(value: Any) -> str:
    """Value of a parameter as text: numbers with four digits.

    Parameters
    ----------
    value : Any
        The value.
    """
    return format_number(value) if isinstance(value, float) else str(value)


def rows(trials: tuple[Trial, ...], best: int, *, volatile: bool = True) -> list[tuple[str, ...]]:
    """Trials as cells of a table; ``volatile`` adds what differs from run to run.

    Parameters
    ----------
    trials : tuple of Trial
        The trials, in the order of the rows.
    best : int
        Number of the trial that is marked.
    volatile : bool
        Whether to add a column of what differs from run to run: seconds.
    """
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    raced = any(trial.bytes for trial in trials)
    return [
        (
            f"{trial.number}{' ★' if trial.number == best else ''}",
            trial.state,
            *(shown(trial.params.get(name, "")) for name in names),
            "" if trial.value is None else format_number(trial.value),
            str(trial.epochs or ""),
            *([f"{trial.seconds:.1f}" if trial.state != "running" else ""] if volatile else []),
            *([size(trial.bytes) if trial.bytes else ""] if raced else []),
            *(["" if trial.latency is None else f"{trial.latency:.2g}"] if raced and volatile else []),
        )
        for trial in trials
    ]


def head(trials: tuple[Trial, ...], monitor: str, *, volatile: bool = True) -> tuple[str, ...]:
    """Heads of the columns that `rows` makes.

    Parameters
    ----------
    trials : tuple of Trial
        The trials.
    monitor : str
        Name of the metric that chose.
    volatile : bool
        Whether there is a column of what differs from run to run: seconds.
    """
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    raced = any(trial.bytes for trial in trials)
    more = [
        *(["seconds"] if volatile else []),
        *(["size"] if raced else []),
        *(["ms a row"] if raced and volatile else []),
    ]
    return ("trial", "state", *names, monitor, "epochs", *more)
