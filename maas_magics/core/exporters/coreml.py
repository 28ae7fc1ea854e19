"""Core ML: Apple's own format, from numbers and category codes to decoded answers; an extra.

It is opened on macOS alone. Elsewhere it is written, and reported as not verified.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from maas_magics.api.errors import ExportError, require
from maas_magics.api.signature import Signature
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters import Run, exporters
from maas_magics.core.exporters.beside.program import converted
from maas_magics.core.exporters.examples import singles
from maas_magics.core.model import Model

MOST = 256
"""Rows of a call."""

PURPOSE, EXTRA = "The Core ML export", "maas-magics[coreml]"


class CoreMl:
    """``model.mlpackage``, a folder, as a zip file."""

    file = "model.mlpackage.zip"
    isolated = True

    @property
    def unopened(self) -> str:
        """Why no file is opened here; empty on macOS."""
        return "" if sys.platform == "darwin" else "Core ML answers on macOS alone"

    def export(self, model: Model, file: Path) -> Signature:
        """Write ``model`` as a program of Core ML, in floats of 32 bits.

        Raises
        ------
        ExportError
            If torch cannot trace it, or coremltools has no rule for one of its operators.
        MissingDependency
            If coremltools is not installed.
        """
        require("coremltools", "coremltools", PURPOSE, EXTRA)
        converted(model, MOST, "Core ML", "to_coreml", sys.executable, file)
        return Signature(singles(model.processor), (model.manifest.answers.decoded_spec,))

    def load(self, file: Path, version: Path, model: Model | None) -> Run:
        """Open the file in Core ML."""
        require("coremltools", "coremltools", PURPOSE, EXTRA)
        if self.unopened:
            raise ExportError(f"{self.unopened}.", "--format onnx")
        import coremltools

        from maas_magics.core.features.module import entered_hosted
        from maas_magics.core.store.manifest import read_processor

        with TemporaryDirectory() as work:
            shutil.unpack_archive(file, work)
            opened = coremltools.models.MLModel(str(Path(work) / "model.mlpackage"))
        names = [each.name for each in opened.get_spec().description.input]
        answer = opened.get_spec().description.output[0].name
        processor = read_processor(version)

        def run(raw: Sequence[Array]) -> Array:
            given = dict(zip(names, (values.numpy() for values in entered_hosted(processor, raw)), strict=True))
            return np.asarray(opened.predict(given)[answer])

        return run


exporters.register("coreml")(CoreMl())
