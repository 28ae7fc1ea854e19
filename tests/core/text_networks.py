"""Networks that write, as tests have them: of transformers with random weights, and small ones of this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from maas_magics.core.batches.language import END_OF_TEXT
from maas_magics.core.features.chat import CHATML, MARKS
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.features.tokens import tokenizer, train_byte_tokenizer
from maas_magics.core.networks.decoder import DecoderConfig, begin
from maas_magics.core.networks.next_token import NextToken

VERSES = [
    f"{one} and {two} went up the hill to fetch {pails} pails of water."
    for one in ("Jack", "Jill", "Tom", "Ann")
    for two in ("Sue", "Bob", "Kim")
    for pails in range(8)
]
SOURCE = train_byte_tokenizer(VERSES, 400, (END_OF_TEXT, *MARKS))
PROMPTS = ["Jack and Sue", "Tom", "Ann and Kim went up the hill", "water. " * 60]

FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {"tie_word_embeddings": True, "head_dim": 16},
    "Mistral": {"sliding_window": None, "head_dim": 16},
    "Qwen2": {},
    "Qwen3": {"head_dim": 24},
    "GPT2": {},
}


def folder_of(family: str, place: Path, **more: Any) -> Path:
    """A network of random weights, large enough that its answers differ, as ``save_pretrained`` writes it."""
    import transformers

    config = getattr(transformers, f"{family}Config")(
        vocab_size=400, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=600, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        **FAMILIES[family], **more,
    )  # fmt: skip
    torch.manual_seed(0)
    net = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(3 if weight.dim() > 1 else 1)
    net.save_pretrained(place)
    (place / "tokenizer.json").write_text(SOURCE)
    (place / "tokenizer_config.json").write_text(json.dumps({"eos_token": END_OF_TEXT, "chat_template": CHATML}))
    return place


def theirs(folder: Path, prompt: str, tokens: int) -> str:
    """What transformers writes, always the likeliest token."""
    import transformers

    net = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    known = tokenizer(SOURCE, 0)
    ids = torch.tensor([known.encode(prompt).ids])
    with torch.no_grad():
        made = net.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)
    said: str = known.decode(made[0, ids.shape[1] :].tolist(), skip_special_tokens=True)
    return said


def texts_of(answers: Any) -> list[str]:
    return list(answers["prediction"].to_pylist())


def feature(block: int = 32, **more: Any) -> ProseFeature:
    return ProseFeature("text", tokenizer=SOURCE, size=400, begin=0, ends=(0,), block=block, **more)


def network(block: int = 32) -> NextToken:
    torch.manual_seed(1)
    net = NextToken(
        DecoderConfig(vocabulary=400, width=32, layers=2, heads=4, groups=2, head=8, hidden=64, positions=block)
    )
    begin(net.decoder, 2)
    return net.eval()
