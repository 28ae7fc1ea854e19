"""Networks that write: decoders with their last layer."""

from __future__ import annotations

from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.importers import Imported, importers
from maas_magics.core.networks.decoder import DecoderConfig
from maas_magics.core.networks.hub import HubFolder
from maas_magics.core.networks.pretrained_decoder import prose_of
from maas_magics.core.tasks.language import Language


class TextGeneration:
    """``…ForCausalLM`` of the family of Llama, and GPT-2."""

    def accepts(self, folder: HubFolder) -> bool:
        """Whether a folder holds such a network."""
        return any(
            str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in folder.config.get("architectures") or ()
        )

    def read(self, folder: HubFolder, column: str) -> Imported:
        """The text, which goes on."""
        DecoderConfig.of(folder.config, str(folder.path))
        name = column or "text"
        return Imported("causal", ProseFeature(name, **prose_of(folder)), Language((name,), kind="text"))


importers.register("text-generation")(TextGeneration())
