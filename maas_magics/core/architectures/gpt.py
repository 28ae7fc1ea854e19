"""A small decoder from scratch: it learns a language from the texts that it is given."""

from __future__ import annotations

import math

from torch import nn

from maas_magics.api.errors import OptionError
from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe, architectures
from maas_magics.core.networks.decoder import DecoderConfig, begin
from maas_magics.core.networks.next_token import NextToken
from maas_magics.core.tasks.base import Task


def gpt(
    features: NetworkInputs,
    outputs: int,
    *,
    task: Task,
    layers: int = 4,
    width: int = 128,
    heads: int = 4,
    hidden: int = 0,
    block: int = 128,
    vocabulary: int = 0,
) -> nn.Module:
    """Layers of attention and gated feed-forward layers, in the form of Llama (Touvron et al. 2023).

    Parameters
    ----------
    features : NetworkInputs
        The text.
    outputs : int
        Not used.
    task : Task
        What is learnt; not used.
    layers : int
        Layers.
    width : int
        Width of an embedding, an even multiple of ``heads``.
    heads : int
        Heads of each layer.
    hidden : int
        Width inside a feed-forward layer; 8/3 of ``width``, in steps of 32, where it is 0.
    block : int
        Tokens that are read at once.
    vocabulary : int
        Tokens of the tokenizer, which is trained on the texts; by how much text there is where it is 0.
    """
    port = next((port for port in features.ports if port.kind == "prose"), None)
    if port is None:
        raise OptionError("gpt learns a language, from texts alone.", "--task language")
    if width % (2 * heads):
        raise OptionError(f"width is {width}; a multiple of twice the heads, {2 * heads}, was expected.", "")
    net = NextToken(
        DecoderConfig(
            vocabulary=port.size,
            width=width,
            layers=layers,
            heads=heads,
            groups=heads,
            head=width // heads,
            hidden=hidden or 32 * -(-8 * width // 96),
            positions=port.longest,
        )
    )
    begin(net.decoder, layers)
    return net


def recipe(rows: int, task: Task) -> Recipe:
    """AdamW after a short rise along a cosine, with a language model's decay; of few blocks small batches: more steps.

    Parameters
    ----------
    rows : int
        Training blocks.
    task : Task
        The fitted target; not used.
    """
    size = min(max(2 ** int(math.log2(max(rows, 1) / 64 + 1)), 4), 32)
    return Recipe(
        optimizer="AdamW",
        lr=3e-3 * math.sqrt(size / 32),
        weight_decay=0.1,
        schedule="warm-cosine",
        batch_size=size,
        epochs=10,
        optimizer_params={"betas": (0.9, 0.95)},
    )


architectures.register("gpt")(Architecture("prose", gpt, recipe))
