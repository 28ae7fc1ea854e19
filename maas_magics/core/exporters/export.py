"""Convert a version, and verify what was written against the model on held-out rows."""

from __future__ import annotations

import hashlib
import re
from contextlib import nullcontext
from pathlib import Path

import msgspec
import numpy as np
import torch

from maas_magics.api.errors import ExportError, ToleranceExceeded
from maas_magics.api.results import Artifact, Verification
from maas_magics.api.signature import Signature
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters.by_task import exporter_of
from maas_magics.core.exporters.card import CARD, card
from maas_magics.core.exporters.check import Checked, checking
from maas_magics.core.exporters.examples import latency
from maas_magics.core.exporters.facts import mean_difference, with_facts
from maas_magics.core.exporters.text.trial import keeps_texts
from maas_magics.core.exporters.trial import Trial, trial_of
from maas_magics.core.model import Model
from maas_magics.core.seal.envelope import begin
from maas_magics.core.seal.files import has_seal, put
from maas_magics.core.store.manifest import digests
from maas_magics.core.store.storage import REPORT
from maas_magics.core.tasks.metric_names import make_metrics
from maas_magics.core.tasks.metrics import evaluate
from maas_magics.core.tracing import tracing_lock

TOLERANCE = 1e-4
"""Difference from the model that an export may have where no one requests another."""


ADAPTED = "The adapters that were trained (LoRA {}) are added to the weights they stood beside; the file has no others."
"""What a report says of a version that was trained by adapters."""

ENCRYPTED = "+encrypted"
"""Ends the names of encrypted exports of a version that is not encrypted itself."""


def variant_name(variant: str, version: Path, encrypt: bool) -> str:
    """What an export is called: by its format or compression, and whether it alone is encrypted.

    Parameters
    ----------
    variant : str
        The format or compression.
    version : Path
        Folder of the model's own files.
    encrypt : bool
        Whether encryption was asked for.
    """
    return variant + ENCRYPTED if encrypt and not has_seal(version) else variant


def check_sealable(what: object, name: str) -> None:
    """Raise `ExportError` where an exporter or compressor writes files by itself, which would lie readable for a while.

    Parameters
    ----------
    what : Exporter or Compressor
        Of the export.
    name : str
        What it is called.
    """
    if not getattr(what, "sealable", False):
        raise ExportError(
            f"{name} writes its files itself, readable for a while: it cannot be encrypted.",
            "--format onnx, pt2 or safetensors; --compress int8, int4, fp16 or bf16.",
        )


def export_to(
    version: Path, model: Model, format: str, tolerance: float, place: Path, ref: str, encrypt: bool = False
) -> Artifact:
    """Write ``place/<format>/`` with a verified file and its report; ``place/<format>+encrypted/`` where it alone is.

    Of a version that is encrypted, every export is.

    Parameters
    ----------
    version : Path
        Folder of the model's own files, its held-out rows among them.
    ref : str
        What the report calls the model.
    encrypt : bool
        Whether its files are encrypted.
    """
    answers = model.manifest.answers
    exporter = exporter_of(format, answers, ref)
    variant = variant_name(format, version, encrypt)
    folder = place / variant
    folder.mkdir(parents=True)
    if encrypt or has_seal(version):
        check_sealable(exporter, format)
        begin(folder)
    file = folder / exporter.file
    for name, data in model.processor.files.items():
        put(folder / re.sub(r"[^\w.-]", "_", name), data)
    why = getattr(exporter, "unopened", "")
    with checking(format, file, version) if exporter.isolated and not why else nullcontext() as check:
        with tracing_lock():
            signature = exporter.export(model, file)
        trial = trial_of(model, version)
        checked = check(trial.hosted) if check else None
    if why:
        return report(
            model, version, folder, file, _unverified(model, version, trial, format, tolerance, ref, signature, why)
        )
    if checked is None:
        run, slowest = exporter.load(file, version, model), dict[str, float]()
        checked = Checked(trial.answers(run), latency(run, trial.hosted, slowest), slowest)
    before, before_ms = trial.answers(), latency(trial.run, trial.hosted)
    after = checked.answers
    if before.shape != after.shape:
        raise ExportError(
            f"The exported file answers {after.shape} where the model answers {before.shape}.", "Try another --format."
        )
    apart = answers.difference(*model.comparable(before, after))
    unit = " standard deviations of the target" if answers.standardised else ""
    if not apart <= tolerance:
        raise ToleranceExceeded(
            f"The {format} file differs from the model by up to {apart:.1e}{unit}; {tolerance:.0e} was accepted. "
            "Nothing was published.",
            f"--tolerance {10 ** np.ceil(np.log10(apart)):.0e} accepts it."
            if np.isfinite(apart)
            else "Look for NaN in its answers.",
        )
    made = Artifact(
        model=ref,
        variant=variant,
        format=format,
        path="",
        digest="",
        signature=signature,
        verification=Verification(
            rows=trial.rows,
            max_abs_diff=apart,
            tolerance=tolerance,
            metrics_before=metrics_of(model, before, trial.target) if trial.kept else {},
            metrics_after=metrics_of(model, after, trial.target) | answers.compare(before, after) if trial.kept else {},
            bytes_before=model.weights_bytes(version),
            bytes_after=0,
            latency_before=before_ms,
            latency_after=checked.latency,
            slowest_after=checked.slowest,
            mean_abs_diff=mean_difference(before, after, apart),
            memory=checked.memory,
        ),
        files={},
        notes=(ADAPTED.format(lora),) if (lora := model.manifest.plan.get("lora", "")) else (),
    )
    return report(model, version, folder, file, made)


def _unverified(
    model: Model,
    version: Path,
    trial: Trial,
    format: str,
    tolerance: float,
    ref: str,
    signature: Signature,
    why: str,
) -> Artifact:
    """The report of a file that no runtime opens here."""
    before = trial.answers()
    return Artifact(
        model=ref,
        variant=format,
        format=format,
        path="",
        digest="",
        signature=signature,
        verification=Verification(
            rows=0,
            max_abs_diff=None,
            tolerance=tolerance,
            metrics_before=metrics_of(model, before, trial.target) if trial.kept else {},
            metrics_after={},
            bytes_before=model.weights_bytes(version),
            bytes_after=0,
            latency_before=latency(trial.run, trial.hosted),
            latency_after={},
            unverified=why,
        ),
        files={},
    )


def report(model: Model, version: Path, folder: Path, file: Path, made: Artifact) -> Artifact:
    """Write what was found of an export beside its files, and its card; with their digests and bytes.

    Parameters
    ----------
    model : Model
        The version in torch.
    version : Path
        Folder of the model's own files.
    folder : Path
        Of the export.
    file : Path
        The model file in it.
    made : Artifact
        What was found.
    """
    (folder / REPORT).unlink(missing_ok=True)  # an earlier one is none of the files that a report tells of
    (folder / CARD).unlink(missing_ok=True)
    made = with_facts(made, file)
    verified = msgspec.structs.replace(made.verification, bytes_after=_size(folder))
    made = msgspec.structs.replace(made, verification=verified)
    (folder / CARD).write_text(card(model, made, file.name, keeps_texts(version), has_seal(folder)), encoding="utf-8")
    verified = msgspec.structs.replace(verified, bytes_after=_size(folder))
    artifact = msgspec.structs.replace(made, digest=digest_of(file), verification=verified, files=digests(folder))
    (folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(artifact), indent=1))
    return artifact


def metrics_of(model: Model, answers: Array, target: Array) -> dict[str, float]:
    """The usual metrics of some answers.

    Parameters
    ----------
    model : Model
        The version in torch.
    answers : ndarray, shape (n, …)
        Decoded answers.
    target : ndarray, shape (n,) or (n, k)
        Encoded target of the same rows.
    """
    spec = model.manifest.answers
    decoded = spec.table(torch.from_numpy(np.ascontiguousarray(answers)))
    found = evaluate(make_metrics((), spec), *spec.scored(decoded, spec.truth(torch.from_numpy(target.copy()))))
    return {name: value for name, value in found.items() if value == value}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def digest_of(file: Path) -> str:
    """SHA-256 of a file."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
