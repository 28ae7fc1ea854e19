"""From a trained network to a version in the store."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pyarrow as pa
import torch

from maas_magics.api.errors import MaasError
from maas_magics.api.results import ModelInfo
from maas_magics.core.any_length import opened, other_lengths
from maas_magics.core.context import Context
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters.examples import drawn, example
from maas_magics.core.exporters.export import TOLERANCE, export_to
from maas_magics.core.features.module import entered
from maas_magics.core.graphs.answers import BATCHES, compare_answers, pack_answers, unpack_answers
from maas_magics.core.model import ANSWERS, WEIGHTS, Model, load_weights
from maas_magics.core.networks.lookups import looked_up
from maas_magics.core.seal.envelope import begin
from maas_magics.core.seal.files import put
from maas_magics.core.store.manifest import seal, write_manifest
from maas_magics.core.store.sample import TARGET, write_sample
from maas_magics.core.store.storage import staging, unwritable


def publish(context: Context, model: Model, name: str, sample: pa.Table, encrypt: bool = False) -> ModelInfo:
    """Publish a new version in one step, encrypted where that is asked for.

    A module that was defined in a notebook goes with the graph of its answers, from which any process can run it
    without running its source, and make its ONNX export once that is needed. Where torch captures no such graph, or
    the process is one that need not answer soon, it goes with the export itself.
    """
    model = _with_ids(model, sample)
    with staging(context.store.work) as work:
        staged = work / "version"
        staged.mkdir()
        if encrypt:
            begin(staged)
        model.save(staged)
        write_sample(staged, sample)
        if not model.manifest.declared and context.exports_later:
            model, whole = _with_answers(staged, model, sample)
        else:
            whole = model.manifest.declared
        write_manifest(staged, model.manifest, model.processor)
        if not whole:
            _export(context, staged, model, name)
        seal(staged)
        version = context.store.storage.publish(name, staged)
    info = msgspec.structs.replace(model.manifest.info, version=version)
    kept = Model(msgspec.structs.replace(model.manifest, info=info), model.processor, model.net)
    context.loader.keep(name, version, kept)
    return context.store.get(f"{name}:{version}")


def _with_ids(model: Model, sample: pa.Table) -> Model:
    """The model with what its module looks up in tables, so that ids beyond them are refused everywhere alike."""
    features = model.processor.features
    if model.manifest.declared or all(feature.spec.datatype[:3] not in ("INT", "UIN") for feature in features):
        return model
    try:
        raw = model.processor.encode(sample.slice(0, 2).drop_columns([TARGET])) if len(sample) else drawn(model)
        rows = looked_up(model.graph, entered(model.processor, raw))
    except Exception:  # whatever a module raises on few rows; the ids are not checked then
        return model
    found = tuple(
        msgspec.structs.replace(feature, ids=rows[place])
        if place in rows and "ids" in feature.__struct_fields__
        else feature
        for place, feature in enumerate(features)
    )
    return Model(model.manifest, msgspec.structs.replace(model.processor, features=found), model.net)


def _with_answers(staged: Path, model: Model, sample: pa.Table) -> tuple[Model, bool]:
    """Write the graph of a module's answers, for rows of any length if it can be; whether there is one."""
    rows = sum(BATCHES)
    try:
        raw = model.processor.encode(sample.slice(0, rows).drop_columns([TARGET])) if len(sample) else drawn(model)
    except Exception:  # a column that cannot be encoded, which the export reports
        return model, False
    raw = [values[:rows] for values in raw]
    wide = opened(model, raw)
    if wide is not None and _write_answers(staged, wide, raw):
        return wide, True
    return model, _write_answers(staged, model, raw)


def _write_answers(staged: Path, model: Model, raw: list[Array]) -> bool:
    """Write the graph of a module's answers, compared with the module; False where there is none to be had."""
    try:
        saved = load_weights(staged / WEIGHTS)
        with torch.no_grad():
            transform = model.graph.transform
            data = pack_answers(model.net, transform(*example(model)), saved, model.processor.open_axes)
            graph = unpack_answers(data, saved)
            for rows in (raw, *other_lengths(model, raw)):
                compare_answers(model.net, graph, transform(*entered(model.processor, rows)))
    except Exception:  # torch raises many unrelated kinds here; the export that follows reports why
        return False
    put(staged / ANSWERS, data)
    return True


def _export(context: Context, staged: Path, model: Model, name: str) -> None:
    """Write the ONNX export of a module, or notify why there is none."""
    try:
        export_to(staged, model, "onnx", TOLERANCE, staged / "exports", name)
    except Exception as error:
        # The training is done, and worth more than its export; a file that failed must not be used.
        if unwritable(error) is not None:
            raise
        shutil.rmtree(staged / "exports", ignore_errors=True)
        told = error.message if isinstance(error, MaasError) else f"{type(error).__name__}: {error}"
        told = told.removesuffix(" Nothing was published.")
        context.notify(f"Only this kernel can run it, for it does not export: {told}", "warning")
