"""Weights that no integer product takes, stored as integers all the same, and computed in floats.

Not a compressor itself: it registers nothing. A `Cast` of the integers and a `Mul` with a scale for each group of them
stand in front of whatever takes the weight; of constants both are done once, when the file is opened. So convolutions,
products with a weight for each of several networks, recurrent layers and tables get smaller, and not slower.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from maas_magics.core.compressors.stayed import WORTH, takers
from maas_magics.core.data.arrow import Array

MOVERS = frozenset({"Split", "Identity"})
"""Operators that hand a weight on, with its columns as they were."""

AXES = {"Conv": -1, "MatMul": -2, "Gemm": -2, "ConvTranspose": 0, "LSTM": -1, "GRU": -1, "RNN": -1, "Gather": -1}
"""Axis along which numbers are grouped, by who takes the weight; of a convolution, all behind the first as one."""

PLACES = {"Gather": (0,), "LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2)}
"""Which of its inputs are weights, by the operator; of others the second is."""

GROUP = {8: 1 << 30, 4: 32}
"""Numbers that share a scale, at most, by their bits: of eight, all of a channel."""

NARROW = 16
"""Numbers in a row of a table below which its columns are grouped, not its rows."""

OPSET = {8: 13, 4: 21}
"""Set of operators that is needed at least, by the bits; ``Cast`` takes four of them since the latter."""


def store_as_integers(model: Any, bits: int) -> int:
    """Store the large weights of products, convolutions, recurrent layers and tables as integers.

    Parameters
    ----------
    model : onnx.ModelProto
        The network, changed in place.
    bits : int
        4 or 8.

    Returns
    -------
    int
        Bytes that the stored weights had in floats.
    """
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    if any(node.op_type == "GroupQueryAttention" for node in graph.node):
        return 0  # of what writes texts the layers are chosen one by one
    if bits < 8 and any(node.op_type == "GroupNormalization" for node in graph.node):
        bits = 8  # what it takes is another thing in later sets of operators
    taken = takers(graph)
    after = {node.input[0]: node.output for node in graph.node if node.op_type in MOVERS}
    known = {entry.name for entry in (*graph.input, *graph.output)}
    nodes: list[Any] = []
    stored = 0
    for tensor in list(graph.initializer):
        large = tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1 and math.prod(tensor.dims) >= WORTH
        takes = _kinds(tensor.name, taken, after) if large and tensor.name not in known else set()
        values = numpy_helper.to_array(tensor) if len(takes) == 1 and takes <= AXES.keys() else None
        if values is None or not np.isfinite(values).all():
            continue
        stored += values.nbytes
        graph.initializer.remove(tensor)
        made, before = _in_place_of(tensor.name, values, next(iter(takes)), bits)
        graph.initializer.extend(made)
        nodes += before
    if nodes:
        nodes += graph.node
        del graph.node[:]
        graph.node.extend(nodes)
        model.ir_version = max(model.ir_version, 10)
        for entry in model.opset_import:
            if entry.domain in ("", "ai.onnx"):
                entry.version = max(entry.version, OPSET[bits])
    return stored


def in_groups(values: Array, axis: int, bits: int) -> tuple[Array, Array]:
    """Integers of a weight, and a scale for each group of them, by which they are floats again.

    Parameters
    ----------
    values : ndarray of float32, shape (…, n, …)
        The weight.
    axis : int
        The one along which numbers are grouped; it becomes two, of groups and of the numbers in each.
    bits : int
        4, whose most negative number stands for the largest of a group, or 8.

    Returns
    -------
    integers : ndarray of int8, shape (…, groups, size of a group, …)
        With zeros behind the n numbers, where no group of a fitting size divides them.
    scales : ndarray of float32, shape (…, groups, 1, …)
        What the integers of each group are multiplied with.
    """
    width = values.shape[axis]
    size = _size(width, GROUP[bits])
    values = np.pad(values, [(0, -width % size if place == axis else 0) for place in range(values.ndim)])
    grouped = values.reshape(*values.shape[:axis], -1, size, *values.shape[axis + 1 :])
    most = 1 << (bits - 1)
    furthest = np.abs(grouped).argmax(axis + 1, keepdims=True)
    largest = np.take_along_axis(grouped, furthest, axis + 1)
    scales = np.abs(largest) / (most - 1) if bits == 8 else -largest / most
    scales = np.where(scales == 0, 1, scales).astype(np.float32)
    return np.clip(np.rint(grouped / scales), -most, most - 1).astype(np.int8), scales


def _size(width: int, most: int) -> int:
    """Numbers of a group: a whole part of those along an axis where one is large enough, else filled up with zeros."""
    if width <= most:
        return width
    part = max(size for size in range(1, most + 1) if width % size == 0)
    return part if part >= most // 2 else most


def _packed(integers: Array, bits: int) -> bytes:
    """Bytes of integers; of four bits two in each, the first one low."""
    if bits == 8:
        return bytes(integers.tobytes())
    pairs = np.resize(integers.ravel().view(np.uint8), (integers.size + 1) // 2 * 2).reshape(-1, 2)
    return bytes((pairs[:, 0] & 15 | pairs[:, 1] << 4).tobytes())


def _kinds(name: str, taken: dict[str, set[tuple[str, int]]], after: dict[str, Any]) -> set[str]:
    """Operators that take a value as a weight, behind those that hand it on; of one that takes it otherwise, ``""``."""
    found = set()
    for kind, place in taken.get(name, ()):
        if kind in MOVERS:
            for handed in after.get(name, ()):
                found |= _kinds(handed, taken, after)
        else:
            found.add(kind if place in PLACES.get(kind, (1,)) else "")
    return found


def _in_place_of(name: str, values: Array, operator: str, bits: int) -> tuple[list[Any], list[Any]]:
    """Constants, and nodes that make a weight of them, for the operator that takes it."""
    from onnx import TensorProto, helper, numpy_helper

    shape = values.shape
    flat = values.reshape(shape[0], -1) if operator == "Conv" else values
    axis = 0 if operator == "Gather" and shape[-1] < NARROW else AXES[operator] % flat.ndim
    integers, scales = in_groups(flat, axis, bits)
    kind, length = getattr(TensorProto, f"INT{bits}"), flat.shape[axis]
    filled = math.prod(integers.shape[axis : axis + 2])
    made = [
        helper.make_tensor(f"{name}/int{bits}", kind, integers.shape, _packed(integers, bits), raw=True),
        numpy_helper.from_array(scales, f"{name}/scale"),
        numpy_helper.from_array(np.array(shape, np.int64), f"{name}/shape"),
    ]
    nodes: list[Any] = []

    def add(kind: str, *takes: str, last: bool = False, **said: Any) -> None:
        out = name if last else f"{name}/{kind}{len(nodes)}"
        before = [nodes[-1].output[0]] if nodes else []
        nodes.append(helper.make_node(kind, [*before, *(f"{name}/{part}" for part in takes)], [out], out, **said))

    add("Cast", f"int{bits}", to=TensorProto.FLOAT)
    add("Mul", "scale")
    if filled > length:
        wide = [filled if place == axis else width for place, width in enumerate(flat.shape)]
        cut = {"wide": wide, "start": [0], "end": [length], "axis": [axis]}
        made += [numpy_helper.from_array(np.array(value, np.int64), f"{name}/{part}") for part, value in cut.items()]
        add("Reshape", "wide")
        add("Slice", "start", "end", "axis")
    add("Reshape", "shape", last=True)
    return made, nodes
