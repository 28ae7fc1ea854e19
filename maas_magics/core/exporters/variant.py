"""A compressed export: a variant of a version, judged by the task's own metric on held-out rows."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from maas_magics.api.errors import ExportError, OptionError
from maas_magics.api.requests import ExportRequest
from maas_magics.api.results import Artifact
from maas_magics.api.share import share_of
from maas_magics.core.compressors import NetworkCompressor
from maas_magics.core.exporters.by_task import exporter_of
from maas_magics.core.exporters.check import checking
from maas_magics.core.exporters.export import check_sealable, export_to, metrics_of, report, variant_name
from maas_magics.core.exporters.facts import mean_difference
from maas_magics.core.exporters.judge import judge, losses
from maas_magics.core.exporters.second import second_opinion
from maas_magics.core.exporters.shrunk import parted, shrunk
from maas_magics.core.exporters.steps import chain, in_order, variant_of
from maas_magics.core.exporters.trial import Trial, trial_of
from maas_magics.core.model import Model
from maas_magics.core.seal.envelope import SEAL
from maas_magics.core.seal.files import has_seal, seal_copy
from maas_magics.core.store.storage import REPORT

PLAIN = "plain"
"""Folder of the export that compressions are made of, where it was made with them."""


def plain_export(
    version: Path, model: Model, format: str, tolerance: float, place: Path, ref: str, encrypt: bool = False
) -> Path:
    """Folder of what compressions are made of: the version's own export, or one that is made now, under ``plain``.

    Parameters
    ----------
    version : Path
        Folder of the model's own files.
    model : Model
        The version in torch.
    format : str
        Of the export.
    tolerance : float
        Largest difference from the model.
    place : Path
        Folder for what is made.
    ref : str
        What the report calls the model.
    encrypt : bool
        Whether it is encrypted where it is made now.
    """
    variant = variant_name(format, version, encrypt)
    for there in (version / "exports" / format, version / "exports" / variant):
        if (there / REPORT).is_file():
            return there
    if not (place / PLAIN / variant).is_dir():
        export_to(version, model, format, tolerance, place / PLAIN, ref, encrypt)
    return place / PLAIN / variant


def judged_on(model: Model, version: Path, ref: str) -> Trial:
    """Held-out rows; raises `ExportError` where none were kept.

    Parameters
    ----------
    model : Model
        The version in torch.
    version : Path
        Folder of the model's own files.
    ref : str
        What an error calls the model.
    """
    trial = trial_of(model, version)
    if not trial.kept:
        raise ExportError(
            f"{ref} keeps no held-out rows, by which a compression is judged.",
            "Train it with --validation 0.1, and --sample not 0; of an import, --data gives some.",
        )
    return trial


def compressed_to(
    request: ExportRequest,
    version: Path,
    model: Model,
    place: Path,
    ref: str,
    notify: Callable[[str], None],
    check_stop: Callable[[], None] = lambda: None,
) -> Artifact:
    """Write ``place/<variant>/`` with a compressed file and its report.

    Parameters
    ----------
    request : ExportRequest
        With ``compress``.
    version : Path
        Folder of the model's own files.
    model : Model
        The version in torch.
    place : Path
        Folder for the variant.
    ref : str
        What the report calls the model.
    notify : callable
        Gets notes.
    check_stop : callable
        Raises where the user wants it to end.

    Raises
    ------
    ToleranceExceeded
        If it loses more than ``max_drop``.
    """
    steps, most = in_order(chain(str(request.compress))), share_of(request.max_drop, "--max-drop")
    variant = variant_name(variant_of(str(request.compress)), version, request.encrypt)
    format = steps[0].tool.format
    exporter = exporter_of(format, model.manifest.answers, ref)
    sealed = request.encrypt or has_seal(version)
    for step in steps if sealed else ():
        check_sealable(step.tool, step.name)
    trial, notes = judged_on(model, version, ref), list[str]()
    stayed: list[str] = []
    if isinstance(steps[0].tool, NetworkCompressor):
        trial, rows, told = parted(request, model, trial)
        plain, stayed = shrunk(
            steps, model, version, rows, request.tolerance, place, ref, check_stop, encrypt=request.encrypt
        )
        notes.append(told)
        for note in (*notes, *stayed):
            notify(note)
    else:
        plain = plain_export(version, model, format, request.tolerance, place, ref, request.encrypt)
        if request.data is not None:
            raise OptionError(f"{variant} learns nothing again, and needs no rows.", "Drop --data.")
    before = msgspec.json.decode((plain / REPORT).read_bytes(), type=Artifact)
    folder = place / variant
    if sealed:
        seal_copy(plain, folder, (REPORT,))
    else:
        shutil.copytree(plain, folder, ignore=shutil.ignore_patterns(REPORT))
    file = folder / exporter.file
    with checking(format, file, version) as check:
        for step in steps:
            if isinstance(step.tool, NetworkCompressor):
                continue
            check_stop()
            with tempfile.TemporaryDirectory(dir=place) as work:
                if sealed:
                    shutil.copyfile(folder / SEAL, Path(work) / SEAL)
                if note := step.tool.compress(file, Path(work) / exporter.file, trial.hosted):
                    notify(note)
                    stayed.append(note)
                for made in Path(work).iterdir():  # the file, and weights beside it
                    shutil.move(made, folder / made.name)
        checked = check(trial.hosted)
    answers, task = checked.answers, model.manifest.answers
    second = ""
    if any(getattr(step.tool, "doubted", False) for step in steps) and task.runtime != "text":
        second = second_opinion(file, version, trial.hosted, task)
    before_answers = trial.answers()
    known = metrics_of(model, before_answers, trial.target)
    metrics = metrics_of(model, answers, trial.target) | task.compare(before_answers, answers)
    lost = losses(model, before_answers, answers, trial.target)
    if doubt := judge(lost, most, known, metrics, variant):
        notify(doubt)
    apart = task.difference(*model.comparable(before_answers, answers))
    verification = msgspec.structs.replace(
        before.verification,
        rows=trial.rows,
        max_abs_diff=apart,
        mean_abs_diff=mean_difference(before_answers, answers, apart),
        tolerance=0.0,
        max_drop=most,
        metrics_before=known,
        metrics_after=metrics,
        latency_after=checked.latency,
        slowest_after=checked.slowest,
        memory=checked.memory,
        lost=lost,
        second=second,
    )
    smaller = msgspec.structs.replace(
        before,
        model=ref,  # the version may be a copy, whose export has the name of the first
        variant=variant,
        verification=verification,
        stayed=tuple(stayed),
        notes=(*before.notes, *notes),
    )
    return report(model, version, folder, file, smaller)
