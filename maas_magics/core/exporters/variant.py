"""A compressed export: a variant of a version, judged by the task's own metric on held-out rows."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from maas_magics.api.errors import ExportError, OptionError, ToleranceExceeded
from maas_magics.api.records import lower_is_better
from maas_magics.api.requests import ExportRequest
from maas_magics.api.results import Artifact
from maas_magics.api.share import share_of
from maas_magics.core.compressors import Compressor, compressors
from maas_magics.core.exporters.by_task import exporter_of
from maas_magics.core.exporters.check import check
from maas_magics.core.exporters.export import export_to, metrics_of, report
from maas_magics.core.exporters.trial import trial_of
from maas_magics.core.model import Model
from maas_magics.core.store.storage import REPORT
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.metric_names import make_metrics


def chain(asked: str) -> list[tuple[str, Compressor]]:
    """Compressors of ``NAME`` or ``NAME+NAME``, in their order, all for one format.

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
    return found


def format_of(asked: str) -> str:
    """The format that some compressors are for; see `chain`."""
    return chain(asked)[0][1].format


def variant_of(asked: str) -> str:
    """The name of what some compressors make; see `chain`."""
    return "+".join(name for name, _ in chain(asked))


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
    variant = variant_of(str(request.compress))
    format = steps[0][1].format
    exporter = exporter_of(format, model.manifest.answers, ref)
    plain = version / "exports" / format
    if not (plain / REPORT).is_file():
        export_to(version, model, format, request.tolerance, place / "plain", ref)
        plain = place / "plain" / format
    before = msgspec.json.decode((plain / REPORT).read_bytes(), type=Artifact)
    trial = trial_of(model, version)
    if not trial.kept:
        raise ExportError(
            f"{ref} keeps no held-out rows, by which a compression is judged.",
            "Train it with --validation 0.1, and --sample not 0; of an import, --data gives some.",
        )
    folder = place / variant
    shutil.copytree(plain, folder, ignore=shutil.ignore_patterns(REPORT))
    file = folder / exporter.file
    for _, step in steps:
        with tempfile.TemporaryDirectory(dir=place) as work:
            if note := step.compress(file, Path(work) / exporter.file, trial.hosted):
                notify(note)
            for made in Path(work).iterdir():  # the file, and weights beside it
                shutil.move(made, folder / made.name)
    with tempfile.TemporaryDirectory(dir=place) as work:
        answers, latency = check(format, file, version, trial.hosted, Path(work))
    before_answers = trial.answers()
    metrics = metrics_of(model, answers, trial.target)
    metrics |= model.manifest.answers.compare(before_answers, answers)
    _judge(model, before.verification.metrics_before, metrics, most, variant)
    verification = msgspec.structs.replace(
        before.verification,
        rows=trial.rows,
        max_abs_diff=model.manifest.answers.difference(before_answers, answers),
        tolerance=0.0,
        max_drop=most,
        metrics_after=metrics,
        latency_after=latency,
    )
    smaller = msgspec.structs.replace(before, variant=variant, verification=verification)
    return report(model, version, folder, file, smaller)


def _judge(model: Model, before: dict[str, float], after: dict[str, float], most: float, variant: str) -> None:
    """Raise where the first of the usual metrics became worse by more than the budget.

    A metric that is best when large, as accuracy, may fall by as much; an error may grow by that share of itself.
    """
    names = _judged(model.manifest.answers, before, after)
    if not names:
        raise ExportError("No metric of the held-out rows is known, by which a compression is judged.", "")
    for name in names:
        _judge_by(name, model, before, after, most, variant)


def _judged(task: Task, before: dict[str, float], after: dict[str, float]) -> list[str]:
    """The first of the usual metrics, of each head where there are several."""
    if not task.parts:
        return [name for name in before if name in after][:1]
    heads = zip(task.names, task.parts, strict=True)
    wanted = [f"{name}_{head.default_metrics[0]}" for name, head in heads if head.default_metrics]
    return [name for name in wanted if name in before and name in after]


def _judge_by(
    name: str, model: Model, before: dict[str, float], after: dict[str, float], most: float, variant: str
) -> None:
    known = getattr(make_metrics((name,), model.manifest.answers)[name], "higher_is_better", None)
    falls = lower_is_better(name) if known is None else not known
    lost = (after[name] - before[name]) / max(before[name], 1e-12) if falls else before[name] - after[name]
    if not lost <= most:
        raise ToleranceExceeded(
            f"The {variant} file answers with {name} {after[name]:.4g} instead of {before[name]:.4g}, a loss of "
            f"{lost:.2%}; {most:.2%} was accepted. Nothing was published.",
            f"--max-drop {100 * lost + 0.05:.1f}% accepts it." if lost < 0.99 else "Export it without --compress.",
        )
