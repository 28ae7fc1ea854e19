"""Channels of the network are removed, those of least magnitude, and the rest learns again what it answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from maas_magics.api.errors import ExportError, require
from maas_magics.core.architectures import Recipe, architectures
from maas_magics.core.compressors import compressors
from maas_magics.core.compressors.channels import what_stayed, without_channels
from maas_magics.core.compressors.finetune import taught_by
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.module import entered_hosted
from maas_magics.core.graph_model import GraphModel
from maas_magics.core.model import Model
from maas_magics.core.networks.modules import title_of
from maas_magics.core.tracing import suppress_torch_logging, tracing_lock

FEW = 3
"""Rows that a network is followed with."""


class Prune:
    """Structured pruning, of as large a share of every layer's channels."""

    format = "onnx"
    stage = -1
    sealable = True
    usual = 0.5

    def shrink(
        self, model: Model, share: float, rows: Sequence[Array], check_stop: Callable[[], None]
    ) -> tuple[Model, str]:
        """The version with a network of fewer channels; a sentence about what stayed as it was."""
        require("torch_pruning", "torch-pruning", "--compress prune", "maas-magics[prune]")
        answers, info = model.manifest.answers, model.manifest.info
        if isinstance(model, GraphModel) or answers.runtime or info.iterative:
            what = "an ONNX file of another maker" if isinstance(model, GraphModel) else "a model of several passes"
            raise ExportError(f"prune changes a network of torch; this is {what}.", "--compress int8")
        with torch.no_grad():
            inputs = tuple(x.clone() for x in model.graph.transform(*entered_hosted(model.processor, rows)))
        with tracing_lock(), torch.random.fork_rng(devices=[]), suppress_torch_logging(), torch.enable_grad():
            torch.manual_seed(0)
            net = without_channels(model.net, share, tuple(x[:FEW] for x in inputs))
            recipe = Recipe()
            if model.manifest.declared:
                recipe = architectures.get(info.architecture).recipe(len(inputs[0]), answers)
            taught_by(model.net, net, inputs, recipe, check_stop)
        part, layers = what_stayed(model.net, net)
        more = ", …" if len(layers) > 4 else ""
        told = (
            f"prune={share:g}: {part:.0%} of the weights of {title_of(model.net)} stay ({', '.join(layers[:4])}{more})."
        )
        return Model(model.manifest, model.processor, net.requires_grad_(False)), told if layers else ""


compressors.register("prune")(Prune())
