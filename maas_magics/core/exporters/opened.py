"""Exports that answer in place of the model that they were made of, as where they are scored."""

from __future__ import annotations

from pathlib import Path

import msgspec

from maas_magics.api.results import Artifact
from maas_magics.core.exporters import Run
from maas_magics.core.exporters.by_task import exporter_of
from maas_magics.core.model import Model
from maas_magics.core.store.manifest import check_files
from maas_magics.core.store.storage import REPORT


def open_variant(model: Model, version: Path, variant: str) -> Run:
    """Open an export of a version.

    Parameters
    ----------
    model : Model
        The version in torch.
    version : Path
        Folder of the model's own files.
    variant : str
        Name of the export.
    """
    check_files(version, f"exports/{variant}")
    folder = version / "exports" / variant
    made = msgspec.json.decode((folder / REPORT).read_bytes(), type=Artifact)
    exporter = exporter_of(made.format, model.manifest.answers, made.model)
    return exporter.load(folder / exporter.file, version, model)
