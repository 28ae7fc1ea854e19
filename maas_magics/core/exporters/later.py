"""Makes the ONNX export of a version from the graph of its answers, in a process of its own.

``python -m maas_magics.core.exporters.later VERSION WORK REF`` reads the folder ``VERSION`` and writes ``WORK/onnx``.
Once its input ends, so does it, and ``WORK`` is removed: then nobody is there any more who would add what it makes.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path

from maas_magics.core.exporters.export import TOLERANCE, export_to
from maas_magics.core.model import load_model
from maas_magics.core.store.manifest import check_files
from maas_magics.core.store.storage import SAMPLE


def main(version: str, work: str, ref: str) -> None:
    """Write a verified export."""
    folder = Path(version)
    check_files(folder, SAMPLE)
    export_to(folder, load_model(folder), "onnx", TOLERANCE, Path(work), ref)


def _end_with_input(work: str) -> None:
    os.read(0, 1)
    shutil.rmtree(work, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, args=sys.argv[2:3], daemon=True).start()
    main(*sys.argv[1:])
