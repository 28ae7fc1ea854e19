"""A version of another store becomes a version of this one."""

from __future__ import annotations

import shutil
from pathlib import Path

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import ImportRequest
from maas_magics.api.results import ModelInfo
from maas_magics.core.context import Context
from maas_magics.core.store.manifest import check_files, rename
from maas_magics.core.store.storage import MANIFEST, staging


def is_version(folder: Path) -> bool:
    """Whether a folder is a version of a model, as a store keeps it.

    Parameters
    ----------
    folder : Path
        As the user named it.
    """
    return (folder / MANIFEST).is_file() and (folder / "preprocess").is_dir()


def import_version(folder: Path, request: ImportRequest, context: Context) -> ModelInfo:
    """Publish the files of another store's version, which are those that were published there.

    Parameters
    ----------
    folder : Path
        ``…/models/NAME/VERSION`` of another store.
    request : ImportRequest
        What it is to be called.
    context : Context
        Where it becomes a model.

    Raises
    ------
    StoreError
        If one of its files was changed.
    """
    if request.data is not None:
        raise OptionError("A version of another store is imported with its own rows.", "Drop --sample.")
    check_files(folder)
    check_files(folder, "exports")
    with staging(context.store.work) as work:
        staged = work / "version"
        shutil.copytree(folder, staged, ignore=shutil.ignore_patterns("claim"))
        rename(staged, request.name)
        version = context.store.storage.publish(request.name, staged)
    return context.store.get(f"{request.name}:{version}")
