"""The export of a version whose network was made smaller, and the rows that it learnt on again.

Not an exporter: it registers nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from maas_magics.api.errors import ExportError, MissingDependency, ToleranceExceeded
from maas_magics.api.requests import ExportRequest
from maas_magics.core.compressors import NetworkCompressor
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.media import opening
from maas_magics.core.data.origin import came_from
from maas_magics.core.data.sources import open_source, typed
from maas_magics.core.exporters.examples import latency
from maas_magics.core.exporters.export import export_to
from maas_magics.core.exporters.steps import Step, chain
from maas_magics.core.exporters.trial import Trial, trial_of
from maas_magics.core.model import Model
from maas_magics.core.store.storage import REPORT

SHRUNK = "shrunk"
"""Folder of the export."""

PRUNED = "prune=0.5"
"""What ``--auto`` tries of them."""

LEAST = 64
"""Held-out rows of which one half may be learnt on again."""

MOST = 20_000
"""Rows of ``--data`` that are learnt on again."""


def parted(request: ExportRequest, model: Model, trial: Trial) -> tuple[Trial, list[Array], str]:
    """Rows that a smaller network is judged on, others that it learns on again, and a sentence about these.

    Those that are requested are learnt on; where there are none, one half of the held-out rows, and it is judged on
    the other half.

    Parameters
    ----------
    request : ExportRequest
        What was asked.
    model : Model
        The version in torch.
    trial : Trial
        All held-out rows.

    Raises
    ------
    ExportError
        If there are too few.
    """
    if request.data is not None:
        rows = _read(request, model)
        return trial, rows, f"Fine-tuned on {len(rows[0]):,} rows that were given."
    if trial.rows < LEAST:
        raise ExportError(
            f"{trial.rows} held-out rows are too few to learn again on one half, and to judge by the other.",
            "--data df gives rows to learn on; they need no answers.",
        )
    order = np.random.default_rng(0).permutation(trial.rows)
    learnt, judged = np.sort(order[: trial.rows // 2]), np.sort(order[trial.rows // 2 :])
    rest = replace(trial, hosted=[values[judged] for values in trial.hosted], target=trial.target[judged], model=None)
    told = f"Fine-tuned on {len(learnt):,} of the held-out rows, and judged on the other {len(judged):,}."
    return rest, [values[learnt] for values in trial.hosted], told


def shrunk(
    steps: Sequence[Step],
    model: Model,
    version: Path,
    rows: Sequence[Array],
    tolerance: float,
    place: Path,
    ref: str,
    check_stop: Callable[[], None],
    encrypt: bool = False,
) -> tuple[Path, list[str]]:
    """Folder of the export of a smaller network, and what stayed as it was.

    Parameters
    ----------
    steps : sequence of Step
        Those that make networks smaller are taken.
    model : Model
        The version in torch.
    version : Path
        Folder of the model's own files.
    rows : sequence of ndarray, shape (n, …)
        Rows to learn on again.
    tolerance : float
        Largest difference of the file from the smaller network.
    place : Path
        Folder for what is made.
    ref : str
        What the report calls the model.
    check_stop : callable
        Raises where the user wants it to end.
    encrypt : bool
        Whether its files are encrypted.
    """
    smaller, stayed = model, list[str]()
    for step in steps:
        if isinstance(step.tool, NetworkCompressor):
            smaller, note = step.tool.shrink(smaller, step.share, rows, check_stop)
            stayed += [note] if note else []
    format = steps[0].tool.format
    made = export_to(version, smaller, format, tolerance, place / SHRUNK, ref, encrypt)
    trial, folder = trial_of(model, version), place / SHRUNK / made.variant
    before = msgspec.structs.replace(made.verification, latency_before=latency(trial.run, trial.hosted))
    report = msgspec.structs.replace(made, verification=before)
    (folder / REPORT).write_bytes(msgspec.json.encode(report))
    return folder, stayed


def pruned_export(
    model: Model,
    version: Path,
    rows: Sequence[Array],
    tolerance: float,
    place: Path,
    ref: str,
    check_stop: Callable[[], None],
    notify: Callable[[str], None],
) -> dict[str, Path]:
    """Folder of the export of a network with half of its channels, by the name of that way; nothing where none can be.

    Parameters
    ----------
    model : Model
        The version in torch.
    version : Path
        Folder of the model's own files.
    rows : sequence of ndarray, shape (n, …)
        Rows to learn on again.
    tolerance : float
        Largest difference of the file from the smaller network.
    place : Path
        Folder for what is made.
    ref : str
        What the report calls the model.
    check_stop : callable
        Raises where the user wants it to end.
    notify : callable
        Gets a sentence about why there is none.
    """
    try:
        return {PRUNED: shrunk(chain(PRUNED), model, version, rows, tolerance, place, ref, check_stop)[0]}
    except (ExportError, ToleranceExceeded, MissingDependency) as error:
        notify(f"{PRUNED} is not tried: {error.message}")
        return {}


def _read(request: ExportRequest, model: Model) -> list[Array]:
    """The rows that a request gives, as a model takes them."""
    source, processor = open_source(request.data), model.processor
    came_from(source)
    found: list[list[Array]] = []
    for table in typed(source, processor.texts).chunks(MOST):
        if source.arrays and len(processor.features) == 1 and table.num_columns == 1:
            table = table.rename_columns(processor.names)
        with opening(not getattr(source, "sent", False)):
            found.append(processor.hosted_raw(processor.encode(table)))
        break
    if not found or len(found[0][0]) < LEAST // 2:
        raise ExportError(f"Fewer than {LEAST // 2} rows were given to learn on again.", "Give more rows: --data df")
    return found[0]
