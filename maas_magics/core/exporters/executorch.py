"""ExecuTorch: torch's programs for phones and boards, from numbers and category codes to decoded answers; an extra.

Every call has one row, and lengths that are free cannot be: its memory is planned beforehand, and convolutions take the
batch that they were planned with.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maas_magics.api.errors import ExportError, require
from maas_magics.api.signature import Signature
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters import Run, exporters
from maas_magics.core.exporters.beside.program import program_of
from maas_magics.core.exporters.examples import coded
from maas_magics.core.model import Model

PURPOSE, EXTRA = "The ExecuTorch export", "maas-magics[executorch]"


class ExecuTorch:
    """``model.pte``, for XNNPACK where it has an operator."""

    file = "model.pte"
    isolated = True

    def export(self, model: Model, file: Path) -> Signature:
        """Write ``model`` as a program of ExecuTorch.

        Raises
        ------
        ExportError
            If torch cannot trace it, or ExecuTorch has no rule for one of its operators.
        MissingDependency
            If ExecuTorch is not installed.
        """
        require("executorch", "executorch", PURPOSE, EXTRA)
        program = program_of(model, 1, "ExecuTorch")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what it imports warns of itself
                from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
                from executorch.exir import to_edge_transform_and_lower

                made = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        except Exception as error:  # ExecuTorch raises many unrelated kinds here
            why = " ".join(str(error).split())[:200]
            raise ExportError(f"ExecuTorch has no rule for the network: {why}", "--format onnx") from error
        file.write_bytes(made.buffer)
        return Signature(coded(model.processor), (model.manifest.answers.decoded_spec,))

    def load(self, file: Path, version: Path, model: Model | None) -> Run:
        """Open the file in ExecuTorch's own runtime."""
        require("executorch", "executorch", PURPOSE, EXTRA)
        from executorch.runtime import Runtime

        from maas_magics.core.features.module import entered_hosted
        from maas_magics.core.store.manifest import read_processor

        method = Runtime.get().load_program(str(file)).load_method("forward")
        processor = read_processor(version)

        def run(raw: Sequence[Array]) -> Array:
            given = [values.contiguous() for values in entered_hosted(processor, raw)]
            found = []
            for row in range(len(given[0])):
                answer = method.execute([values[row : row + 1] for values in given])[0]
                found.append(np.array(answer.numpy()))  # which lies in its own memory until the next call
            return np.concatenate(found)

        return run


exporters.register("executorch")(ExecuTorch())
