"""From a request to a sweep that runs: everything is checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maas_magics.api.backend import Backend
from maas_magics.api.callbacks import Callback
from maas_magics.api.errors import OptionError, require
from maas_magics.api.requests import TrainRequest
from maas_magics.callbacks import heard
from maas_magics.core.store.models import check_name
from maas_magics.core.training.checks import check_request
from maas_magics.core.training.spaces import check_space
from maas_magics.sweeps.parse import parse_space

if TYPE_CHECKING:
    from maas_magics.sweeps.job import SweepJob


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
    from maas_magics.sweeps.job import SweepJob
    from maas_magics.sweeps.outcome import settings_of
    from maas_magics.sweeps.search import Search
    from maas_magics.sweeps.study import Study

    space = parse_space(line)
    check_space(request, space)
    listen = heard(callbacks, track)
    file = work / "sweeps" / f"{request.name}.log"
    usual = settings_of(TrainRequest(name=request.name), place)
    study = Study(file, space, settings_of(request, place), usual, request.seed, resume=resume)
    return SweepJob(Search(request, space, trials, backend, study, listen))
