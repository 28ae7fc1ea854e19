"""A decoder-only transformer, which reads tokens and says how likely each next one is: the family of Llama.

Names of its weights are those of transformers, so that a folder of either is a folder of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from maas_magics.api.errors import ModelError

FAMILIES = {"llama": (False, False), "mistral": (False, False), "qwen2": (True, False), "qwen3": (False, True)}
"""``model_type`` of a configuration that this network is; whether queries, keys and values have a bias, and a norm."""

KNOWN = ", ".join([*FAMILIES, "gpt2"])

KEYS = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From a layer, and its new keys and values, to all of those that are attended to."""


class DecoderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of a decoder.

    Attributes
    ----------
    vocabulary, width, layers, heads, groups, head, hidden, positions : int
        Tokens; width of an embedding; layers; heads of queries, and of keys and values; width of a head; width inside
        a feed-forward layer; tokens that it was made to read.
    theta : float
        Base of the rotary positions' wavelengths (Su et al. 2021).
    eps : float
        Added to the mean square in norms.
    tied : bool
        Whether the last layer is the embedding.
    bias, norm : bool
        Whether queries, keys and values have a bias; and whether queries and keys of each head are normed.
    places : {"turned", "learnt"}
        How the place of a token is told: turned into queries and keys, as Llama does, or learnt, as in GPT-2.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    groups: int
    head: int
    hidden: int
    positions: int
    theta: float = 10_000.0
    eps: float = 1e-5
    tied: bool = True
    bias: bool = False
    norm: bool = False
    places: Literal["turned", "learnt"] = "turned"

    @classmethod
    def of(cls, config: Mapping[str, Any], where: str) -> DecoderConfig:
        """Sizes that a ``config.json`` says.

        Parameters
        ----------
        config : mapping
            As transformers writes it.
        where : str
            Where it came from, for the error.

        Raises
        ------
        ModelError
            If it is of another family, or of a kind of this one that is not known here.
        """
        kind = str(config.get("model_type"))
        if kind == "gpt2":
            return cls._of_gpt2(config, where)
        if kind not in FAMILIES:
            raise ModelError(f"{where} holds a {kind}, which does not write here.", f"One of {KNOWN}.")
        rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
        scaling = rope.get("rope_type", rope.get("type", "default"))
        strange = [
            *([f"rope_type {scaling}"] if scaling != "default" else []),
            *(["sliding_window"] if config.get("use_sliding_window", kind == "mistral") and config.get("sliding_window")
              else []),
            *([f"hidden_act {config['hidden_act']}"] if config.get("hidden_act", "silu") != "silu" else []),
            *(name for name in ("attention_bias", "mlp_bias") if config.get(name)),
        ]  # fmt: skip
        if strange:
            raise ModelError(f"{where} is a {kind} with {strange[0]}, which is not known here.", "Another network.")
        heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
        bias, norm = FAMILIES[kind]
        return cls(
            vocabulary=int(config["vocab_size"]),
            width=width,
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            groups=int(config.get("num_key_value_heads") or heads),
            head=int(config.get("head_dim") or width // heads),
            hidden=int(config["intermediate_size"]),
            positions=int(config.get("max_position_embeddings", 2048)),
            theta=float(config.get("rope_theta") or rope.get("rope_theta") or 10_000.0),
            eps=float(config.get("rms_norm_eps", 1e-6)),
            tied=bool(config.get("tie_word_embeddings", False)),
            bias=bias,
            norm=norm,
        )

    @classmethod
    def _of_gpt2(cls, config: Mapping[str, Any], where: str) -> DecoderConfig:
        strange = [name for name in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn") if config.get(name)]
        if config.get("activation_function", "gelu_new") not in ("gelu_new", "gelu_pytorch_tanh"):
            strange.append(f"activation_function {config['activation_function']}")
        if not config.get("scale_attn_weights", True) or not config.get("tie_word_embeddings", True):
            strange.append("weights of another form")
        if strange:
            raise ModelError(f"{where} is a gpt2 with {strange[0]}, which is not known here.", "Another network.")
        heads, width = int(config["n_head"]), int(config["n_embd"])
        return cls(
            vocabulary=int(config["vocab_size"]),
            width=width,
            layers=int(config["n_layer"]),
            heads=heads,
            groups=heads,
            head=width // heads,
            hidden=int(config.get("n_inner") or 4 * width),
            positions=int(config["n_positions"]),
            eps=float(config.get("layer_norm_epsilon", 1e-5)),
            places="learnt",
        )


class Norm(nn.Module):
    """Root mean square norm (Zhang, Sennrich 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Numbers of about size 1, (…, width)."""
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys with their places turned into them, (n, heads, tokens, head)."""
    one, other = x.chunk(2, dim=-1)
    return torch.cat((one * cos - other * sin, other * cos + one * sin), dim=-1)


class Attention(nn.Module):
    """Heads of attention, several of which may share keys and values (Ainslie et al. 2023)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.head = config.head
        wide, narrow = config.heads * config.head, config.groups * config.head
        self.q_proj = nn.Linear(config.width, wide, bias=config.bias)
        self.k_proj = nn.Linear(config.width, narrow, bias=config.bias)
        self.v_proj = nn.Linear(config.width, narrow, bias=config.bias)
        self.o_proj = nn.Linear(wide, config.width, bias=False)
        self.q_norm = Norm(config.head, config.eps) if config.norm else nn.Identity()
        self.k_norm = Norm(config.head, config.eps) if config.norm else nn.Identity()
        self.shared = config.groups != config.heads

    def forward(
        self, x: Tensor, places: tuple[Tensor, Tensor], mask: Tensor | None, keys: Callable[..., Any] | None
    ) -> Tensor:
        """What each token takes from those before it, (n, tokens, width)."""
        n, tokens, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(n, tokens, -1, self.head)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(n, tokens, -1, self.head)).transpose(1, 2)
        v = self.v_proj(x).view(n, tokens, -1, self.head).transpose(1, 2)
        q, k = turned(q, *places), turned(k, *places)
        if keys is not None:
            k, v = keys(k, v)
        found = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=self.shared
        )
        return self.o_proj(found.transpose(1, 2).reshape(n, tokens, -1))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """A gated layer (Shazeer 2020)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.up_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Each token by itself, (n, tokens, width)."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention, and a feed-forward layer."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.input_layernorm = Norm(config.width, config.eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = Norm(config.width, config.eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, *given: Any) -> Tensor:
        """Tokens after the layer, (n, tokens, width)."""
        x = x + self.self_attn(self.input_layernorm(x), *given)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class Trunk(nn.Module):
    """Embedding, layers and last norm, under the name that transformers has for them."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = Norm(config.width, config.eps)


class Decoder(nn.Module):
    """The network, from ids of tokens to hidden states, and from these to logits.

    Parameters
    ----------
    config : DecoderConfig
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = None if config.tied else nn.Linear(config.width, config.vocabulary, bias=False)
        self._turns: tuple[Tensor, Tensor] | None = None

    @property
    def trunk(self) -> nn.Module:
        """All but the last layer."""
        return self.model

    @property
    def output(self) -> Tensor:
        """Weights from hidden states to logits, (vocabulary, width)."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def forward(self, ids: Tensor, places: Tensor, mask: Tensor | None = None, keys: KEYS | None = None) -> Tensor:
        """Hidden states, (n, tokens, width).

        Parameters
        ----------
        ids : Tensor, shape (n, tokens)
            Of the tokens.
        places : Tensor, shape (n, tokens)
            Place of each token in its text, from 0.
        mask : Tensor or None, shape (n, 1, tokens, all)
            Which tokens each attends to; those before it where it is None.
        keys : callable, optional
            From a layer, and its new keys and values, to all that are attended to.
        """
        x = self.model.embed_tokens(ids)
        cos, sin = (table[places][:, None] for table in self.turns(places.device))
        for number, layer in enumerate(self.model.layers):
            kept = None if keys is None else of_layer(keys, number)
            x = layer(x, (cos, sin), mask, kept)
        return self.model.norm(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of the next token, (…, vocabulary)."""
        return functional.linear(hidden, self.output)

    def turns(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the angle of each place and pair of numbers, float32 (positions, head / 2)."""
        if self._turns is None or self._turns[0].device != device:
            half = self.config.head // 2
            pace = self.config.theta ** (-torch.arange(half, dtype=torch.float64) / half)
            angle = torch.outer(torch.arange(self.config.positions, dtype=torch.float64), pace)
            self._turns = tuple(table.float().to(device) for table in (angle.cos(), angle.sin()))  # type: ignore[assignment]
        assert self._turns is not None
        return self._turns


def of_layer(keys: KEYS, number: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What gives the keys and values of one layer."""
    return lambda k, v: keys(number, k, v)


def begin(decoder: nn.Module, layers: int) -> None:
    """Draw weights: normal, of deviation 0.02, smaller where layers add up (Radford et al. 2019).

    Parameters
    ----------
    decoder : nn.Module
        Whose weights are changed.
    layers : int
        How many it has.
    """
    for name, weight in decoder.named_parameters():
        if weight.dim() > 1:
            deep = name.endswith(("o_proj.weight", "down_proj.weight"))
            nn.init.normal_(weight, std=0.02 / ((2 * layers) ** 0.5 if deep else 1.0))
