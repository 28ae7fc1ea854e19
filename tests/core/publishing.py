"""Helpers of the store's tests: versions without a training, and programs that publish them from other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from maas_magics.api.results import ModelInfo
from maas_magics.core.features.modalities.number import Number
from maas_magics.core.features.processor import Processor
from maas_magics.core.store.manifest import Manifest, read_manifest, write_manifest
from maas_magics.core.store.models import Store
from maas_magics.core.store.storage import staging
from maas_magics.core.tasks.regression import Regression

PARTS = 6


def stage(folder: Path, name: str, mark: str, size: int = 100) -> Path:
    """A version's folder whose files all carry the same mark."""
    folder.mkdir()
    info = ModelInfo(name=name, version=0, task="regression", architecture=mark, lineage={"seed": "0"})
    answers = Regression(("y",), center=(0.0,), scale=(1.0,))
    write_manifest(
        folder,
        Manifest(info=info, answers=answers),
        Processor.of([Number("a")], "flat"),
    )
    for part in range(PARTS):
        (folder / f"part{part}").write_text(mark * size)
    return folder


def put(store: Store, name: str, mark: str = "mark", size: int = 100) -> int:
    """Publish a version."""
    with staging(store.work) as work:
        return store.storage.publish(name, stage(work / "version", name, mark, size))


def marks(store: Store, name: str, version: int, size: int = 100) -> set[str]:
    """Marks of a version's files: one if it is whole."""
    folder = store.folder(name, version)
    info = read_manifest(folder).info
    found = {(folder / f"part{part}").read_text() for part in range(PARTS)}
    return {info.architecture} | {text[: len(text) // size] for text in found}


def program(code: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    """Another process that runs ``code`` with these helpers at hand."""
    whole = f"import sys\nfrom publishing import *\n{code}"
    path = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
    return subprocess.Popen(
        [sys.executable, "-c", whole, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def output(process: subprocess.Popen[str]) -> str:
    """What a program printed, once it has ended well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()
