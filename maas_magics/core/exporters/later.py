"""Makes the ONNX export of a version from the graph of its answers, in a process of its own.

``python -m maas_magics.core.exporters.later VERSION WORK REF`` reads the folder ``VERSION`` and writes ``WORK/onnx``.
"""

from __future__ import annotations

import sys
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


if __name__ == "__main__":
    main(*sys.argv[1:])
