"""What a sweep writes down at its beginning, and hands over at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from maas_magics.api.backend import Backend
from maas_magics.api.requests import TrainRequest
from maas_magics.api.results import TrainedModel
from maas_magics.api.specs import SPECS, RunSpec
from maas_magics.api.sweep import Trial
from maas_magics.core.data.frame import frame_of
from maas_magics.core.data.told_apart import digest_of
from maas_magics.sweeps.study import Study, TrialOutcome


def settings_of(request: TrainRequest, place: str) -> dict[str, str]:
    """What trials must have in common, as text by field: every spec but `run`, and a digest of their rows."""
    left_out = ("data", "source", "seed", "better_than")
    found = {
        name: msgspec.json.encode(getattr(request, name), enc_hook=lambda value: type(value).__name__).decode()
        for spec in SPECS
        for name in spec.__struct_fields__
        if spec is not RunSpec and name not in left_out
    }
    return found | {"place": place, "rows": digest_of(request.data, request.target, request.csv)}


def publish_best(study: Study, best: TrialOutcome, name: str, backend: Backend) -> TrainedModel:
    """The best trial as a version of ``name``; published once, however often the sweep continues."""
    before = study.noted("published") or {}
    if before.get("number") != best.trial.number:
        before = {"number": best.trial.number, "ref": backend.publish(best.ref, name).ref}
        study.note("published", before)
    record = backend.models.record(before["ref"])
    history = {
        figure: [math.nan if value is None else value for value in values] for figure, values in record.history.items()
    }
    return TrainedModel(
        info=record.info,
        best_epoch=record.best_epoch,
        epochs=record.epochs,
        history=history,
        seconds=record.seconds,
    )


def table_of(trials: Sequence[Trial], figure: str) -> Any:
    """One row for each trial."""
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    columns: dict[str, list[Any]] = {
        "trial": [trial.number for trial in trials],
        "state": [trial.state for trial in trials],
        **{name: [trial.params.get(name) for trial in trials] for name in names},
        figure: [trial.value for trial in trials],
        "epochs": [trial.epochs for trial in trials],
        "seconds": [trial.seconds for trial in trials],
    }
    if any(trial.bytes for trial in trials):
        columns |= {"bytes": [trial.bytes for trial in trials], "latency": [trial.latency for trial in trials]}
    return frame_of(columns)
