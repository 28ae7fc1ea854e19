"""The task behind `%export`: convert, verify against the model on held-out rows, and only then publish."""

from __future__ import annotations

from pathlib import Path

import msgspec

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import ExportRequest
from maas_magics.api.results import Artifact
from maas_magics.core.context import Context
from maas_magics.core.delivery import deliver
from maas_magics.core.exporters.by_task import exporter_of
from maas_magics.core.exporters.export import export_to
from maas_magics.core.exporters.text.trial import keeps_texts
from maas_magics.core.exporters.variant import compressed_to, format_of, variant_of
from maas_magics.core.store.manifest import check_files
from maas_magics.core.store.storage import SAMPLE, staging


def export(request: ExportRequest, context: Context) -> Artifact:
    """Convert a version, verify it, and add it to the version's exports.

    Raises
    ------
    ExportError
        If it cannot be converted or opened.
    ToleranceExceeded
        If its answers differ by more than the tolerance. Nothing is published then.
    """
    format = format_of(request.compress) if request.compress else request.format
    if request.format not in ("onnx", format):
        raise OptionError(f"{request.compress} compresses {format} files, not {request.format}.", "Drop --format.")
    if not request.tolerance > 0:
        raise OptionError(f"The tolerance is {request.tolerance:g}; a number above 0 was expected.", "--tolerance 1e-4")
    name, version = context.store.whole(request.model)
    if request.compress and variant_of(request.compress) in context.store.storage.aliases(name):
        raise OptionError(
            f"{name}@{request.compress} is an alias, which would stand before the variant.",
            f"%maas alias {name} another-name",
        )
    folder = context.store.folder(name, version)
    check_files(folder, SAMPLE)
    model = context.loader.model(name, version)
    exporter = exporter_of(format, model.manifest.answers, f"{name}:{version}")
    kind = f"{request.format}, {request.compress}" if request.compress else request.format
    context.notify(f"Exporting {name}:{version} to {kind}.")
    if model.manifest.answers.runtime == "text" and not keeps_texts(folder):
        context.notify("No texts were kept with it: it is judged on texts that it writes itself.")
    with staging(context.store.work) as work:
        if request.compress:
            artifact = compressed_to(request, folder, model, work, f"{name}:{version}", context.notify)
        else:
            artifact = export_to(folder, model, request.format, request.tolerance, work, f"{name}:{version}")
        context.check_stop()
        context.store.storage.add(name, version, f"exports/{artifact.variant}", work / artifact.variant)
    context.loader.forget(name, version)
    place = context.store.folder(name, version) / "exports" / artifact.variant
    if request.out:
        place = deliver(place, exporter.file, Path(request.out).expanduser())
    return msgspec.structs.replace(artifact, path=str(place))
