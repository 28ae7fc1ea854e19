"""safetensors: a folder that transformers loads, with configuration and tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maas_magics.api.signature import Signature
from maas_magics.core.exporters import Run
from maas_magics.core.exporters.text import text_exporters
from maas_magics.core.exporters.text.trial import in_torch, prose
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.features.tokens import tokenizer
from maas_magics.core.model import Model, save_weights
from maas_magics.core.networks.decoder import DecoderConfig
from maas_magics.core.networks.hub import open_folder, written_here
from maas_magics.core.networks.pretrained_decoder import PretrainedDecoder


class TextFolder:
    """Weights by the names that transformers has for them."""

    file = "model.safetensors"
    isolated = False

    def export(self, model: Model, file: Path) -> Signature:
        """Write the weights, and what transformers reads beside them."""
        decoder, feature = decoder_of(model), prose(model)
        save_weights(decoder, file)
        for name, said in (
            ("config.json", config_of(decoder.config, feature)),
            ("tokenizer_config.json", tokenizer_config_of(feature)),
            ("generation_config.json", {"eos_token_id": list(feature.ends)}),
        ):
            (file.parent / name).write_text(json.dumps(said, indent=1), encoding="utf-8")
        (file.parent / "tokenizer.json").write_text(tokenizer_of(feature), encoding="utf-8")
        return model.manifest.info.signature

    def load(self, file: Path, version: Path, model: Model | None) -> Run:
        """The network of the folder, read as any folder of Hugging Face is."""
        return of_folder(file.parent)


def tokenizer_of(feature: ProseFeature) -> str:
    """The JSON of a tokenizer that puts before a text the token which stands there.

    Parameters
    ----------
    feature : ProseFeature
        How texts are read.
    """
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    known = Tokenizer.from_str(feature.tokenizer)
    if feature.begin is None or known.encode("a").ids[:1] == [feature.begin]:
        return feature.tokenizer
    token = known.id_to_token(feature.begin)
    known.post_processor = TemplateProcessing(single=[token, "$A"], special_tokens=[(token, feature.begin)])
    return str(known.to_str())


def of_folder(folder: Path) -> Run:
    """How surprised the network of a folder is; see `maas_magics.core.exporters.text.judged.judged`.

    Parameters
    ----------
    folder : Path
        As transformers writes it.
    """
    with written_here(folder):
        found = open_folder(str(folder))
        net = PretrainedDecoder(DecoderConfig.of(found.config, str(folder)), str(folder))
        net.initialise()
    return in_torch(net.eval().decoder)


def decoder_of(model: Model) -> Any:
    """The decoder of a version, adapters added to its weights.

    Parameters
    ----------
    model : Model
        The version in torch.
    """
    from maas_magics.core.networks.modules import baked

    return baked(model.net).decoder


def config_of(config: DecoderConfig, feature: ProseFeature) -> dict[str, Any]:
    """The ``config.json`` of a network; see `DecoderConfig.of`.

    Parameters
    ----------
    config : DecoderConfig
        Its sizes.
    feature : ProseFeature
        What it reads.
    """
    tokens = {"bos_token_id": feature.begin, "eos_token_id": feature.ends[0] if feature.ends else None}
    if config.places == "learnt":
        return {
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": config.vocabulary,
            "n_embd": config.width,
            "n_layer": config.layers,
            "n_head": config.heads,
            "n_inner": config.hidden,
            "n_positions": config.positions,
            "layer_norm_epsilon": config.eps,
            **tokens,
        }
    kind = "qwen3" if config.norm else "qwen2" if config.bias else "llama"
    return {
        "model_type": kind,
        "architectures": [f"{kind.title()}ForCausalLM"],
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.groups,
        "head_dim": config.head,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.positions,
        "rope_theta": config.theta,
        "rms_norm_eps": config.eps,
        "tie_word_embeddings": config.tied,
        "hidden_act": "silu",
        **tokens,
    }


def tokenizer_config_of(feature: ProseFeature) -> dict[str, Any]:
    """The ``tokenizer_config.json`` of a text.

    Parameters
    ----------
    feature : ProseFeature
        How it is read.
    """
    known = tokenizer(feature.tokenizer, 0)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None if feature.begin is None else known.id_to_token(feature.begin),
        "eos_token": known.id_to_token(feature.ends[0]) if feature.ends else None,
        **({"chat_template": feature.template} if feature.template else {}),
    }


text_exporters.register("safetensors")(TextFolder())
