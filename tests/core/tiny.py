"""Folders as ``save_pretrained`` writes them, of small networks with random weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maas_magics.core.features.tokens import train_tokenizer

SIZES: dict[str, dict[str, Any]] = {
    "bert": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 64,
    },
    "roberta": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 66, "pad_token_id": 0,
    },
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64},
}  # fmt: skip
"""Settings of each kind."""


def folder_of(place: Path, texts: Iterable[str], kind: str = "bert", auto: str = "AutoModel", **config: Any) -> Path:
    """A folder with a network of a kind, by one of transformers' classes, and a tokenizer of some texts' words."""
    import transformers

    known = transformers.AutoConfig.for_model(kind, **{"vocab_size": 400} | SIZES[kind] | config)
    getattr(transformers, auto).from_config(known).save_pretrained(place)
    source = place / "made.json"
    source.write_text(train_tokenizer(texts, 400))
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(source), pad_token="[PAD]", unk_token="[UNK]", model_max_length=60
    ).save_pretrained(place)
    source.unlink()
    return place
