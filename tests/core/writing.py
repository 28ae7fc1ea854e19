"""A network of random weights that writes, whose answers differ."""

from __future__ import annotations

import torch

from maas_magics.core.batches.language import END_OF_TEXT
from maas_magics.core.features.chat import MARKS
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.features.tokens import train_byte_tokenizer
from maas_magics.core.networks.decoder import Decoder, DecoderConfig
from maas_magics.core.runtimes.text.session import TextSession
from maas_magics.core.runtimes.text.torch_engine import TorchEngine

VERSES = [
    f"{one} and {two} went up the hill to fetch {pails} pails of water, {word}."
    for one in ("Jack", "Jill", "Tom", "Ann")
    for two in ("Sue", "Bob", "Kim")
    for pails in range(8)
    for word in ("häuser", "日本語", "naïve")
]
SOURCE = train_byte_tokenizer(VERSES, 400, (END_OF_TEXT, *MARKS))


def feature(length: int = 400) -> ProseFeature:
    return ProseFeature("text", tokenizer=SOURCE, size=400, begin=0, ends=(0,), block=length)


def decoder(length: int = 400) -> Decoder:
    """Always the same one."""
    torch.manual_seed(1)
    made = Decoder(
        DecoderConfig(vocabulary=400, width=32, layers=2, heads=4, groups=2, head=8, hidden=64, positions=length)
    )
    with torch.no_grad():
        for weight in made.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.3)
    return made.eval()


def session(slots: int = 4, length: int = 400) -> TextSession:
    return TextSession(feature(length), TorchEngine(decoder(length), slots, length))
