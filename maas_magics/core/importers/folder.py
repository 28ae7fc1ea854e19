"""The task behind ``%maas import``: a Hugging Face folder with its head becomes a version, without a training."""

from __future__ import annotations

import json
import time

import pyarrow as pa
import torch

from maas_magics.api.errors import ModelError
from maas_magics.api.requests import ImportRequest
from maas_magics.api.results import ModelInfo
from maas_magics.api.signature import Signature
from maas_magics.core.architectures import architectures
from maas_magics.core.context import Context, versions
from maas_magics.core.features.processor import Processor
from maas_magics.core.importers import Imported, Importer, importers
from maas_magics.core.model import Model
from maas_magics.core.networks.hub import HubFolder, open_folder
from maas_magics.core.publish import publish
from maas_magics.core.store.manifest import Manifest
from maas_magics.core.store.models import check_name
from maas_magics.core.store.sample import TARGET


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
    folder = open_folder(request.path)
    found = _importer(folder, request).read(folder, request.column or "")
    context.check_stop()
    params = {
        "base": request.path,
        "digest": folder.digest,
        "revision": folder.revision,
        "config": json.dumps(dict(folder.config), sort_keys=True),
        **found.params,
    }
    model = _model(request, folder, found, params)
    context.check_stop()
    nothing = pa.table({found.feature.name: pa.nulls(0, pa.large_string()), TARGET: pa.nulls(0, pa.int64())})
    return publish(context, model, request.name, nothing)


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


def _model(request: ImportRequest, folder: HubFolder, found: Imported, params: dict[str, object]) -> Model:
    processor = Processor.of((found.feature,), "ports")
    net = architectures.get(found.architecture).build(processor.inputs, found.task, params)
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
        signature=Signature(processor.specs, task.specs),
        vector=task.of_pairs,
        lineage={"base": request.path, "weights": folder.digest, "revision": folder.revision, **versions()},
    )
    manifest = Manifest(info=info, answers=task, params=params, plan={"imported": request.path})
    return Model(manifest, processor, net.eval())
