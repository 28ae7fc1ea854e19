"""The task behind `%export`: convert, verify against the model on held-out rows, and only then publish."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import ExportRequest
from maas_magics.api.results import Artifact
from maas_magics.api.share import share_of
from maas_magics.core.context import Context
from maas_magics.core.delivery import deliver
from maas_magics.core.exporters.by_task import exporter_of
from maas_magics.core.exporters.export import export_to, report, variant_name
from maas_magics.core.exporters.frontier import tried
from maas_magics.core.exporters.shrunk import SHRUNK, parted, pruned_export
from maas_magics.core.exporters.steps import format_of, variant_of
from maas_magics.core.exporters.text.trial import keeps_texts
from maas_magics.core.exporters.variant import PLAIN, compressed_to, judged_on, plain_export
from maas_magics.core.seal.files import has_seal
from maas_magics.core.store.copies import send_folder
from maas_magics.core.store.manifest import check_files
from maas_magics.core.store.places import is_address
from maas_magics.core.store.storage import REPORT, SAMPLE, staging

TARGETS = ("size", "latency")
"""What the best of several compressions may have least of."""


def export(request: ExportRequest, context: Context) -> Artifact:
    """Convert a version, verify it, and add it to the version's exports.

    Raises
    ------
    ExportError
        If it cannot be converted or opened.
    ToleranceExceeded
        If its answers differ by more than the tolerance. Nothing is published then.
    """
    if request.auto:
        return _best(request, context)
    if request.target is not None:
        raise OptionError("--target says what the best of --auto has least of.", f"--auto --target {request.target}")
    format = format_of(request.compress) if request.compress else request.format
    if request.format not in ("onnx", format):
        raise OptionError(f"{request.compress} compresses {format} files, not {request.format}.", "Drop --format.")
    if not request.tolerance > 0:
        raise OptionError(f"The tolerance is {request.tolerance:g}; a number above 0 was expected.", "--tolerance 1e-4")
    name, version = context.store.whole(request.model)
    folder = context.store.folder(name, version)
    variant = variant_name(variant_of(request.compress) if request.compress else format, folder, request.encrypt)
    if variant != format and variant in context.store.storage.aliases(name):
        raise OptionError(
            f"{name}@{variant} is an alias, which would stand before the variant.",
            f"%maas alias {name} another-name",
        )
    check_files(folder, SAMPLE)
    model = context.loader.model(name, version)
    exporter = exporter_of(format, model.manifest.answers, f"{name}:{version}")
    if request.data is not None and not request.compress:
        raise OptionError("--data gives rows to learn on again, which --compress prune does.", "Drop --data.")
    kind = ", ".join(filter(None, (request.format, request.compress, "encrypted" if request.encrypt else None)))
    context.notify(f"Exporting {name}:{version} to {kind}.")
    if model.manifest.answers.runtime == "text" and not keeps_texts(folder):
        context.notify("No texts were kept with it: it is judged on texts that it writes itself.")
    with staging(context.store.work) as work:
        if request.compress:
            artifact = compressed_to(
                request, folder, model, work, f"{name}:{version}", context.notify, context.check_stop
            )
        else:
            ref = f"{name}:{version}"
            artifact = export_to(folder, model, request.format, request.tolerance, work, ref, request.encrypt)
        context.check_stop()
        context.store.storage.add(name, version, f"exports/{artifact.variant}", work / artifact.variant)
        base = variant_name(format, folder, request.encrypt)
        if (made := work / PLAIN / base).is_dir():  # the next variant needs no other trace
            context.store.storage.add(name, version, f"exports/{base}", made)
    context.loader.forget(name, version)
    place = context.store.folder(name, version) / "exports" / artifact.variant
    if request.out and is_address(request.out):
        return msgspec.structs.replace(artifact, path=send_folder(place, request.out, REPORT))
    if request.out:
        place = deliver(place, exporter.file, Path(request.out).expanduser())
    return msgspec.structs.replace(artifact, path=str(place))


def _best(request: ExportRequest, context: Context) -> Artifact:
    """Try the sensible compressions, and publish the best within the budget, with the table of all."""
    if request.compress or request.format != "onnx":
        raise OptionError("--auto chooses the compression of an ONNX file itself.", "Drop --compress and --format.")
    if request.encrypt or has_seal(context.store.folder(*context.store.whole(request.model))):
        raise OptionError("--auto tries files that lie readable for a while.", "--compress int8 --encrypt")
    least = request.target or TARGETS[0]
    if least not in TARGETS:
        raise OptionError(f"The target is {least}; size or latency was expected.", "--target size")
    most = share_of(request.max_drop, "--max-drop")
    name, version = context.store.whole(request.model)
    ref, folder = f"{name}:{version}", context.store.folder(name, version)
    check_files(folder, SAMPLE)
    model = context.loader.model(name, version)
    if model.manifest.answers.runtime == "text" or model.manifest.info.iterative:
        raise OptionError(f"--auto is for models that answer in one pass, which {ref} does not.", "--compress int4")
    exporter = exporter_of("onnx", model.manifest.answers, ref)
    with staging(context.store.work) as work:
        trial = judged_on(model, folder, ref)
        context.notify(f"Exporting {ref} to onnx, then trying what makes it smaller.")
        plain = plain_export(folder, model, "onnx", request.tolerance, work, ref)
        check_files(folder, *(["exports/onnx"] if plain.parent.parent == folder else []))
        pruned = dict[str, Path]()
        if request.data is not None:
            trial, rows, _ = parted(request, model, trial)
            ways = (folder, rows, request.tolerance, work, ref, context.check_stop)
            pruned = pruned_export(model, *ways, context.notify)
        found = tried(plain, folder, model, trial, most, least, context.notify, context.check_stop, work, pruned)
        shutil.rmtree(work / SHRUNK, ignore_errors=True)
        kept = next(each.name for each in found if each.best)
        context.notify(f"{kept} has the least {least} within a loss of {most:.2%}.")
        if kept in context.store.storage.aliases(name):
            raise OptionError(
                f"{name}@{kept} is an alias, which would stand before the variant.", f"%maas alias {name} another-name"
            )
        if kept == "onnx":
            artifact = msgspec.json.decode((plain / REPORT).read_bytes(), type=Artifact)
            shutil.copytree(plain, work / kept)
        else:
            data = request.data if kept.split("+")[0] in pruned else None
            chosen = msgspec.structs.replace(request, compress=kept, auto=False, data=data)
            artifact = compressed_to(chosen, folder, model, work, ref, context.notify, context.check_stop)
        artifact = msgspec.structs.replace(artifact, model=ref, frontier=found)
        artifact = report(model, folder, work / kept, work / kept / exporter.file, artifact)
        context.check_stop()
        for variant, made in ((kept, work / kept), ("onnx", work / PLAIN / "onnx")):
            if made.is_dir() and (variant == kept or kept != "onnx"):
                context.store.storage.add(name, version, f"exports/{variant}", made)
    context.loader.forget(name, version)
    place = context.store.folder(name, version) / "exports" / kept
    if request.out:
        place = deliver(place, exporter.file, Path(request.out).expanduser())
    return msgspec.structs.replace(artifact, path=str(place))
