"""GGUF, which llama.cpp and what is built on it read: weights in float32, tokenizer and template in one file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from maas_magics.api.errors import ExportError, require
from maas_magics.api.signature import Signature
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters import Run
from maas_magics.core.exporters.text import text_exporters
from maas_magics.core.exporters.text.folder import decoder_of, of_folder
from maas_magics.core.exporters.text.trial import prose
from maas_magics.core.features.gguf import CONTROL, NAMES, NORMAL, OWN, UNUSED, WHOLE, cut_of, unpacked
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.features.tokens import tokenizer
from maas_magics.core.model import Model


class Gguf:
    """One file of weights, tokens and how they are merged."""

    file = "model.gguf"
    isolated = False

    def export(self, model: Model, file: Path) -> Signature:
        """Write the file.

        Raises
        ------
        ExportError
            If the format has no name for the network, or for how its tokenizer cuts texts.
        """
        require("gguf", "gguf", "Writing GGUF", "maas-magics[gguf]")
        from gguf import GGUFWriter

        decoder, feature = decoder_of(model), prose(model)
        config = decoder.config
        if config.places == "learnt":
            raise ExportError("A network with learnt places is not written as GGUF here.", "--format safetensors")
        kind = "qwen3" if config.norm else "qwen2" if config.bias else "llama"
        writer: Any = GGUFWriter(str(file), kind)
        writer.add_name(model.manifest.info.name)
        writer.add_block_count(config.layers)
        writer.add_context_length(config.positions)
        writer.add_embedding_length(config.width)
        writer.add_feed_forward_length(config.hidden)
        writer.add_head_count(config.heads)
        writer.add_head_count_kv(config.groups)
        writer.add_key_length(config.head)
        writer.add_value_length(config.head)
        writer.add_rope_dimension_count(config.head)
        writer.add_rope_freq_base(config.theta)
        writer.add_layer_norm_rms_eps(config.eps)
        writer.add_vocab_size(config.vocabulary)
        _add_tokens(writer, feature, config.vocabulary)
        for name, values in decoder.state_dict().items():
            writer.add_tensor(*_named(name, values.float().cpu().numpy(), kind == "llama", config))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return model.manifest.info.signature

    def load(self, file: Path, version: Path, model: Model | None) -> Run:
        """The network of the file, read back."""
        with tempfile.TemporaryDirectory(dir=file.parent.parent) as work:
            return of_folder(unpacked(file, Path(work) / "unpacked"))


def _named(name: str, values: Array, pairs: bool, config: Any) -> tuple[str, Array]:
    """A weight by its name in the file, as it stands there."""
    stem, _, end = name.rpartition(".")
    whole = {there: here for here, there in WHOLE.items()}
    if stem in whole:
        return f"{whole[stem]}.{end}", values
    _, _, number, part = stem.split(".", 3)
    here = next(one for one, there in NAMES.items() if there == part)
    if pairs and here in ("attn_q", "attn_k"):
        heads = config.heads if here == "attn_q" else config.groups
        halves = values.reshape(heads, 2, -1, values.shape[-1])
        values = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
    return f"blk.{number}.{here}.{end}", values


def _type(token: str | None, added: Any) -> int:
    """What a token is, in the format's numbers."""
    if added is not None:
        return CONTROL if added.special else OWN
    return NORMAL if token else UNUSED


def _add_tokens(writer: Any, feature: ProseFeature, size: int) -> None:
    known = tokenizer(feature.tokenizer, 0)
    cut, merges = cut_of(feature.tokenizer)
    special = known.get_added_tokens_decoder()
    tokens = [known.id_to_token(number) or f"[unused {number}]" for number in range(size)]
    types = [_type(known.id_to_token(number), special.get(number)) for number in range(size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_add_bos_token(feature.begin is not None)
    if feature.begin is not None:
        writer.add_bos_token_id(feature.begin)
    if feature.ends:
        writer.add_eos_token_id(feature.ends[0])
    if feature.template:
        writer.add_chat_template(feature.template)


text_exporters.register("gguf")(Gguf())
