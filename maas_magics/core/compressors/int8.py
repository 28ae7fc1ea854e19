"""Weights of products as eight-bit integers, by ONNX Runtime; what is multiplied with them is quantised as it comes.

Each output of a product has a scale of its own (per channel), which costs no bytes that count and loses far less.
Convolutions stay in floats: quantised in this way they are several times slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maas_magics.api.errors import ExportError, require
from maas_magics.core.compressors import compressors
from maas_magics.core.compressors.quiet import no_advice
from maas_magics.core.compressors.weight_only import write_with_integers
from maas_magics.core.data.arrow import Array

PRODUCTS = ("MatMul", "Gemm", "Gather")
"""Operators whose weights become integers."""

WORTH = 1_024
"""Numbers of a weight that are worth a mention."""


class Int8:
    """Dynamic quantisation of linear layers and embeddings."""

    format = "onnx"

    def compress(self, file: Path, smaller: Path, inputs: Sequence[Array]) -> str:
        """Write the file with integer weights."""
        require("onnx", "onnx", "Compression")
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        model = onnx.load(file, load_external_data=False)
        if any(node.op_type == "GroupQueryAttention" for node in model.graph.node):
            return write_with_integers(file, smaller, 8)  # what such networks compute is lost in integers
        before = sum(_large(model).values())
        with no_advice():
            quantize_dynamic(
                file,
                smaller,
                op_types_to_quantize=list(PRODUCTS),
                per_channel=True,
                nodes_to_exclude=_batched(model),
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
        left = _large(onnx.load(smaller))
        stayed = sum(left.values())
        if not before or stayed == before:
            raise ExportError(
                "int8 finds nothing to compress: it is for linear layers and embeddings"
                + (f", and the weights stand in {', '.join(sorted(left))}." if left else "."),
                "Export it without --compress.",
            )
        if not stayed:
            return ""
        return f"int8: {stayed / before:.0%} of the weights stay in floats ({', '.join(sorted(left))})."


def _batched(model: Any) -> list[str]:
    """Products with a weight for each of several batches, whose channels ONNX Runtime's tool mistakes."""
    axes = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and axes.get(node.input[1], 2) != 2]


def _large(model: Any) -> dict[str, int]:
    """Bytes of large float weights by the operator that takes them."""
    from onnx import TensorProto

    floats = {
        tensor.name: 4 * _numbers(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and _numbers(tensor) >= WORTH
    }
    found: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            if name in floats:
                found[node.op_type] = found.get(node.op_type, 0) + floats.pop(name)
    return found


def _numbers(tensor: Any) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


compressors.register("int8")(Int8())
