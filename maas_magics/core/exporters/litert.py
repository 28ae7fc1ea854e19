"""LiteRT, which was TensorFlow Lite: for phones and boards, from numbers and category codes to answers; an extra.

Its converter needs older versions of other packages than its runtime, and so a Python of its own, which `PYTHON` names.
Every call has one row: the converter knows no batch that is free.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from maas_magics.api.errors import MissingDependency, require
from maas_magics.api.signature import Signature
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters import Run, exporters
from maas_magics.core.exporters.beside.program import converted
from maas_magics.core.exporters.examples import singles
from maas_magics.core.model import Model

PYTHON = "MAAS_LITERT_PYTHON"
"""Variable with a Python that has litert-torch; this one where it is not set."""

PURPOSE, EXTRA = "The LiteRT export", "maas-magics[litert]"


class LiteRt:
    """``model.tflite``."""

    file = "model.tflite"
    isolated = True

    def export(self, model: Model, file: Path) -> Signature:
        """Write ``model`` by litert-torch.

        Raises
        ------
        ExportError
            If torch cannot trace it, or litert-torch has no rule for one of its operators.
        MissingDependency
            If the runtime or the converter is not installed.
        """
        require("ai_edge_litert", "ai-edge-litert", PURPOSE, EXTRA)
        interpreter = os.environ.get(PYTHON, "")
        if not interpreter and find_spec("litert_torch") is None:
            raise MissingDependency(
                f"{PURPOSE} needs litert-torch, in an environment of its own.",
                "!python -m venv litert && litert/bin/pip install litert-torch; then "
                f"os.environ[{PYTHON!r}] = 'litert/bin/python'",
            )
        converted(model, 1, "LiteRT", "to_litert", interpreter or sys.executable, file)
        return Signature(singles(model.processor), (model.manifest.answers.decoded_spec,))

    def load(self, file: Path, version: Path, model: Model | None) -> Run:
        """Open the file in LiteRT's own runtime."""
        require("ai_edge_litert", "ai-edge-litert", PURPOSE, EXTRA)
        from ai_edge_litert.interpreter import Interpreter

        from maas_magics.core.features.module import entered_hosted
        from maas_magics.core.store.manifest import read_processor

        interpreter = Interpreter(model_path=str(file), num_threads=1)
        interpreter.allocate_tensors()
        inputs = sorted(
            interpreter.get_input_details(), key=lambda one: int(one["name"].rpartition("_")[2].split(":")[0])
        )
        answer = interpreter.get_output_details()[0]["index"]
        processor = read_processor(version)

        def run(raw: Sequence[Array]) -> Array:
            given = [values.numpy() for values in entered_hosted(processor, raw)]
            found = []
            for row in range(len(given[0])):
                for one, values in zip(inputs, given, strict=True):
                    interpreter.set_tensor(one["index"], values[row : row + 1].astype(one["dtype"]))
                interpreter.invoke()
                found.append(interpreter.get_tensor(answer))
            return np.concatenate(found)

        return run


exporters.register("litert")(LiteRt())
