"""Weights of products as integers of few bits, by ONNX Runtime; what is multiplied with them stays in floats.

Not a compressor itself: it registers nothing.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from maas_magics.api.errors import require
from maas_magics.core.compressors.quiet import no_advice
from maas_magics.core.compressors.stayed import MADE_FOR, large_floats, nothing_found, what_stayed
from maas_magics.core.compressors.stored import store_as_integers
from maas_magics.core.graphs.beside import loaded, save_beside
from maas_magics.core.seal.files import put

BLOCK = 32
"""Weights that share a scale."""

LAST = "lm_head.weight"
"""Weight of the last layer of a graph that writes texts, which chooses the token: it keeps 8 bits."""

FINER = tuple(f".{layer}.weight" for layer in ("qkv", "q", "k", "v", "down", "out"))
"""Ends of names of weights there that keep 8 bits as well: those that lose most in 4, of attention and of what a layer
adds last."""


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
    model = loaded(file)
    beside = (file.parent / f"{file.name}.data").is_file()
    before = sum(large_floats(model).values())
    _as_products(model.graph)
    products = _products(model.graph)
    last = [node.name for node in products if LAST in node.input]
    names = {node.name for node in products}
    kept = [node.name for node in model.graph.node if node.name not in names]
    shared = _shared(model.graph) if last else []
    if bits < 8 and last:
        fine = {*last, *(node.name for node in products if node.input[1].endswith(FINER))}
        model = _quantised(model, 8, [node.name for node in model.graph.node if node.name not in fine])
        model = _quantised(model, bits, [*kept, *fine])
    elif products:
        model = _quantised(model, bits, kept)
    stored = store_as_integers(model, bits)
    if not before or sum(large_floats(model).values()) == before:
        raise nothing_found(f"int{bits}", MADE_FOR, model)
    for node in model.graph.node:
        if node.name in shared:
            _look_up(model.graph, node)
    if beside:
        save_beside(model, smaller)
    else:
        put(smaller, model.SerializeToString())
    return what_stayed(f"int{bits}", before, model, stored)


def _as_products(graph: Any) -> None:
    """Write linear layers that are one operator, product and sum together, as two: only products are compressed."""
    from onnx import helper, numpy_helper

    weights = {each.name: each for each in graph.initializer}
    used = [name for node in graph.node for name in node.input]
    found = []
    for place, node in enumerate(graph.node):
        said = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        weight = weights.get(node.input[1]) if node.op_type == "Gemm" else None
        if weight is None or said.get("transA") or said.get("alpha", 1.0) != 1 or said.get("beta", 1.0) != 1:
            found.append(node)
            continue
        name = weight.name
        if said.get("transB"):
            name = f"{weight.name}/columns/{place}"
            graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(weight).T.copy(), name))
            if used.count(weight.name) == 1:
                graph.initializer.remove(weight)
        added = len(node.input) > 2 and bool(node.input[2])
        product = f"{node.output[0]}/product" if added else node.output[0]
        found.append(helper.make_node("MatMul", [node.input[0], name], [product], name=node.name))
        if added:
            found.append(
                helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=f"{node.name}/sum/{place}")
            )
    del graph.node[:]
    graph.node.extend(found)


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
    width = weights[table].dims[1]  # a row is filled up to whole blocks for a product, which a table is not
    rows = np.ascontiguousarray(packed.reshape(len(packed), -1)[:, :width])
    graph.initializer.append(numpy_helper.from_array(rows, f"{table}_Q8"))
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
    with no_advice():
        from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
    config = DefaultWeightOnlyQuantConfig(
        block_size=BLOCK, is_symmetric=True, accuracy_level=4, bits=bits, op_types_to_quantize=("MatMul",)
    )
    with no_advice(logging.WARNING):
        made = MatMulNBitsQuantizer(model, algo_config=config, nodes_to_exclude=left)
        made.process()
    return made.model.model
