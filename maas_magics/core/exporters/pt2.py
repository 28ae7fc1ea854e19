"""``.pt2``: torch's own exported program, from numbers and category codes to decoded answers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from maas_magics.api.errors import ExportError
from maas_magics.api.signature import Signature
from maas_magics.core.compat.export import drop_examples
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters import Run, exporters
from maas_magics.core.exporters.examples import coded, example
from maas_magics.core.features.module import entered_hosted
from maas_magics.core.graphs.capture import captured, plain_attention
from maas_magics.core.graphs.export import free_axes
from maas_magics.core.graphs.reasons import hint, told
from maas_magics.core.model import Model
from maas_magics.core.networks.modules import title_of
from maas_magics.core.seal.files import contents, put
from maas_magics.core.store.manifest import read_processor
from maas_magics.core.tracing import suppress_torch_logging


class Pt2:
    """What ``torch.export`` makes, with a free batch axis."""

    file = "model.pt2"
    isolated = True
    sealable = True

    def export(self, model: Model, file: Path) -> Signature:
        """Write ``model`` as an exported program.

        Raises
        ------
        ExportError
            If torch cannot trace the network.
        """
        inputs = example(model)
        axes = free_axes([spec.open_axes for spec in model.processor.entries], len(inputs))
        try:
            with suppress_torch_logging(), plain_attention():
                program = captured(model.exported(), inputs, (tuple(axes),))
        except Exception as error:  # torch raises many unrelated kinds here
            raise ExportError(f"torch cannot trace {title_of(model.net)}: {told(error)}", hint(error)) from error
        for module in program.graph_module.modules():
            for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
                for trace in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn"):
                    node.meta.pop(trace, None)
        drop_examples(program)
        written = io.BytesIO()
        with suppress_torch_logging():
            torch.export.save(program, written)
        put(file, written.getvalue())
        return Signature(coded(model.processor), (model.manifest.answers.decoded_spec,))

    def load(self, file: Path, version: Path, model: Model | None) -> Run:
        """Open a program that this process, or one of the same user, has written."""
        graph = torch.export.load(io.BytesIO(contents(file))).module()
        processor = read_processor(version)

        @torch.inference_mode()
        def run(raw: Sequence[Array]) -> Array:
            return np.asarray(graph(*entered_hosted(processor, raw)).numpy())

        return run


exporters.register("pt2")(Pt2())
