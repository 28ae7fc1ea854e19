"""Weights and what is multiplied with them as eight-bit integers, whose ranges are measured on real rows beforehand.

By ONNX Runtime's tool: pairs of QuantizeLinear and DequantizeLinear (QDQ), a scale for each channel of a weight. It is
made for convolutional networks, whose pictures stay integers from layer to layer. Of a network without convolutions
only products with weights are quantised, and their answers stay in floats: what attention, normalisation and
activations compute is lost in integers of a fixed range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from maas_magics.api.errors import ExportError, require
from maas_magics.core.compressors import compressors
from maas_magics.core.compressors.quiet import no_advice
from maas_magics.core.compressors.stayed import large_floats, nothing_found, what_stayed
from maas_magics.core.compressors.stored import store_as_integers
from maas_magics.core.data.arrow import Array

PRODUCTS = ("MatMul", "Gemm")
"""Operators that are quantised in every network, where one side is a weight."""

CONVOLUTIONS = ("Conv", "ConvTranspose")
"""Operators after which a network counts as a convolutional one."""

BETWEEN = ("MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "Clip", "Concat", "Resize", "Add")
"""Operators that hand integers on, between convolutions; a sum only of two things that were computed."""

CALIBRATED_ON = 256
"""Rows that ranges are measured on, at most."""

BATCH = 16
"""Rows that are run at once to measure them."""


class Int8Static:
    """Static quantisation, calibrated."""

    format = "onnx"

    def compress(self, file: Path, smaller: Path, inputs: Sequence[Array]) -> str:
        """Write the file with integer weights and ranges."""
        require("onnx", "onnx", "Compression")
        import onnx

        if (file.parent / f"{file.name}.data").is_file():
            raise ExportError("int8-static is not for weights that stand beside the graph.", "--compress int8")
        with TemporaryDirectory(dir=smaller.parent) as work:
            plain = _optimised(file, Path(work) / "plain.onnx")
            model = onnx.load(plain)
            for place, node in enumerate(model.graph.node):
                node.name = f"{node.op_type}/{place}"  # they are chosen by name
            onnx.save_model(model, plain)
            before = sum(large_floats(onnx.load(file)).values())
            convolutional = any(node.op_type in CONVOLUTIONS for node in model.graph.node)
            chosen = _chosen(model.graph, convolutional)
            if not chosen or not before:
                raise nothing_found("int8-static", "convolutions and linear layers", model)
            with no_advice():
                from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

                quantize_static(
                    plain,
                    smaller,
                    _Rows([value.name for value in model.graph.input], inputs),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=[*PRODUCTS, *((*CONVOLUTIONS, *BETWEEN) if convolutional else ())],
                    nodes_to_quantize=chosen,
                    per_channel=True,
                    weight_type=QuantType.QInt8,
                    activation_type=QuantType.QUInt8 if convolutional else QuantType.QInt8,
                    extra_options={
                        "OpTypesToExcludeOutputQuantization": list(PRODUCTS),
                        "DefaultTensorType": onnx.TensorProto.FLOAT,
                    },
                )
            made = onnx.load(smaller)
            if not convolutional:
                _in_floats(made.graph, set(chosen))
            used = {"", *(node.domain for node in made.graph.node), *(node.domain for node in made.functions)}
            sets = [entry for entry in made.opset_import if entry.domain in used]  # ONNX Runtime names all it knows
            del made.opset_import[:]
            made.opset_import.extend(sets)
            stored = store_as_integers(made, 8)
            onnx.save_model(made, smaller)
        return what_stayed("int8-static", before, made, stored)


def _optimised(file: Path, made: Path) -> Path:
    """The file as ONNX Runtime simplifies it for any machine: statistics of batches go into convolutions."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(made)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return made


def _chosen(graph: Any, convolutional: bool) -> list[str]:
    """Names of the nodes that are quantised; empty where no weight is among what they take."""
    weights = {each.name for each in graph.initializer}
    batched = {
        each.name for each in graph.initializer if len(each.dims) != 2
    }  # their channels are mistaken in products
    after: set[str] = set()
    found = []
    for node in graph.node:
        behind = any(name in after for name in node.input)
        takes = [name for name in node.input if name]
        if node.op_type in (*PRODUCTS, *CONVOLUTIONS):
            mistaken = node.op_type in PRODUCTS and len(takes) > 1 and takes[1] in batched
            if len(takes) > 1 and takes[1] in weights and takes[0] not in weights and not mistaken:
                found.append(node.name)
        elif (
            node.op_type in BETWEEN
            and convolutional
            and behind
            and (node.op_type != "Add" or not any(name in weights for name in takes))
        ):
            found.append(node.name)
        if behind or node.op_type in CONVOLUTIONS:
            after.update(node.output)
    kinds = {node.name: node.op_type for node in graph.node}
    return found if any(kinds[name] in (*PRODUCTS, *CONVOLUTIONS) for name in found) else []


def _in_floats(graph: Any, chosen: set[str]) -> None:
    """Let nodes that are not quantised take what was computed, where the tool hands them what a quantised one gets."""
    rounded = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    plain = {
        node.output[0]: rounded[node.input[0]]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in rounded
    }
    for node in graph.node:
        if node.name not in chosen and node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            node.input[:] = [plain.get(name, name) for name in node.input]


class _Rows:
    """Rows for ONNX Runtime's calibration, a few at a time."""

    def __init__(self, names: Sequence[str], inputs: Sequence[Array]) -> None:
        rows = len(inputs[0])
        index = np.unique(np.linspace(0, rows - 1, min(rows, CALIBRATED_ON)).astype(int))
        self._batches = iter(
            [
                {name: values[index[start : start + BATCH]] for name, values in zip(names, inputs, strict=True)}
                for start in range(0, len(index), BATCH)
            ]
        )

    def get_next(self) -> Mapping[str, Array] | None:
        """The next inputs; None at the end."""
        return next(self._batches, None)


compressors.register("int8-static")(Int8Static())
