"""From a trained network to a version in the store."""

from __future__ import annotations

import shutil

import msgspec
import pyarrow as pa

from maas_magics.api.errors import MaasError
from maas_magics.api.results import ModelInfo
from maas_magics.core.context import Context
from maas_magics.core.exporters.export import export_to
from maas_magics.core.model import Model
from maas_magics.core.store.manifest import seal, write_manifest
from maas_magics.core.store.sample import write_sample
from maas_magics.core.store.storage import staging, unwritable

TOLERANCE = 1e-4


def publish(context: Context, model: Model, name: str, sample: pa.Table) -> ModelInfo:
    """Publish a new version in one step.

    A module that was defined in a notebook goes with its ONNX export, for that is the one form of it
    that another process can run without running its source.
    """
    manifest = model.manifest
    with staging(context.store.work) as work:
        staged = work / "version"
        staged.mkdir()
        write_manifest(staged, manifest, model.preprocess)
        model.save(staged)
        write_sample(staged, sample)
        if not manifest.declared:
            try:
                export_to(staged, model, "onnx", TOLERANCE, staged / "exports", name)
            except Exception as error:
                # The training is done, and worth more than its export; a file that failed must not be asked.
                if unwritable(error) is not None:
                    raise
                shutil.rmtree(staged / "exports", ignore_errors=True)
                told = error.message if isinstance(error, MaasError) else f"{type(error).__name__}: {error}"
                told = told.removesuffix(" Nothing was published.")
                context.tell(f"Only this kernel can run it, for it does not export: {told}", "warning")
        seal(staged)
        version = context.store.storage.publish(name, staged)
    info = msgspec.structs.replace(manifest.info, version=version)
    kept = Model(msgspec.structs.replace(manifest, info=info), model.preprocess, model.net)
    context.loader.keep(name, version, kept)
    return context.store.get(f"{name}:{version}")
