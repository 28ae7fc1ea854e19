"""From a request to a sweep that runs: everything is checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from maas_magics.api.backend import Backend
from maas_magics.api.callbacks import Callback
from maas_magics.api.errors import OptionError, require
from maas_magics.api.requests import TrainRequest, spec_of, specs_of
from maas_magics.api.space import Choices, Space
from maas_magics.api.specs import DataSpec
from maas_magics.callbacks import Listen, heard
from maas_magics.core.store.models import check_name
from maas_magics.core.training.checks import check_request
from maas_magics.core.training.spaces import check_space
from maas_magics.sweeps.parse import parse_space

if TYPE_CHECKING:
    from maas_magics.sweeps.job import SweepJob
    from maas_magics.sweeps.race import Race


def start_sweep(
    request: TrainRequest,
    line: str,
    trials: int,
    backend: Backend,
    work: Path,
    place: str,
    *,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    track: Sequence[str] = (),
) -> SweepJob:
    """Start a sweep, or resume the newest one of the model.

    Parameters
    ----------
    request : TrainRequest
        What every trial has in common.
    line : str
        What is swept; see `maas_magics.sweeps.parse.parse_space`.
    trials : int
        How many there are to be in the end.
    backend : Backend
        Where the trials run.
    work : Path
        Folder of this machine for the records of sweeps.
    place : str
        What identifies the backend in the record.
    resume : bool
    callbacks, track
        As for one training; each trial is a run of its own.

    Raises
    ------
    OptionError
        If the line or the request is invalid.
    MissingDependency
        If Optuna is not installed.
    """
    require("optuna", "Optuna", "A sweep", "maas-magics[sweep]")
    check_name(request.name)
    check_request(request)
    if trials < 1:
        raise OptionError(f"trials is {trials}; at least 1 was expected.", "--trials 20")
    space = parse_space(line)
    check_space(request, space)
    return _started(request, space, trials, backend, work, place, resume, heard(callbacks, track))


def start_race(
    request: TrainRequest,
    budget: str | float | None,
    backend: Backend,
    work: Path,
    place: str,
    *,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    track: Sequence[str] = (),
) -> SweepJob:
    """Start a race of the networks that fit the rows, or resume the newest one of the model.

    Parameters
    ----------
    request : TrainRequest
        What all have in common; a pretrained network that it names takes part, as the last.
    budget : str, float or None
        What all may take together; see `maas_magics.sweeps.race.seconds_of`.
    backend, work, place, resume, callbacks, track
        As in `start_sweep`.

    Raises
    ------
    OptionError
        If the request is invalid.
    MissingDependency
        If Optuna is not installed.
    """
    require("optuna", "Optuna", "A race", "maas-magics[sweep]")
    from maas_magics.core.training.candidates import candidates_of, why_not
    from maas_magics.sweeps.race import Race, seconds_of

    check_name(request.name)
    named = request.model
    if not isinstance(named, str) or (named != "auto" and ":" not in named):
        raise OptionError("A race chooses the network.", "--model auto, or a pretrained one: --model hf:FOLDER")
    if request.params:
        raise OptionError("Hyperparameters belong to one network; a race has several.", "Drop --params.")
    rules = Race(seconds=None if budget is None else seconds_of(budget))
    names, notes = [], []
    for name in candidates_of(spec_of(request, DataSpec)):
        why = why_not(name, specs_of(request))
        if why:
            notes.append(f"{name} does not take part: {why}")
        else:
            names.append(name)
    names += [named] if named != "auto" else []
    request = msgspec.structs.replace(request, model="auto", monitor=request.monitor or "loss")
    check_request(request)
    space: Space = {"model": Choices(tuple(names))}
    return _started(request, space, len(names), backend, work, place, resume, heard(callbacks, track), rules, notes)


def _started(
    request: TrainRequest,
    space: Space,
    trials: int,
    backend: Backend,
    work: Path,
    place: str,
    resume: bool,
    listen: Listen,
    race: Race | None = None,
    notes: Sequence[str] = (),
) -> SweepJob:
    from maas_magics.sweeps.job import SweepJob
    from maas_magics.sweeps.outcome import settings_of
    from maas_magics.sweeps.search import Search
    from maas_magics.sweeps.study import Study

    file = work / "sweeps" / f"{request.name}.log"
    usual = settings_of(TrainRequest(name=request.name), place)
    study = Study(file, space, settings_of(request, place), usual, request.seed, resume=resume)
    if race is not None:
        study.line_up([{name: value} for name, of in space.items() if isinstance(of, Choices) for value in of.values])
    return SweepJob(Search(request, space, trials, backend, study, listen, race, notes))
