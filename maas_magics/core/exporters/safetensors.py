"""safetensors: the weights alone, for users who build the network themselves."""

from __future__ import annotations

import copy
from pathlib import Path

from maas_magics.api.signature import Signature
from maas_magics.core.exporters import Run, exporters
from maas_magics.core.model import Model, load_model, load_weights, save_weights


class Safetensors:
    """Weights by parameter name."""

    file = "model.safetensors"
    isolated = False
    sealable = True

    def export(self, model: Model, file: Path) -> Signature:
        """Write the weights of ``model``."""
        save_weights(model.net, file)
        return model.manifest.info.signature

    def load(self, file: Path, version: Path, model: Model | None) -> Run:
        """The network with the file's weights in it."""
        if model is None:
            return load_model(version, weights=file).run_hosted
        net = copy.deepcopy(model.net)
        net.load_state_dict(load_weights(file))
        return Model(model.manifest, model.processor, net).run_hosted


exporters.register("safetensors")(Safetensors())
