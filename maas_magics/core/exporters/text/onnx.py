"""ONNX with a key-value cache, and beside it what onnxruntime-genai wants to know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maas_magics.api.errors import require
from maas_magics.api.signature import Signature
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters import Run
from maas_magics.core.exporters.text import text_exporters
from maas_magics.core.exporters.text.judged import judged
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.seal.files import put

if TYPE_CHECKING:
    from maas_magics.core.model import Model

KEEP = "logits_to_keep"


class TextOnnx:
    """A graph that reads tokens, and answers the logits of the next ones."""

    file = "model.onnx"
    isolated = True
    sealable = True

    def export(self, model: Model, file: Path) -> Signature:
        """Write the decoder, its weights beside it."""
        require("onnx", "onnx", "The ONNX export")
        from maas_magics.core.exporters.text.folder import decoder_of, tokenizer_config_of, tokenizer_of
        from maas_magics.core.exporters.text.graph import wide, write_decoder

        decoder = decoder_of(model)
        write_decoder(decoder, file)
        feature = next(one for one in model.processor.features if isinstance(one, ProseFeature))
        told = _genai(decoder.config, wide(decoder.config), feature, file.name)
        put(file.parent / "genai_config.json", told.encode())
        of_tokens = json.dumps(tokenizer_config_of(feature), indent=1)  # onnxruntime-genai asks for it as well
        put(file.parent / "tokenizer_config.json", of_tokens.encode())
        put(file.parent / "tokenizer.json", tokenizer_of(feature).encode())
        return model.manifest.info.signature

    def load(self, file: Path, version: Path, model: Model | None) -> Run:
        """How surprised the file is by each token, and which one it thinks likeliest; see `judged`."""
        from maas_magics.core.runtimes.engine import opened

        session = opened(file, cpu=True)
        pasts = [each for each in session.get_inputs() if each.name.startswith("past")]

        def logits(ids: Array) -> Array:
            shape = (1, pasts[0].shape[1], len(ids), pasts[0].shape[3])
            feed = {
                "input_ids": ids[None].astype(np.int64),
                "attention_mask": np.ones((1, len(ids)), np.int64),
                KEEP: np.arange(len(ids)),
            }
            feed |= {each.name: np.zeros(shape, np.float32) for each in pasts}
            found: Array = session.run(["logits"], feed)[0][0]
            return found

        return lambda raw: judged(raw[0], logits)


def _genai(config: Any, head: int, feature: ProseFeature, file: str) -> str:
    """What onnxruntime-genai reads beside the graph: names, sizes and tokens."""
    ends = list(feature.ends)
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": file,
        "head_size": head,  # by which it takes memory for the cache
        "hidden_size": config.width,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.groups,
    }
    model = {
        "type": "llama",  # its gpt2 takes places and one cache of keys and values together, which the graph does not
        "context_length": config.positions,
        "vocab_size": config.vocabulary,
        "bos_token_id": feature.begin if feature.begin is not None else ends[0] if ends else 0,
        "eos_token_id": ends,
        "pad_token_id": ends[0] if ends else 0,
        "decoder": decoder,
    }
    search = {"max_length": config.positions, "past_present_share_buffer": True, "do_sample": False}
    return json.dumps({"model": model, "search": search}, indent=1)


text_exporters.register("onnx")(TextOnnx())
