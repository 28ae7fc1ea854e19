"""ORT format: ONNX Runtime's own file, optimised beforehand, which its small builds for phones and browsers open."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from maas_magics.api.errors import ExportError
from maas_magics.api.signature import Signature
from maas_magics.core.exporters import Run, exporters
from maas_magics.core.exporters.onnx import Onnx
from maas_magics.core.model import Model


class Ort:
    """The ONNX export, as ONNX Runtime saves it."""

    file = "model.ort"
    isolated = True

    def export(self, model: Model, file: Path) -> Signature:
        """Write ``model`` by way of an ONNX file.

        Raises
        ------
        ExportError
            If ONNX Runtime cannot save it.
        """
        import onnxruntime

        with TemporaryDirectory(dir=file.parent) as work:
            plain = Path(work) / "model.onnx"
            signature = Onnx().export(model, plain)
            options = onnxruntime.SessionOptions()
            # what it adds at its highest level is for the processor of this machine alone
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.add_session_config_entry("session.save_model_format", "ORT")
            options.optimized_model_filepath = str(file)
            options.log_severity_level = 4
            try:
                onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
            except Exception as error:  # ONNX Runtime has no base class for its errors
                why = str(error).splitlines()[0]
                raise ExportError(f"ONNX Runtime cannot save it: {why}", "--format onnx") from error
        return signature

    def load(self, file: Path, version: Path, model: Model | None) -> Run:
        """Open the file in ONNX Runtime."""
        return Onnx().load(file, version, model)


exporters.register("ort")(Ort())
