"""A script for a Python with coremltools: ``PROGRAM.pt2 FILE.zip``. It knows nothing of this package.

Coremltools imports TensorFlow where it is installed, for which nothing here has a use, and newer ones end the process.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any


def converted(program: Any) -> Any:
    """A program of Core ML."""
    import coremltools

    return coremltools.convert(
        program,
        minimum_deployment_target=coremltools.target.iOS17,
        compute_precision=coremltools.precision.FLOAT32,
        skip_model_load=True,
    )


def main(source: str, file: str) -> None:
    """Convert a program that the caller has just written."""
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    import torch

    program = torch.export.load(source)
    try:
        made = converted(program.run_decompositions({}))
    except NotImplementedError:  # coremltools lacks an operator, and may know those that it is made of
        made = converted(program.run_decompositions())
    with tempfile.TemporaryDirectory() as work:
        made.save(str(Path(work) / "model.mlpackage"))
        shutil.make_archive(file.removesuffix(".zip"), "zip", work)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:  # the last line is what the user gets to read
        sys.exit("\n" + " ".join(f"{type(error).__name__}: {error}".split())[:200])
