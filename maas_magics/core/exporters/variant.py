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
from maas_magics.core.compressors import Compressor, compressors
from maas_magics.core.exporters.by_task import exporter_of
from maas_magics.core.exporters.check import check
from maas_magics.core.exporters.export import check_sealable, export_to, metrics_of, report, variant_name
from maas_magics.core.exporters.facts import mean_difference
from maas_magics.core.exporters.judge import judge, losses
from maas_magics.core.exporters.second import second_opinion
from maas_magics.core.exporters.trial import Trial, trial_of
from maas_magics.core.model import Model
from maas_magics.core.seal.envelope import SEAL
from maas_magics.core.seal.files import has_seal, seal_copy
from maas_magics.core.store.storage import REPORT

PLAIN = "plain"
"""Folder of the export that compressions are made of, where it was made with them."""


def chain(asked: str) -> list[tuple[str, Compressor]]:
    """Compressors of ``NAME`` or ``NAME+NAME``, all for one format, in their order; those that store come last.

    Raises
    ------
    NotFound, OptionError
        If one is unknown, or they are for different formats.
    """
    names = [part.strip() for part in asked.split("+")]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), "")
    if twice:
        raise OptionError(f"{twice} is named twice.", f"--compress {'+'.join(dict.fromkeys(names))}")
    found = [(name, compressors.get(name)) for name in names]
    formats = {each.format for _, each in found}
    if len(formats) > 1:
        raise OptionError(f"{asked} is for several formats: {', '.join(sorted(formats))}.", "Name them one by one.")
    return sorted(found, key=lambda each: getattr(each[1], "stage", 1))


def format_of(asked: str) -> str:
    """The format that some compressors are for; see `chain`."""
    return chain(asked)[0][1].format


def variant_of(asked: str) -> str:
    """The name of what some compressors make; see `chain`."""
    chain(asked)
    return "+".join(part.strip() for part in asked.split("+"))


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
    request: ExportRequest, version: Path, model: Model, place: Path, ref: str, notify: Callable[[str], None]
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

    Raises
    ------
    ToleranceExceeded
        If it loses more than ``max_drop``.
    """
    steps, most = chain(str(request.compress)), share_of(request.max_drop, "--max-drop")
    variant = variant_name(variant_of(str(request.compress)), version, request.encrypt)
    format = steps[0][1].format
    exporter = exporter_of(format, model.manifest.answers, ref)
    sealed = request.encrypt or has_seal(version)
    for name, step in steps if sealed else ():
        check_sealable(step, name)
    plain = plain_export(version, model, format, request.tolerance, place, ref, request.encrypt)
    before = msgspec.json.decode((plain / REPORT).read_bytes(), type=Artifact)
    trial = judged_on(model, version, ref)
    folder = place / variant
    if sealed:
        seal_copy(plain, folder, (REPORT,))
    else:
        shutil.copytree(plain, folder, ignore=shutil.ignore_patterns(REPORT))
    file = folder / exporter.file
    stayed = []
    for _, step in steps:
        with tempfile.TemporaryDirectory(dir=place) as work:
            if sealed:
                shutil.copyfile(folder / SEAL, Path(work) / SEAL)
            if note := step.compress(file, Path(work) / exporter.file, trial.hosted):
                notify(note)
                stayed.append(note)
            for made in Path(work).iterdir():  # the file, and weights beside it
                shutil.move(made, folder / made.name)
    checked = check(format, file, version, trial.hosted)
    answers, task = checked.answers, model.manifest.answers
    second = ""
    if any(getattr(step, "doubted", False) for _, step in steps) and task.runtime != "text":
        second = second_opinion(file, version, trial.hosted, answers, task)
    before_answers = trial.answers()
    metrics = metrics_of(model, answers, trial.target) | task.compare(before_answers, answers)
    lost = losses(model, before_answers, answers, trial.target)
    if doubt := judge(lost, most, metrics_of(model, before_answers, trial.target), metrics, variant):
        notify(doubt)
    apart = task.difference(*model.comparable(before_answers, answers))
    verification = msgspec.structs.replace(
        before.verification,
        rows=trial.rows,
        max_abs_diff=apart,
        mean_abs_diff=mean_difference(before_answers, answers, apart),
        tolerance=0.0,
        max_drop=most,
        metrics_after=metrics,
        latency_after=checked.latency,
        slowest_after=checked.slowest,
        memory=checked.memory,
        lost=lost,
        second=second,
    )
    smaller = msgspec.structs.replace(before, variant=variant, verification=verification, stayed=tuple(stayed))
    return report(model, version, folder, file, smaller)
