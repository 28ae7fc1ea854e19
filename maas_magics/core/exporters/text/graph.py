"""A decoder as an ONNX graph with a key-value cache, of the operators that ONNX Runtime has for it.

Inputs and outputs have the names that onnxruntime-genai gives them, so that it runs the file as well. A cache is given
as one buffer, from which keys and values are read and to which new ones are written: each row's own, of its own length.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from maas_magics.core.graphs.beside import save_beside
from maas_magics.core.networks.decoder import Decoder, DecoderConfig
from maas_magics.core.networks.decoder_gpt2 import DecoderGPT2

OPSET = 21
MICROSOFT = "com.microsoft"

STEP = 16
"""A head's size in the graph is a multiple of it; one that is not gets zeros, which change nothing."""

KEEP = "logits_to_keep"
"""Input with the places whose logits are made, of those that are read; the last one where nothing is given."""


def wide(config: DecoderConfig) -> int:
    """Numbers of a head in the graph.

    Parameters
    ----------
    config : DecoderConfig
        Sizes of the decoder.
    """
    return -(-config.head // STEP) * STEP


def write_decoder(decoder: Decoder | DecoderGPT2, file: Path) -> None:
    """Write a decoder, its weights beside the file as ``model.onnx.data``.

    Parameters
    ----------
    decoder : Decoder or DecoderGPT2
        The network.
    file : Path
        Where to write.
    """
    import onnx

    graph = _Graph(decoder.config)
    outputs = graph.gpt2(decoder) if isinstance(decoder, DecoderGPT2) else graph.llama(decoder)
    made = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "decoder", graph.inputs, outputs, graph.weights),
        opset_imports=[onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(MICROSOFT, 1)],
        ir_version=10,
    )
    onnx.helper.set_model_props(made, {"positions": str(decoder.config.positions)})
    save_beside(made, file)


class _Graph:
    """Nodes, inputs and weights, as they are added.

    Parameters
    ----------
    config : DecoderConfig
        Sizes of the decoder.
    """

    def __init__(self, config: DecoderConfig) -> None:
        from onnx import TensorProto, helper

        self.config = config
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.wide = wide(config)
        cache: list[str | int | None] = ["batch", config.groups, "cache", self.wide]
        self.inputs = [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "all"]),
            helper.make_tensor_value_info(KEEP, TensorProto.INT64, ["kept"]),
            *(
                helper.make_tensor_value_info(f"past_key_values.{layer}.{part}", TensorProto.FLOAT, cache)
                for layer in range(config.layers)
                for part in ("key", "value")
            ),
        ]
        self._outputs = [
            # One place, as where nothing is said of those that are kept: by it onnxruntime-genai knows that a prompt
            # is answered at its end alone.
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, config.vocabulary]),
            *(
                helper.make_tensor_value_info(f"present.{layer}.{part}", TensorProto.FLOAT, cache)
                for layer in range(config.layers)
                for part in ("key", "value")
            ),
        ]
        self.constant(KEEP, np.array([-1], dtype=np.int64))

    def constant(self, name: str, values: Any) -> str:
        """A weight, by the name that it gets."""
        from onnx import numpy_helper

        if isinstance(values, Tensor):
            values = values.detach().float().cpu().numpy()
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: Any) -> str:
        """One operator; the name of its first output."""
        from onnx import helper

        made = outputs or (f"{kind}_{len(self.nodes)}",)
        self.nodes.append(
            helper.make_node(
                kind, list(inputs), list(made), name=f"{kind}_{len(self.nodes)}", domain=domain, **attributes
            )
        )
        return made[0]

    def linear(self, x: str, name: str, weight: Tensor, bias: Tensor | None = None) -> str:
        """A linear layer whose weight is (outputs, inputs)."""
        found = self.add("MatMul", [x, self.constant(f"{name}.weight", weight.T)])
        return found if bias is None else self.add("Add", [found, self.constant(f"{name}.bias", bias)])

    def lengths(self) -> None:
        """From the mask to the number of tokens that each row has with this pass, and the most of them."""
        from onnx import TensorProto

        one, whole = self.constant("one", np.array([1], np.int64)), self.constant("axis", np.array([1], np.int64))
        held = self.add("Sub", [self.add("ReduceSum", ["attention_mask", whole], keepdims=0), one])
        self.add("Cast", [held], "lengths", to=TensorProto.INT32)
        size = self.add("Shape", ["attention_mask"])
        most = self.add("Gather", [size, self.constant("second", np.array(1, np.int64))], axis=0)
        self.add("Cast", [most], "total", to=TensorProto.INT32)

    def attention(self, layer: int, q: str, k: str = "", v: str = "", turned: bool = True) -> str:
        """Attention over what is in the cache and what is new, which is put there."""
        past, present = f"past_key_values.{layer}", f"present.{layer}"
        return self.add(
            "GroupQueryAttention",
            [q, k, v, f"{past}.key", f"{past}.value", "lengths", "total", *(["cos", "sin"] if turned else [])],
            f"attention_{layer}",
            f"{present}.key",
            f"{present}.value",
            domain=MICROSOFT,
            num_heads=self.config.heads,
            kv_num_heads=self.config.groups,
            do_rotary=int(turned),
            rotary_interleaved=0,
            scale=self.config.head**-0.5,
        )

    def logits(self, hidden: str, output: Tensor) -> list[Any]:
        """The last layer at the places that are kept, and what the graph answers."""
        kept = self.add("Gather", [hidden, KEEP], axis=1)
        self.add("MatMul", [kept, self.constant("lm_head.weight", output.T)], "logits")
        return self._outputs

    # --- the two families ---

    def llama(self, decoder: Decoder) -> list[Any]:
        """Llama, Mistral, Qwen 2 and 3, and those trained here."""
        trunk = decoder.model
        self.lengths()
        for name, table in zip(("cos", "sin"), decoder.turns(torch.device("cpu")), strict=True):
            self.constant(name, pad(table, (0, (self.wide - self.config.head) // 2)))
        x = self.add("Gather", [self.constant("embed_tokens.weight", trunk.embed_tokens.weight), "input_ids"])
        change = ""
        layers: Any = trunk.layers
        for number, layer in enumerate(layers):
            one, two = f"layers.{number}.attention", f"layers.{number}.mlp"
            x, normed = self.normed(x, change, f"{one}.norm", layer.input_layernorm.weight)
            found = self.attended(number, normed, one, layer.self_attn)
            change = self.linear(found, f"{one}.output", self.whole(layer.self_attn.o_proj.weight.T).T)
            x, normed = self.normed(x, change, f"{two}.norm", layer.post_attention_layernorm.weight)
            gate = self.linear(normed, f"{two}.gate", layer.mlp.gate_proj.weight)
            up = self.linear(normed, f"{two}.up", layer.mlp.up_proj.weight)
            open = self.add("QuickGelu", [gate], domain=MICROSOFT, alpha=1.0)
            change = self.linear(self.add("Mul", [open, up]), f"{two}.down", layer.mlp.down_proj.weight)
        _, hidden = self.normed(x, change, "norm", trunk.norm.weight)
        return self.logits(hidden, decoder.output)

    def normed(self, x: str, change: str, name: str, weight: Tensor) -> tuple[str, str]:
        """The sum of both, and its root mean square norm."""
        scale = self.constant(f"{name}.weight", weight)
        if not change:
            return x, self.add("SimplifiedLayerNormalization", [x, scale], axis=-1, epsilon=self.config.eps)
        total = f"{name}.sum"
        found = self.add(
            "SkipSimplifiedLayerNormalization",
            [x, change, scale],
            f"{name}.normed", "", "", total,
            domain=MICROSOFT, epsilon=self.config.eps,
        )  # fmt: skip
        return total, found

    def attended(self, number: int, x: str, name: str, layer: Any) -> str:
        """Attention of one layer of Llama's family."""
        parts = [layer.q_proj, layer.k_proj, layer.v_proj]
        if not self.config.norm:
            widened = (self.halves, self.halves, self.whole)
            weight = torch.cat([widen(part.weight) for widen, part in zip(widened, parts, strict=True)])
            bias = (
                torch.cat([widen(part.bias) for widen, part in zip(widened, parts, strict=True)])
                if self.config.bias
                else None
            )
            return self.attention(number, self.linear(x, f"{name}.qkv", weight, bias))
        q = self.by_head(self.linear(x, f"{name}.q", layer.q_proj.weight), f"{name}.q_norm", layer.q_norm.weight)
        k = self.by_head(self.linear(x, f"{name}.k", layer.k_proj.weight), f"{name}.k_norm", layer.k_norm.weight)
        v = self.linear(x, f"{name}.v", self.whole(layer.v_proj.weight))
        return self.attention(number, q, k, v)

    def halves(self, values: Tensor) -> Tensor:
        """Rows of heads, each half of which gets zeros behind it: places are turned into pairs of a row of each."""
        more = (self.wide - self.config.head) // 2
        rows = values.reshape(-1, 2, self.config.head // 2, values[0].numel())
        return pad(rows, (0, 0, 0, more)).reshape(-1, *values.shape[1:])

    def whole(self, values: Tensor) -> Tensor:
        """Rows of heads, each of which gets zeros behind it."""
        rows = values.reshape(-1, self.config.head, values[0].numel())
        return pad(rows, (0, 0, 0, self.wide - self.config.head)).reshape(-1, *values.shape[1:])

    def by_head(self, x: str, name: str, weight: Tensor) -> str:
        """The norm of each head by itself."""
        split = self.constant(f"{name}.split", np.array([0, 0, -1, self.config.head], np.int64))
        join = self.constant(f"{name}.join", np.array([0, 0, -1], np.int64))
        heads = self.add("Reshape", [x, split])
        scale = self.constant(f"{name}.weight", weight)
        found = self.add("SimplifiedLayerNormalization", [heads, scale], axis=-1, epsilon=self.config.eps)
        if more := (self.wide - self.config.head) // 2:
            half = self.constant(f"{name}.half", np.array([0, 0, -1, 2, self.config.head // 2], np.int64))
            zeros = self.constant(f"{name}.zeros", np.array([0] * 9 + [more], np.int64))
            found = self.add("Pad", [self.add("Reshape", [found, half]), zeros])
        return self.add("Reshape", [found, join])

    def gpt2(self, decoder: DecoderGPT2) -> list[Any]:
        """GPT-2."""
        trunk = decoder.transformer
        self.lengths()
        x = self.add("Gather", [self.constant("wte.weight", trunk.wte.weight), "input_ids"])
        x = self.add("Add", [x, self.add("Gather", [self.constant("wpe.weight", trunk.wpe.weight), self.places()])])
        layers: Any = trunk.h
        for number, layer in enumerate(layers):
            one, two = f"layers.{number}.attention", f"layers.{number}.mlp"
            normed = self.centred(x, f"{one}.norm", layer.ln_1)
            given, made = layer.attn.c_attn, layer.attn.c_proj
            qkv = self.linear(normed, f"{one}.qkv", self.whole(given.weight.T), self.whole(given.bias))
            found = self.attention(number, qkv, turned=False)
            x = self.add("Add", [x, self.linear(found, f"{one}.output", self.whole(made.weight).T, made.bias)])
            hidden = self.turned(self.centred(x, f"{two}.norm", layer.ln_2), f"{two}.in", layer.mlp.c_fc)
            hidden = self.add("Gelu", [hidden], approximate="tanh")
            x = self.add("Add", [x, self.turned(hidden, f"{two}.out", layer.mlp.c_proj)])
        return self.logits(self.centred(x, "norm", trunk.ln_f), decoder.output)

    def places(self) -> str:
        """Place of each new token in its text, (batch, tokens)."""
        from onnx import TensorProto

        size = self.add("Shape", ["input_ids"])
        tokens = self.add("Gather", [size, "second"], axis=0)
        zero = self.constant("zero", np.array(0, np.int64))
        steps = self.add("Range", [self.add("Sub", [zero, tokens]), zero, self.constant("step", np.array(1, np.int64))])
        held = self.add("Cast", ["lengths"], to=TensorProto.INT64)
        last = self.add("Unsqueeze", [self.add("Add", [held, "one"]), "axis"])
        return self.add("Add", [last, steps])

    def centred(self, x: str, name: str, layer: Any) -> str:
        """The layer norm."""
        given = [x, self.constant(f"{name}.weight", layer.weight), self.constant(f"{name}.bias", layer.bias)]
        return self.add("LayerNormalization", given, axis=-1, epsilon=self.config.eps)

    def turned(self, x: str, name: str, layer: Any) -> str:
        """A linear layer whose weights are (inputs, outputs)."""
        return self.linear(x, name, layer.weight.T, layer.bias)
