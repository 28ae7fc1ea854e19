"""The decoder of GPT-2: learnt places, layer norms, biases (Radford et al. 2019), with transformers' names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from maas_magics.core.networks.decoder import KEYS, DecoderConfig, of_layer


class Turned(nn.Module):
    """A linear layer whose weights stand the other way round, (inputs, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Numbers after the layer, (…, outputs)."""
        return x @ self.weight + self.bias


class Attention(nn.Module):
    """Heads of attention."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.c_attn = Turned(config.width, 3 * config.width)
        self.c_proj = Turned(config.width, config.width)

    def forward(self, x: Tensor, mask: Tensor | None, keys: Any) -> Tensor:
        """What each token takes from those before it, (n, tokens, width)."""
        n, tokens, width = x.shape
        each = self.c_attn(x).view(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = each.unbind()
        if keys is not None:
            k, v = keys(k, v)
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.c_proj(found.transpose(1, 2).reshape(n, tokens, width))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Two layers with GELU, in its form with a hyperbolic tangent, between."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.c_fc = Turned(config.width, config.hidden)
        self.c_proj = Turned(config.hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Each token by itself, (n, tokens, width)."""
        return self.c_proj(functional.gelu(self.c_fc(x), approximate="tanh"))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention, and a feed-forward layer."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width, eps=config.eps)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.width, eps=config.eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, mask: Tensor | None, keys: Any) -> Tensor:
        """Tokens after the layer, (n, tokens, width)."""
        x = x + self.attn(self.ln_1(x), mask, keys)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Trunk(nn.Module):
    """Embeddings, layers and last norm, under the names that transformers has for them."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocabulary, config.width)
        self.wpe = nn.Embedding(config.positions, config.width)
        self.h = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.width, eps=config.eps)


class DecoderGPT2(nn.Module):
    """As `maas_magics.core.networks.decoder.Decoder`.

    Parameters
    ----------
    config : DecoderConfig
        Its sizes.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = Trunk(config)

    @property
    def trunk(self) -> nn.Module:
        """All but the last layer."""
        return self.transformer

    @property
    def output(self) -> Tensor:
        """Weights from hidden states to logits, (vocabulary, width): those of the embedding."""
        return self.transformer.wte.weight

    def forward(self, ids: Tensor, places: Tensor, mask: Tensor | None = None, keys: KEYS | None = None) -> Tensor:
        """Hidden states, (n, tokens, width); see `Decoder`."""
        x = self.transformer.wte(ids) + self.transformer.wpe(places)
        for number, layer in enumerate(self.transformer.h):
            x = layer(x, mask, None if keys is None else of_layer(keys, number))
        return self.transformer.ln_f(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of the next token, (…, vocabulary)."""
        return functional.linear(hidden, self.output)
