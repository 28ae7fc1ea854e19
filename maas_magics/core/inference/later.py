"""The ONNX export of a module that was published without it, made where it is first needed.

A process of its own makes it, from the graph of the module's answers: the caller needs no torch for it, and a graph
that takes its process with it takes no other.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from maas_magics.api.child import python
from maas_magics.api.errors import StoreError
from maas_magics.core.store.models import Store
from maas_magics.core.store.storage import staging

ANSWERS = "answers.zip"

SECONDS = 1_800
"""Most that the making and verifying of an export takes."""


def is_awaited(folder: Path) -> bool:
    """Whether a version of this folder is one whose ONNX export is still to be made."""
    return (folder / ANSWERS).is_file() and not (folder / "exports" / "onnx").is_dir()


def add_export(store: Store, name: str, version: int) -> bool:
    """Make the ONNX export of a version and add it; two processes that do so at once add one.

    Returns
    -------
    bool
        False where it cannot be exported, or the store takes nothing: the graph itself answers then.
    """
    try:
        with staging(store.work) as work:
            folder = store.folder(name, version)
            command = python("maas_magics.core.exporters.later", str(folder), str(work), f"{name}:{version}")
            with _child(command) as child:
                try:
                    told = child.communicate(timeout=SECONDS)[1]
                except subprocess.TimeoutExpired:
                    return _failed(name, version, f"it took more than {SECONDS:,} seconds")
            if child.returncode:
                lines = told.decode(errors="replace").strip().splitlines()
                return _failed(name, version, lines[-1] if lines else f"exit status {child.returncode}")
            store.storage.add(name, version, "exports/onnx", work / "onnx", replace=False)
    except StoreError as error:
        return _failed(name, version, error.message)
    return True


@contextmanager
def _child(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, and with this process however that ends: its input is then at its end."""
    theirs, ours = os.pipe()
    try:
        try:
            child = subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        finally:
            os.close(theirs)
        with child:
            try:
                yield child
            finally:
                child.kill()
    finally:
        os.close(ours)


def _failed(name: str, version: int, why: str) -> bool:
    logging.getLogger(__name__).warning(
        "%s:%d is answered by torch, for its ONNX export failed: %s", name, version, why
    )
    return False
