"""Weights of products as eight-bit integers, by ONNX Runtime; what is multiplied with them is quantised as it comes.

Each output of a product has a scale of its own (per channel), which costs no bytes that count and loses far less.
Convolutions are computed in floats: quantised in this way they are several times slower. Their weights are stored as
integers all the same, and so are those of recurrent layers, and of products with a weight for each of several networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maas_magics.api.errors import require
from maas_magics.core.compat.quantizing import quantised_in_memory
from maas_magics.core.compressors import compressors
from maas_magics.core.compressors.quiet import no_advice
from maas_magics.core.compressors.stayed import MADE_FOR, large_floats, nothing_found, what_stayed
from maas_magics.core.compressors.stored import store_as_integers
from maas_magics.core.compressors.weight_only import write_with_integers
from maas_magics.core.data.arrow import Array
from maas_magics.core.graphs.beside import loaded
from maas_magics.core.seal.files import is_sealed, put

PRODUCTS = ("MatMul", "Gemm", "Gather")
"""Operators that compute with integers."""


class Int8:
    """Dynamic quantisation of linear layers and embeddings."""

    format = "onnx"
    sealable = True

    def compress(self, file: Path, smaller: Path, inputs: Sequence[Array]) -> str:
        """Write the file with integer weights."""
        require("onnx", "onnx", "Compression")
        import onnx

        sealed = is_sealed(file)
        model = loaded(file) if sealed else onnx.load(file, load_external_data=False)
        if any(node.op_type == "GroupQueryAttention" for node in model.graph.node):
            return write_with_integers(file, smaller, 8)  # what such networks compute is lost in integers
        before = sum(large_floats(model).values())
        # what was compressed before has operators whose answers' type the tool does not know: floats
        extra = {"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT}
        with no_advice():
            from onnxruntime.quantization import QuantType, quantize_dynamic

            if sealed:
                made = quantised_in_memory(model, PRODUCTS, _batched(model), extra)
            else:
                quantize_dynamic(
                    file,
                    smaller,
                    op_types_to_quantize=list(PRODUCTS),
                    per_channel=True,
                    nodes_to_exclude=_batched(model),
                    weight_type=QuantType.QInt8,
                    extra_options=extra,
                )
                made = onnx.load(smaller)
        stored = store_as_integers(made, 8)
        if not before or sum(large_floats(made).values()) == before:
            raise nothing_found("int8", MADE_FOR, model)
        put(smaller, made.SerializeToString())
        return what_stayed("int8", before, made, stored)


def _batched(model: Any) -> list[str]:
    """Products with a weight for each of several batches, whose channels ONNX Runtime's tool mistakes."""
    axes = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and axes.get(node.input[1], 2) != 2]


compressors.register("int8")(Int8())
