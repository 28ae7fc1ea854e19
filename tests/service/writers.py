"""Networks of random weights that write, as ``save_pretrained`` writes them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from maas_magics.core.batches.language import END_OF_TEXT
from maas_magics.core.features.chat import CHATML, MARKS
from maas_magics.core.features.tokens import train_byte_tokenizer

WORDS = '{"name": "weather", "arguments": {"city": "Oslo", "days": 2}} <tool_call> Jack and Jill went up the hill. '


TALKING = (
    "{%- if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}"
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{%- for call in message.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{%- endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Template of conversations that knows tools."""


def writer(place: Path, template: str = CHATML, length: int = 2_000) -> Path:
    """A folder with a small network; 2 · 4 · 2 · 2 · 16 bytes of keys and values a token.

    Parameters
    ----------
    place : Path
        Of the folder.
    template : str
        Of its conversations.
    length : int
        Tokens that it reads.
    """
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=length, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    net = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in net.parameters():  # so that answers differ
            weight.mul_(3 if weight.dim() > 1 else 1)
    net.save_pretrained(place)
    (place / "tokenizer.json").write_text(train_byte_tokenizer([WORDS * 3, CHATML], 400, (END_OF_TEXT, *MARKS)))
    (place / "tokenizer_config.json").write_text(json.dumps({"eos_token": END_OF_TEXT, "chat_template": template}))
    return place
