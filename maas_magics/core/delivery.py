"""Copies of an export outside the store."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from maas_magics.api.errors import ExportError
from maas_magics.core.seal.envelope import SEAL
from maas_magics.core.seal.files import has_seal


def deliver(place: Path, file: str, out: Path) -> Path:
    """Copy the model file to a file, or the whole variant into a folder.

    Raises
    ------
    ExportError
        If it cannot be copied, or is a file that says nothing without another one.
    """
    alone = bool(out.suffix) and not out.is_dir()
    if alone and (place / f"{file}.data").is_file():
        raise ExportError(
            f"The export is in the store, but is no single file: the weights of {file} stand in {file}.data.",
            f"--out {out.with_suffix('')}",
        )
    if alone and has_seal(place):
        raise ExportError(
            f"The export is in the store, but is no single file: the key of {file} stands in {SEAL}.",
            f"--out {out.with_suffix('')}",
        )
    try:
        if alone:
            out.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place / file, out)
        else:
            shutil.copytree(place, out, dirs_exist_ok=True)
    except OSError as error:
        raise ExportError(
            f"The export is in the store, but cannot be copied to {out}: {error.strerror}.", "--out FOLDER"
        ) from error
    return out


def deliver_files(files: Mapping[str, bytes], out: Path) -> Path:
    """The same with the files of an export that lies elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, data in files.items():
            if Path(name).name != name:
                raise ExportError(f"The export holds a file {name!r}, which is not a file name.")
            (place / name).write_bytes(data)
        return deliver(place, next((name for name in files if name.startswith("model")), ""), out)
