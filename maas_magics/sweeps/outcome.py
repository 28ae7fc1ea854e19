"""What a sweep writes down at its beginning, and hands over at its end."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from maas_magics.api.backend import Backend
from maas_magics.api.errors import MaasError
from maas_magics.api.requests import TrainRequest
from maas_magics.api.results import TrainedModel
from maas_magics.api.specs import SPECS, RunSpec
from maas_magics.api.sweep import Trial
from maas_magics.core.data.frame import frame_of
from maas_magics.core.data.sources import Rereadable, is_files, open_source
from maas_magics.sweeps.study import Study, TrialOutcome

ENDS = 10_000
"""Rows at the beginning and at the end that tell data apart."""


def settings_of(request: TrainRequest, place: str) -> dict[str, str]:
    """What trials must have in common, as text by field: every spec but `run`, and a digest of their rows."""
    left_out = ("data", "source", "seed", "better_than")
    found = {
        name: msgspec.json.encode(getattr(request, name), enc_hook=lambda value: type(value).__name__).decode()
        for spec in SPECS
        for name in spec.__struct_fields__
        if spec is not RunSpec and name not in left_out
    }
    return found | {"place": place, "rows": rows_of(request)}


def rows_of(request: TrainRequest) -> str:
    """Digest of how the rows begin and end, and of how many there are; of loaders and datasets only what they are.

    Parameters
    ----------
    request : TrainRequest
        Its data, and its target where that is an array.
    """
    data = request.data
    if data is None:
        return ""
    parts = list(data) if isinstance(data, tuple) and len(data) == 2 and not is_files(data) else [data]
    parts += [request.target] if hasattr(request.target, "shape") else []
    digest = hashlib.sha256()
    for part in parts:
        try:
            source = open_source(part, request.csv if is_files(part) else None)
        except MaasError:
            digest.update(type(part).__name__.encode())
            continue
        if isinstance(source, Rereadable):
            ends, rows = [next(iter(source.chunks(ENDS)), pa.table({}))], source.size()
        else:
            table = source.table()
            ends, rows = [table.slice(0, ENDS), table.slice(max(0, len(table) - ENDS))], len(table)
        digest.update(str(rows).encode())
        for end in ends:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, end.schema) as writer:
                writer.write_table(end)
            digest.update(sink.getvalue())
    return digest.hexdigest()[:16]


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
