"""What a compression leaves as it was, and what it says where that is everything.

Not a compressor: it registers nothing.
"""

from __future__ import annotations

import math
from typing import Any

from maas_magics.api.errors import ExportError

WORTH = 1_024
"""Numbers of a weight that are worth a mention."""

MADE_FOR = "linear layers, convolutions, recurrent layers and tables"
"""What integers are for, as an error says it."""

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


def takers(graph: Any, found: dict[str, set[tuple[str, int]]] | None = None) -> dict[str, set[tuple[str, int]]]:
    """Operators that take each value, and as which of their inputs; those inside of loops and branches among them.

    Parameters
    ----------
    graph : onnx.GraphProto
        The network.
    found : dict of str to set, optional
        What to add to.
    """
    found = {} if found is None else found
    for node in graph.node:
        for place, name in enumerate(node.input):
            found.setdefault(name, set()).add((node.op_type, place))
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                takers(inner, found)
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


def what_stayed(name: str, before: int, model: Any, stored: int = 0) -> str:
    """What a compression says of weights that it did not make integers of products; empty where there are none.

    Parameters
    ----------
    name : str
        Of the compression.
    before : int
        Bytes of large float weights before.
    model : onnx.ModelProto
        The network, compressed.
    stored : int
        Bytes that those had which are stored as integers, and computed in floats.
    """
    left, said = large_floats(model), []
    if stored and before:
        said.append(f"{stored / before:.0%} of the weights are stored as integers and computed in floats")
    if left and before:
        said.append(f"{sum(left.values()) / before:.0%} of the weights stay in floats ({', '.join(sorted(left))})")
    return f"{name}: {', '.join(said)}." if said else ""
