"""A decoder with the weights of a Hugging Face folder."""

from __future__ import annotations

from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from maas_magics.api.errors import ModelError
from maas_magics.core.features.tokens import tokenizer
from maas_magics.core.networks.decoder import DecoderConfig
from maas_magics.core.networks.hub import HubFolder, open_folder
from maas_magics.core.networks.next_token import NextToken


class PretrainedDecoder(NextToken):
    """As `NextToken`, from the weights of a folder.

    Parameters
    ----------
    config : DecoderConfig
        Its sizes.
    base : str
        Where its weights are; see `initialise`.
    """

    def __init__(self, config: DecoderConfig, base: str) -> None:
        super().__init__(config)
        self.base = base

    @property
    def pretrained(self) -> nn.Module:
        """What has pretrained weights; see `maas_magics.core.networks.adapters.adapt`."""
        return self.decoder.trunk

    def initialise(self, *rows: Tensor) -> None:
        """Read the pretrained weights, once, when a training begins.

        Parameters
        ----------
        *rows : Tensor
            Training rows; not used.

        Raises
        ------
        ModelError
            If the folder lacks some.
        """
        folder = open_folder(self.base)
        missing = set(self.decoder.state_dict())
        for file in sorted(folder.path.glob("*.safetensors")):
            weights = load_file(file)
            if not missing & set(weights):  # as in folders of GPT-2 of old, which name the trunk alone
                weights = {f"transformer.{name}": weight for name, weight in weights.items()}
            part = {name: weight for name, weight in weights.items() if name in missing}
            self.decoder.load_state_dict({name: weight.float() for name, weight in part.items()}, strict=False)
            missing -= set(part)
        if missing:
            raise ModelError(f"{self.base} lacks weights that its configuration requires: {min(missing)}", "")


def prose_of(folder: HubFolder) -> dict[str, Any]:
    """What its texts are read with: fields of `maas_magics.core.features.modalities.prose.ProseFeature`.

    Parameters
    ----------
    folder : HubFolder
        The folder.
    """
    source = folder.tokenizer
    known = tokenizer(source, 0)
    said, more = folder.read("tokenizer_config.json"), folder.read("generation_config.json")
    first = known.encode("a").ids[:1] if known.encode("a").special_tokens_mask[:1] == [1] else []
    named = more.get("eos_token_id", folder.config.get("eos_token_id"))
    ends = [one for one in (named if isinstance(named, list) else [named]) if isinstance(one, int)]
    token = said.get("eos_token")
    own = known.token_to_id(token["content"] if isinstance(token, dict) else token) if token else None
    ends = list(dict.fromkeys(([own] if own is not None else []) + ends))
    file = folder.path / "chat_template.jinja"
    template = file.read_text(encoding="utf-8") if file.is_file() else said.get("chat_template")
    return {
        "tokenizer": source,
        "size": int(folder.config["vocab_size"]),
        "begin": first[0] if first else None,
        "ends": tuple(ends),
        "block": DecoderConfig.of(folder.config, str(folder.path)).positions,
        "template": template if isinstance(template, str) else "",
    }
