"""Models that draw pictures from captions, step by step: ONNX Runtime answers where there is an export, else torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from maas_magics.api.errors import ModelError, OptionError
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.modalities.text import TextFeature
from maas_magics.core.runtimes import RUNTIMES
from maas_magics.core.runtimes.pictures.session import Denoise, PictureSession
from maas_magics.core.store.manifest import PREPROCESS, check_files, read_manifest, read_processor
from maas_magics.core.tasks.diffusion import LatentDiffusion


class PictureRuntime:
    """Opens versions of the task denoising."""

    def open(self, folder: Path, shared: bool) -> PictureSession:
        """Open a version's files: its export to ONNX where there is one.

        Parameters
        ----------
        folder : Path
            The version's folder.
        shared : bool
            Whether the processor is shared with a server's other work.
        """
        return self.open_variant(folder, shared, "")

    def open_variant(self, folder: Path, shared: bool, variant: str) -> PictureSession:
        """The same of an export.

        Parameters
        ----------
        folder : Path
            The version's folder.
        shared : bool
            Whether the processor is shared with a server's other work.
        variant : str
            Name of the export that answers; the plain one, if it is there, where it is empty.

        Raises
        ------
        OptionError
            If no engine here answers with it.
        """
        check_files(folder, PREPROCESS)
        processor, task = read_processor(folder), read_manifest(folder).answers
        feature = next((one for one in processor.features if isinstance(one, TextFeature)), None)
        ref = f"{folder.parent.name}:{folder.name}"
        if feature is None or len(task.row) != 3:
            raise ModelError(f"{ref} draws no pictures from captions.", f"%maas rm {ref} removes it.")
        export = folder / "exports" / (variant or "onnx")
        if (export / "model.onnx").is_file():
            check_files(folder, f"exports/{export.name}")
            return PictureSession(feature, (task.row[0], task.row[1], task.row[2]), _by_onnx(folder, export, shared))
        if variant:
            raise OptionError(f"{ref}@{variant} is a file that no engine here answers with.", f"{ref} answers.")
        if isinstance(task, LatentDiffusion):
            return _scheduled(folder, feature, task)
        return PictureSession(feature, (task.row[0], task.row[1], task.row[2]), _by_torch(folder))


def _by_onnx(folder: Path, export: Path, shared: bool) -> Denoise:
    from maas_magics.core.runtimes.engine import Engine

    engine, task = Engine(export / "model.onnx", shared), read_manifest(folder).answers

    def denoise(arrays: Sequence[Array]) -> Array:
        return task.decoded_from(engine.run(arrays))

    return denoise


def _by_torch(folder: Path) -> Denoise:
    from maas_magics.core.model import load_model

    return load_model(folder).run_hosted


def _scheduled(folder: Path, feature: TextFeature, task: LatentDiffusion) -> PictureSession:
    """A pipeline of diffusers, with the scheduler that it came with."""
    from maas_magics.core.model import load_model
    from maas_magics.core.networks.diffusion import Diffusion, scheduler_of
    from maas_magics.core.runtimes.pictures.scheduled import ScheduledSession

    model, config = load_model(folder), json.loads(task.scheduler)
    assert isinstance(model.net, Diffusion)
    shape = task.axes[0], task.axes[1], task.axes[2]
    return ScheduledSession(feature, shape, model.run_hosted, lambda: scheduler_of(config), model.net.picture)


RUNTIMES.register("pictures")(PictureRuntime)
