"""From a request to a sweep that runs: everything is checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from maas_magics.api.backend import Backend
from maas_magics.api.errors import OptionError, require
from maas_magics.api.requests import TrainRequest, spec_of, specs_of
from maas_magics.api.space import Choices, Space
from maas_magics.api.specs import CallSpec, DataSpec
from maas_magics.callbacks import heard
from maas_magics.core.store.models import check_name
from maas_magics.core.training.checks import check_request
from maas_magics.core.training.spaces import check_space
from maas_magics.sweeps.parse import parse_space

if TYPE_CHECKING:
    from maas_magics.sweeps.job import SweepJob
    from maas_magics.sweeps.race import Race


@dataclass(frozen=True)
class SweepContext:
    """Where trials run, and where they are recorded.

    Attributes
    ----------
    backend : Backend
        Where the trials run.
    work : Path
        Folder of this machine for the records of sweeps.
    place : str
        What identifies the backend in the record.
    """

    backend: Backend
    work: Path
    place: str


def start_sweep(request: TrainRequest, call: CallSpec, context: SweepContext, *, resume: bool = False) -> SweepJob:
    """Start a sweep or a race, or resume the newest one of the model.

    Parameters
    ----------
    request : TrainRequest
        What all trials have in common; a pretrained network that it names takes part in a race, as the last.
    call : CallSpec
        With ``sweep`` and ``trials``, how many there are to be in the end; or with ``race`` and ``budget``, what all
        may take together. Each trial is a run of its own for ``callbacks`` and ``track``.
    context : SweepContext
        Where they run.
    resume : bool
        Whether to resume.

    Raises
    ------
    OptionError
        If the line or the request is invalid.
    MissingDependency
        If Optuna is not installed.
    """
    require("optuna", "Optuna", "A race" if call.race else "A sweep", "maas-magics[sweep]")
    check_name(request.name)
    planned = _race(request, call.budget) if call.race else _sweep(request, call)

    from maas_magics.sweeps.job import SweepJob
    from maas_magics.sweeps.outcome import settings_of
    from maas_magics.sweeps.search import Search
    from maas_magics.sweeps.study import Study

    request, space = planned.request, planned.space
    listen = heard(call.callbacks, call.track)
    file = context.work / "sweeps" / f"{request.name}.log"
    usual = settings_of(TrainRequest(name=request.name), context.place)
    study = Study(file, space, settings_of(request, context.place), usual, request.seed, resume=resume)
    if planned.race is not None:
        study.line_up([{name: value} for name, of in space.items() if isinstance(of, Choices) for value in of.values])
    return SweepJob(Search(request, space, planned.trials, context.backend, study, listen, planned.race, planned.notes))


@dataclass(frozen=True)
class _Plan:
    request: TrainRequest
    space: Space
    trials: int
    race: Race | None = None
    notes: Sequence[str] = ()


def _sweep(request: TrainRequest, call: CallSpec) -> _Plan:
    """What is searched; see `maas_magics.sweeps.parse.parse_space`."""
    check_request(request)
    if call.trials < 1:
        raise OptionError(f"trials is {call.trials}; at least 1 was expected.", "--trials 20")
    space = parse_space(call.sweep)
    check_space(request, space)
    return _Plan(request, space, call.trials)


def _race(request: TrainRequest, budget: str | float | None) -> _Plan:
    """The networks that fit the rows, the cheapest first."""
    from maas_magics.core.training.candidates import candidates_of, why_not
    from maas_magics.sweeps.race import Race, seconds_of

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
    return _Plan(request, space, len(names), rules, notes)
