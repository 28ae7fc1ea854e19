"""What a compression leaves as it was, and what it says where that is everything.

Not a compressor: it registers nothing.
"""

from __future__ import annotations

import math
from typing import Any

from maas_magics.api.errors import ExportError

WORTH = 1_024
"""Numbers of a weight that are worth a mention."""

INTEGERS = frozenset(
    {"MatMulNBits", "MatMulInteger", "DynamicQuantizeMatMul", "GatherBlockQuantized", "DequantizeLinear"}
)
"""Operators of graphs that were compressed; what they have in floats are scales."""


def large_floats(model: Any) -> dict[str, int]:
    """Bytes of large float weights, by the operator that takes them.

    Parameters
    ----------
    model : onnx.ModelProto
        The network.
    """
    from onnx import TensorProto

    floats = {
        tensor.name: 4 * math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and math.prod(tensor.dims) >= WORTH
    }
    found: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            if name in floats and node.op_type not in INTEGERS:
                found[node.op_type] = found.get(node.op_type, 0) + floats.pop(name)
    return found


def nothing_found(name: str, made_for: str, model: Any) -> ExportError:
    """The error of a compression that finds nothing to do.

    Parameters
    ----------
    name : str
        Of the compression.
    made_for : str
        What it is for.
    model : onnx.ModelProto
        The network.
    """
    left = ", ".join(sorted(large_floats(model)))
    if any(node.op_type in INTEGERS for node in model.graph.node):
        return ExportError(
            f"{name} finds nothing to compress that is not in integers already"
            + (f"; floats are left in {left}." if left else "."),
            "Name one compression.",
        )
    return ExportError(
        f"{name} finds nothing to compress: it is for {made_for}"
        + (f", and the weights stand in {left}." if left else f", and none here has {WORTH:,} weights."),
        "Export it without --compress.",
    )


def what_stayed(name: str, before: int, model: Any) -> str:
    """A sentence about weights that stayed in floats; empty where none did.

    Parameters
    ----------
    name : str
        Of the compression.
    before : int
        Bytes of large float weights before.
    model : onnx.ModelProto
        The network, compressed.
    """
    left = large_floats(model)
    if not left or not before:
        return ""
    return f"{name}: {sum(left.values()) / before:.0%} of the weights stay in floats ({', '.join(sorted(left))})."
