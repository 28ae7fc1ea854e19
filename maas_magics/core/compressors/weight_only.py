"""Weights of products as integers of few bits, by ONNX Runtime; what is multiplied with them stays in floats.

Not a compressor itself: it registers nothing.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from maas_magics.api.errors import ExportError, require
from maas_magics.core.compressors.quiet import no_advice
from maas_magics.core.graphs.beside import save_beside

BLOCK = 32
"""Weights that share a scale."""

LAST = "lm_head.weight"
"""Weight of the last layer of a graph that writes texts, which chooses the token: it keeps 8 bits."""


def write_with_integers(file: Path, smaller: Path, bits: int) -> str:
    """Write a file whose products have weights of some bits; a sentence about what stayed as it was.

    Parameters
    ----------
    file : Path
        The exported file.
    smaller : Path
        Where to write.
    bits : int
        4 or 8.

    Raises
    ------
    ExportError
        If there is nothing in the file that it makes smaller.
    """
    require("onnx", "onnx", "Compression")
    import onnx

    model = onnx.load(file)
    beside = (file.parent / f"{file.name}.data").is_file()
    products = _products(model.graph)
    if not products:
        raise ExportError(
            f"int{bits} finds nothing to compress: it is for linear layers.", "Export it without --compress."
        )
    last = [node.name for node in products if LAST in node.input]
    others = [node.name for node in products if node.name not in last]
    shared = _shared(model.graph)
    if bits < 8 and last:
        model = _quantised(model, 8, others)
        model = _quantised(model, bits, last)
    else:
        model = _quantised(model, bits, [])
    for node in model.graph.node:
        if node.name in shared:
            _look_up(model.graph, node)
    if beside:
        save_beside(model, smaller)
    else:
        onnx.save_model(model, smaller)
    return ""


def _products(graph: Any) -> list[Any]:
    weights = {each.name for each in graph.initializer if len(each.dims) == 2 and each.dims[0] >= BLOCK}
    return [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]


def _shared(graph: Any) -> list[str]:
    """Names of nodes that look up rows of a table whose columns are the weights of the last layer."""
    from onnx import numpy_helper

    weights = {each.name: each for each in graph.initializer}
    if LAST not in weights:
        return []
    last = numpy_helper.to_array(weights[LAST])
    return [
        node.name
        for node in graph.node
        if node.op_type == "Gather"
        and node.input[0] in weights
        and weights[node.input[0]].dims == list(last.shape[::-1])
        and (numpy_helper.to_array(weights[node.input[0]]) == last.T).all()
    ]


def _look_up(graph: Any, node: Any) -> None:
    """Let a node look up the integers that the last layer has, of 8 bits, in place of a table of floats."""
    from onnx import helper, numpy_helper

    weights = {each.name: each for each in graph.initializer}
    table, packed = node.input[0], numpy_helper.to_array(weights[f"{LAST}_Q8"])
    scales = numpy_helper.to_array(weights[f"{LAST}_scales"]).reshape(len(packed), -1)
    graph.initializer.remove(weights[table])
    graph.initializer.append(numpy_helper.from_array(packed.reshape(len(packed), -1), f"{table}_Q8"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{table}_scales"))
    found = helper.make_node(
        "GatherBlockQuantized",
        [f"{table}_Q8", node.input[1], f"{table}_scales"],
        list(node.output),
        name=node.name,
        domain="com.microsoft",
        bits=8,
        block_size=BLOCK,
        gather_axis=0,
        quantize_axis=1,
    )
    node.CopyFrom(found)


def _quantised(model: Any, bits: int, left: list[str]) -> Any:
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    config = DefaultWeightOnlyQuantConfig(
        block_size=BLOCK, is_symmetric=True, accuracy_level=4, bits=bits, op_types_to_quantize=("MatMul",)
    )
    with no_advice(logging.WARNING):
        made = MatMulNBitsQuantizer(model, algo_config=config, nodes_to_exclude=left)
        made.process()
    return made.model.model
