"""The task behind ``%maas import``: a Hugging Face folder with its head becomes a version, without a training."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import torch

from maas_magics.api.errors import ModelError, OptionError
from maas_magics.api.requests import ImportRequest
from maas_magics.api.results import ModelInfo
from maas_magics.api.signature import Signature
from maas_magics.core.architectures import architectures
from maas_magics.core.context import Context, versions
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.data.target import part, target_names
from maas_magics.core.data.target_values import Beside
from maas_magics.core.exporters.examples import ask, padded_inputs
from maas_magics.core.exporters.export import metrics_of
from maas_magics.core.features.gguf import unpacked
from maas_magics.core.features.processor import Processor
from maas_magics.core.importers import Imported, Importer, importers
from maas_magics.core.importers.estimators.bring import import_estimator
from maas_magics.core.importers.onnx.bring import Origin, import_graph
from maas_magics.core.importers.refused import check_pickled
from maas_magics.core.importers.tensorflow.bring import import_keras, is_keras
from maas_magics.core.importers.version import import_version, is_version
from maas_magics.core.model import Model
from maas_magics.core.networks.hub import HubFolder, check_offered, open_folder, written_here
from maas_magics.core.publish import publish
from maas_magics.core.store.manifest import Manifest
from maas_magics.core.store.models import check_name
from maas_magics.core.store.sample import TARGET
from maas_magics.core.store.storage import staging

SAMPLE_ROWS = 1_000
"""Held-out rows that are kept at most."""


def import_model(request: ImportRequest, context: Context) -> ModelInfo:
    """Publish what a folder holds as a new version.

    Parameters
    ----------
    request : ImportRequest
        The folder, and what it is to be called.
    context : Context
        Where it becomes a model.

    Raises
    ------
    ModelError
        If there is no such folder, or no kind of import is for what it holds.
    """
    check_name(request.name)
    given: Any = request.path
    if not isinstance(given, (str, Path)):
        return import_estimator(request, context)
    file = Path(given).expanduser()
    check_pickled(file)
    if (file / "artifact.json").is_file() and (file / "model.onnx").is_file():  # an export of this package
        file = file / "model.onnx"
    if file.suffix.lower() == ".onnx":
        check_offered(file, request.path)
        return import_graph(file, request, context, Origin(request.path))
    if is_keras(file):
        check_offered(file, request.path)
        return import_keras(file, request, context)
    if is_version(file):
        check_offered(file, request.path)
        return import_version(file, request, context)
    if file.suffix.lower() == ".gguf":
        check_offered(file, request.path)
    if file.suffix.lower() == ".gguf" and file.is_file():
        with staging(context.store.work) as work, written_here(work / "unpacked"):
            unpacked(file, work / "unpacked")
            return _import(msgspec.structs.replace(request, path=str(work / "unpacked")), context, request.path)
    return _import(request, context, request.path)


def _import(request: ImportRequest, context: Context, base: str) -> ModelInfo:
    """Publish what a folder holds, which came from ``base``."""
    folder = open_folder(request.path)
    found = _importer(folder, request).read(folder, request.column or "")
    if found.note:
        context.notify(found.note)
    if isinstance(request.target, str) and len(found.task.names) == 1:
        found = replace(found, task=msgspec.structs.replace(found.task, names=(request.target,)))
    context.check_stop()
    params = {**folder.named(base), **found.params}
    model = _model(request, folder, found, params, base)
    context.check_stop()
    sample = pa.table({found.feature.name: pa.nulls(0, pa.large_string()), TARGET: pa.nulls(0, pa.int64())})
    if request.data is not None:
        sample, model = _held_out(request, model, context)
    context.check_stop()
    return publish(context, model, request.name, sample)


def _held_out(request: ImportRequest, model: Model, context: Context) -> tuple[pa.Table, Model]:
    """Rows that are kept with a model, their encoded target among them, and the model with its metrics of them."""
    task, processor = model.manifest.answers, model.processor
    if task.runtime:
        raise OptionError("A model that writes or draws is imported without rows.", "%evaluate scores one that writes.")
    if task.of_pairs:
        raise OptionError("A model of vectors is imported without rows.", "%evaluate scores it on pairs.")
    target = request.target
    if target is None and not (isinstance(request.data, tuple) and len(request.data) == 2):
        target = task.names[0] if len(task.names) == 1 else task.names
    beside = Beside()
    named = list(target_names(target, (), -1)) if task.classes else []
    _, table, values, _ = part(request.data, target, None, processor.texts + named, beside)
    for note in beside.notes:
        context.notify(note)
    table, values = table.slice(0, SAMPLE_ROWS), values[:SAMPLE_ROWS]
    task.check_rows(values)
    known = task.encode(values)
    decoded = ask(model.run_hosted, processor.hosted_raw(processor.encode(table)), padded_inputs(processor))
    sample = processor.kept(table.select(processor.names)).append_column(TARGET, column(known, TARGET))
    info = msgspec.structs.replace(model.manifest.info, metrics=metrics_of(model, decoded, known))
    return sample, Model(msgspec.structs.replace(model.manifest, info=info), processor, model.net)


def _importer(folder: HubFolder, request: ImportRequest) -> Importer:
    """The kind that was requested, or the one that is for a folder."""
    if request.kind is not None:
        return importers.get(request.kind)
    for name in importers:
        if importers.get(name).accepts(folder):
            return importers.get(name)
    what = ", ".join(map(str, folder.config.get("architectures") or ())) or folder.config.get("model_type", "nothing")
    raise ModelError(
        f"{request.path} holds {what}, which has no head that answers here.",
        f"--model hf:{request.path} trains one; --kind: {', '.join(importers.names())}.",
    )


def _model(request: ImportRequest, folder: HubFolder, found: Imported, params: dict[str, object], base: str) -> Model:
    processor = Processor.of((found.feature, *found.more), "ports")
    told = tuple(feature.answer for feature in processor.features if feature.answer is not None)
    net = architectures.get(found.architecture).build(processor.inputs, found.task, {**params, "base": request.path})
    nothing = torch.zeros(0)
    net.initialise(nothing, nothing, nothing)  # type: ignore[operator]
    task = found.task.of_network(net)
    info = ModelInfo(
        name=request.name,
        version=0,
        task=task.task,
        architecture=found.architecture,
        target=task.names,
        classes=task.labels if task.classes else (),
        created=time.time(),
        parameters=sum(p.numel() for p in net.parameters()),
        signature=Signature(processor.asked, told or task.specs),
        vector=task.of_pairs,
        lineage={"base": base, "weights": folder.digest, "revision": folder.revision, **versions()},
        iterative=bool(task.runtime),
        streams=task.streams and len(task.specs) == 1,
    )
    manifest = Manifest(info=info, answers=task, params=params, plan={"imported": base}, runtime=task.runtime)
    return Model(manifest, processor, net.eval())
