"""The record of a sweep on disk, and what chooses the next values: an Optuna study in a journal file.

Every trial draws from a sampler that is seeded by the sweep's seed and the trial's number, so a sweep that was
stopped and continues tries what an uninterrupted one would have tried.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from maas_magics.api import private
from maas_magics.api.errors import OptionError
from maas_magics.api.space import Parameter, Range, Space
from maas_magics.api.sweep import Trial
from maas_magics.sweeps.compat import running_trial
from maas_magics.sweeps.lock import lock_of

STATES = {
    "done": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,  # the sampler takes a pruned trial for a bad one, and ignores a failed one
    "failed": TrialState.FAIL,
    "stopped": TrialState.FAIL,
}

UNPRUNED = 4
"""Trials that must have ended before one is compared with them."""

WAS = {"precision": '"fp32"'}
"""Defaults that options had in earlier versions, as a sweep wrote them down."""

WARM = 0.1
"""Share of the epochs in which nothing is pruned: early metrics say little."""


class TrialOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is written down of a trial that is over.

    Attributes
    ----------
    trial : Trial
    ref : str
        Candidate that its model was published as; empty if it was not the best so far.
    """

    trial: Trial
    ref: str = ""


class Study:
    """Trials of one sweep.

    Smaller is better in the file: metrics of which the larger is better are written with their sign turned.

    Parameters
    ----------
    file : Path
        Journal of all sweeps of a model; made when it is missing.
    space : dict of str to Parameter
    settings : dict of str to str
        What must be the same for trials to be compared.
    usual : dict of str to str
        The same of a request that says nothing: what a record of an earlier version lacks was so.
    seed : int
    resume : bool
        Resume the newest sweep instead of beginning one.

    Raises
    ------
    OptionError
        If there is none to resume, or it was another one.
    """

    def __init__(
        self, file: Path, space: Space, settings: dict[str, str], usual: dict[str, str], seed: int, *, resume: bool
    ) -> None:
        self._space, self._seed = space, seed
        private.folder(file.parent)
        with _quiet():
            storage = JournalStorage(JournalFileBackend(str(file), lock_obj=lock_of(file)))
            settings = settings | {"space": _told(space), "seed": str(seed)}
            self.id = _newest(storage, settings, usual, file.stem) if resume else uuid.uuid4().hex[:6]
            self._study = optuna.create_study(storage=storage, study_name=self.id, load_if_exists=True)
        if not resume:
            for name, value in (("settings", settings), ("created", time.time())):
                self._study.set_user_attr(name, value)
        self._outcomes = self._read()

    def _read(self) -> list[TrialOutcome]:
        found = [_outcome(trial) for trial in self._study.get_trials(deepcopy=False)]
        return [outcome for outcome in found if outcome is not None and outcome.trial.state != "stopped"]

    @property
    def outcomes(self) -> list[TrialOutcome]:
        """Trials that ended, in order; those that the user stopped are run again."""
        return self._outcomes

    def note(self, name: str, value: Any) -> None:
        """Write something down of the whole sweep."""
        self._study.set_user_attr(name, value)

    def noted(self, name: str) -> Any:
        """What was written down; None if nothing was."""
        return self._study.user_attrs.get(name)

    def left_running(self) -> list[RunningTrial]:
        """Trials of a process that is gone, whose jobs may continue without it."""
        found = []
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            live = running_trial(self._study, trial)
            if "job" in trial.user_attrs and "number" in trial.user_attrs:
                found.append(RunningTrial(self._study, live, trial.user_attrs["number"], self._values(trial.params)))
            else:
                self._study.tell(live, state=TrialState.FAIL)
        return found

    def line_up(self, each: Sequence[dict[str, Any]]) -> None:
        """Try these values next, in this order, before any that are drawn; those of a sweep that continues are there.

        Parameters
        ----------
        each : sequence of dict of str to Any
            Values of every parameter, which are choices.
        """
        if not self._study.get_trials(deepcopy=False):
            for values in each:
                self._study.enqueue_trial({name: repr(value) for name, value in values.items()})

    def ask(self) -> RunningTrial:
        """The next trial."""
        number = len(self._outcomes) + 1
        self._study.sampler = optuna.samplers.TPESampler(seed=(self._seed * 1_000_003 + number) % 2**32)
        trial = self._study.ask({name: _distribution(parameter) for name, parameter in self._space.items()})
        return RunningTrial(self._study, trial, number, self._values(trial.params))

    def tell(self, asked: RunningTrial, outcome: TrialOutcome, value: float | None) -> None:
        """How a trial ended.

        Parameters
        ----------
        asked : RunningTrial
        outcome : TrialOutcome
        value : float or None
            The metric, turned so that smaller is better.
        """
        asked.trial.set_user_attr("outcome", msgspec.json.encode(outcome).decode())
        state = STATES[outcome.trial.state]
        self._study.tell(asked.trial, value if state is TrialState.COMPLETE else None, state=state)
        if outcome.trial.state != "stopped":
            self._outcomes.append(outcome)

    def same(self, asked: RunningTrial) -> tuple[TrialOutcome, dict[int, float]] | None:
        """An earlier trial with the same values, and what it reported: training it again would report the same."""
        for trial in self._study.get_trials(deepcopy=False):
            outcome = _outcome(trial)
            if outcome is None or outcome.trial.state not in ("done", "pruned", "diverged"):
                continue
            if trial.params == asked.trial.params:
                return outcome, trial.intermediate_values
        return None

    def _values(self, stored: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value if isinstance(self._space[name], Range) else _choice(self._space[name], value)
            for name, value in stored.items()
        }


class RunningTrial:
    """A trial that runs.

    Attributes
    ----------
    number : int
        Counted from 1.
    values : dict of str to Any
    """

    def __init__(self, study: optuna.Study, trial: optuna.Trial, number: int, values: dict[str, Any]) -> None:
        self._study, self.trial, self.number, self.values = study, trial, number, values
        self._reported = {step for known in study.get_trials(deepcopy=False) if known.number == trial.number
                          for step in known.intermediate_values}  # fmt: skip

    @property
    def job(self) -> str:
        """Id of the job that runs it; empty while none does."""
        return str(self.trial.user_attrs.get("job", ""))

    def runs(self, job: str) -> None:
        """Write down which job runs it."""
        self.trial.set_user_attr("number", self.number)
        self.trial.set_user_attr("job", job)

    def report(self, epoch: int, value: float) -> None:
        """Write down a metric, turned so that smaller is better; one that is reported again is there already."""
        if epoch not in self._reported:
            self._reported.add(epoch)
            self.trial.report(value, epoch)

    def behind(self, epochs: int) -> bool:
        """Whether its best metric so far is worse than the median of the others' at this epoch.

        The median needs no budget to be known, unlike successive halving, and needs few trials; it compares
        equal epochs only, so trials of different length do not disturb it.

        Parameters
        ----------
        epochs : int
            Most epochs of the trial.
        """
        self._study.pruner = optuna.pruners.MedianPruner(UNPRUNED, int(WARM * epochs))
        return self.trial.should_prune()


def _outcome(trial: FrozenTrial) -> TrialOutcome | None:
    told = trial.user_attrs.get("outcome")
    return None if told is None else msgspec.json.decode(told, type=TrialOutcome)


def _distribution(parameter: Parameter) -> BaseDistribution:
    if not isinstance(parameter, Range):
        return CategoricalDistribution([repr(value) for value in parameter.values])
    if parameter.whole:
        step = int(parameter.step or 1)
        high = parameter.high - (parameter.high - parameter.low) % step
        return IntDistribution(int(parameter.low), int(high), log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _choice(parameter: Parameter, told: str) -> Any:
    assert not isinstance(parameter, Range)
    return next(value for value in parameter.values if repr(value) == told)


def _told(space: Space) -> str:
    return ", ".join(f"{name}={_words(parameter)}" for name, parameter in sorted(space.items()))


def _words(parameter: Parameter) -> str:
    if not isinstance(parameter, Range):
        return repr(list(parameter.values))
    marks = [" int"] * parameter.whole + [" log"] * parameter.log
    step = "" if parameter.step is None else f" step={parameter.step:g}"
    return f"{parameter.low!r}..{parameter.high!r}{''.join(marks)}{step}"


def _unset(name: str, told: str | None) -> str | None:
    """A setting; what an option was where nobody set it, in versions that had a default, is none."""
    return "null" if told == WAS.get(name) else told


def _newest(storage: JournalStorage, settings: dict[str, str], usual: dict[str, str], model: str) -> str:
    """Name of the newest study of the same place, if it requested the same."""
    studies = [study for study in storage.get_all_studies() if "settings" in study.user_attrs]
    here = [study for study in studies if study.user_attrs["settings"].get("place") == settings.get("place")]
    if not here:
        raise OptionError(f"There is no sweep of {model!r} to resume.", "Drop --resume to begin one.")
    newest = max(here, key=lambda study: study.user_attrs["created"])
    before: dict[str, str] = usual | newest.user_attrs["settings"]
    if before.get("rows") and before["rows"] != settings["rows"]:  # earlier versions did not write it down
        raise OptionError(
            "The data has changed since the sweep began, so its trials cannot be compared.", "Drop --resume."
        )
    for name in settings.keys() - {"rows"}:  # earlier versions wrote down more
        if _unset(name, before.get(name)) != _unset(name, settings.get(name)):
            raise OptionError(
                f"The sweep to resume had another {name}: {before.get(name)}; now it is {settings.get(name)}.",
                "Request the same, or drop --resume to begin anew.",
            )
    return newest.study_name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from logging every study that it makes."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
