"""GGUF files, as llama.cpp reads them, written out as a folder of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maas_magics.api.errors import ModelError, require
from maas_magics.core.data.arrow import Array

LETTERS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBER| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
CUTS = {"llama-bpe": LETTERS.replace("NUMBER", r"\p{N}{1,3}"), "qwen2": LETTERS.replace("NUMBER", r"\p{N}")}
"""Where a text is cut before pairs are merged, by the name that a file has for it."""

PLAIN = ("smollm", "gpt-2", "default")
"""Those that cut as GPT-2 does, the first of them numbers into digits before."""

NORMAL, CONTROL, OWN, UNUSED = 1, 3, 4, 5
"""Types of tokens: those of bytes, those that say something, those that were added, and numbers without a token."""

NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Parts of a layer, and their names in Hugging Face's networks."""

WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

FAMILIES = ("llama", "qwen2", "qwen3")


def unpacked(file: Path, place: Path) -> Path:
    """Write what a GGUF file holds as a folder with weights in float32, configuration and tokenizer.

    Parameters
    ----------
    file : Path
        The GGUF file; quantised weights become the numbers that they stand for.
    place : Path
        Where to make the folder.

    Raises
    ------
    ModelError
        If it is not such a file, or of a family that is not known here.
    """
    require("gguf", "gguf", "Reading GGUF", "maas-magics[gguf]")
    from gguf import GGUFReader
    from safetensors.numpy import save_file

    try:
        reader = GGUFReader(file)
    except Exception as error:  # of many kinds
        raise ModelError(f"{file} is not a GGUF file that can be read: {error}", "Fetch it anew.") from error
    known = {name: field.contents() for name, field in reader.fields.items()}
    kind = str(known.get("general.architecture"))
    if kind not in FAMILIES:
        raise ModelError(f"{file} holds a {kind}, which does not write here.", f"One of {', '.join(FAMILIES)}.")
    weights = _weights(reader.tensors, kind, known, file)
    config = _config(kind, known, "lm_head.weight" not in weights)
    config["vocab_size"] = len(weights["model.embed_tokens.weight"])
    place.mkdir(parents=True)
    save_file(weights, place / "model.safetensors")
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokens = known["tokenizer.ggml.tokens"]
    (place / "tokenizer.json").write_text(_tokenizer(known, file), encoding="utf-8")
    said: dict[str, Any] = {"chat_template": known.get("tokenizer.chat_template")}
    for name in ("bos", "eos"):
        if (number := known.get(f"tokenizer.ggml.{name}_token_id")) is not None:
            said[f"{name}_token"] = tokens[number]
    (place / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
    return place


def cut_of(source: str) -> tuple[str, list[str]]:
    """The name that the format has for where a tokenizer cuts texts, and the pairs that it merges, in their order.

    Parameters
    ----------
    source : str
        The JSON of the tokenizer.

    Raises
    ------
    ModelError
        If the format has no name for it, as it is known here.
    """
    read = json.loads(source)
    if read["model"].get("type") != "BPE" or read["model"].get("byte_fallback"):
        raise ModelError("The tokenizer does not merge bytes, which is not written as GGUF here.", "Another format.")
    before = read.get("pre_tokenizer") or {}
    parts = before.get("pretokenizers", [before])
    patterns = [part.get("pattern", {}).get("Regex") for part in parts if part.get("type") == "Split"]
    kinds = [part.get("type") for part in parts if part.get("type") != "Split"]
    if patterns:
        cut = next((name for name, pattern in CUTS.items() if [pattern] == patterns), "")
    else:
        cut = {("ByteLevel",): "gpt-2", ("Digits", "ByteLevel"): "smollm"}.get(tuple(kinds), "")
    if not cut or any(part.get("add_prefix_space") for part in parts):
        raise ModelError("The tokenizer cuts texts in a way that GGUF has no name for here.", "--format safetensors")
    merges = [each if isinstance(each, str) else " ".join(each) for each in read["model"]["merges"]]
    return cut, merges


def _config(kind: str, known: Mapping[str, Any], tied: bool) -> dict[str, Any]:
    def said(name: str, usual: Any = None) -> Any:
        return known.get(f"{kind}.{name}", usual)

    heads, width = said("attention.head_count"), said("embedding_length")
    factor = said("rope.scaling.type", "none")
    return {
        "model_type": kind,
        "architectures": [{"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[kind] + "ForCausalLM"],
        "hidden_size": width,
        "num_hidden_layers": said("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": said("attention.head_count_kv", heads),
        "head_dim": said("attention.key_length", width // heads),
        "intermediate_size": said("feed_forward_length"),
        "max_position_embeddings": said("context_length"),
        "rope_theta": said("rope.freq_base", 10_000.0),
        "rms_norm_eps": said("attention.layer_norm_rms_epsilon", 1e-5),
        "tie_word_embeddings": tied,
        "eos_token_id": known.get("tokenizer.ggml.eos_token_id"),
        **({} if factor == "none" else {"rope_scaling": {"rope_type": factor}}),
    }


def _weights(tensors: Any, kind: str, known: Mapping[str, Any], file: Path) -> dict[str, Array]:
    from gguf.quants import dequantize

    heads = known[f"{kind}.attention.head_count"]
    groups = known.get(f"{kind}.attention.head_count_kv", heads)
    found = {}
    for each in tensors:
        values = np.ascontiguousarray(dequantize(each.data, each.tensor_type), dtype=np.float32)
        name, _, end = each.name.rpartition(".")
        if name == "rope_freqs":
            raise ModelError(f"{file} turns its places by a table, which is not known here.", "Another network.")
        if name.startswith("blk."):
            _, number, part = name.split(".")
            if part not in NAMES:
                raise ModelError(f"{file} holds {each.name}, which is not known here.", "Another network.")
            if kind == "llama" and part in ("attn_q", "attn_k"):
                values = _halves(values, heads if part == "attn_q" else groups)
            found[f"model.layers.{number}.{NAMES[part]}.{end}"] = values
        elif name in WHOLE:
            found[f"{WHOLE[name]}.{end}"] = values
        else:
            raise ModelError(f"{file} holds {each.name}, which is not known here.", "Another network.")
    return found


def _halves(values: Array, heads: int) -> Array:
    """Rows of each head in two halves, where the file has the pairs that are turned together side by side."""
    pairs = values.reshape(heads, -1, 2, values.shape[-1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)


def _tokenizer(known: Mapping[str, Any], file: Path) -> str:
    """The JSON of its tokenizer."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    kind, cut = known.get("tokenizer.ggml.model"), str(known.get("tokenizer.ggml.pre", "default"))
    if kind != "gpt2" or cut not in (*PLAIN, *CUTS):
        what = f"a tokenizer of the kind {kind}" if kind != "gpt2" else f"a tokenizer that cuts texts as {cut} does"
        raise ModelError(
            f"{file} has {what}, which is not known here.", "Import its Hugging Face folder: %maas import FOLDER"
        )
    tokens = known["tokenizer.ggml.tokens"]
    types = known.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    merges = [tuple(each.split(" ")) for each in known["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens) if types[number] != UNUSED}
    made = Tokenizer(models.BPE(vocabulary, merges))
    before: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if cut == "smollm" else []
    if cut in CUTS:
        before = [pre_tokenizers.Split(Regex(CUTS[cut]), "isolated")]
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [*before, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut in PLAIN)]
    )
    made.decoder = decoders.ByteLevel()
    for token, one in zip(tokens, types, strict=True):
        if one in (CONTROL, OWN):
            made.add_special_tokens([AddedToken(token, special=one == CONTROL, normalized=False)])
    return str(made.to_str())
