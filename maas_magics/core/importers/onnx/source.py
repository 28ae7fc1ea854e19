"""An ONNX file, opened and looked at: what it takes, and why it cannot be taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maas_magics.api.errors import ModelError
from maas_magics.api.signature import DATATYPES
from maas_magics.core.graphs.beside import loaded
from maas_magics.core.seal.files import is_sealed

LARGEST = 2**31 - 2**20
"""Bytes of a file of protobuf; larger weights lie beside it."""

OLDEST = 9
"""Version of ONNX's operators below which a graph is brought up to `BROUGHT`."""

BROUGHT = 17


@dataclass(frozen=True)
class GraphInput:
    """What a graph takes.

    Attributes
    ----------
    name : str
    dtype : str
        Name of numpy's type; ``object`` for texts.
    row : tuple of int
        Shape without the batch; −1 for any length.
    batch : int
        Rows that it takes at a time; 0 for any number.
    """

    name: str
    dtype: str
    row: tuple[int, ...]
    batch: int


def open_graph(file: Path) -> Any:
    """The model of a file, its weights included.

    Parameters
    ----------
    file : Path
        As a user named it.

    Raises
    ------
    ModelError
        If it cannot be read, or is not a graph.
    """
    import onnx

    if not file.is_file():
        raise ModelError(f"There is no file {file}.", "%maas import FILE.onnx --as NAME")
    if is_sealed(file):
        return brought_up(loaded(file), file)
    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:  # protobuf raises its own kinds
        raise ModelError(f"{file} is not an ONNX file: {_line(error)}", "Give a file as onnx.save writes it.") from None
    if not model.graph.output or not model.graph.input:
        raise ModelError(
            f"{file} is not an ONNX graph: it has no inputs or no outputs.", "Give a file as onnx.save writes it."
        )
    for name in beside(model):
        if not (file.parent / name).is_file():
            raise ModelError(
                f"{file} keeps weights in {name}, which is not beside it.", "Put both files into one folder."
            )
    try:
        onnx.load_external_data_for_model(model, str(file.parent))
    except Exception as error:  # a path that leaves the folder, a file that is too short
        raise ModelError(f"The weights of {file} cannot be read: {_line(error)}", "Save the model anew.") from None
    return brought_up(model, file)


def scales_by_batch(model: Any) -> bool:
    """Whether a graph makes integers of what it is given by the largest number of a batch: answers differ a little.

    Parameters
    ----------
    model : ModelProto
        Of any maker.
    """
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    return any(node.op_type.startswith("DynamicQuantize") for node in nodes)


def beside(model: Any) -> list[str]:
    """Names of the files that hold weights of a model.

    Parameters
    ----------
    model : ModelProto
        As it was loaded, without them.
    """
    found: dict[str, None] = {}

    def walk(graph: Any) -> None:
        tensors = [*graph.initializer]
        for node in graph.node:
            for attribute in node.attribute:
                tensors += [attribute.t, *attribute.tensors]
                for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    walk(inner)
        for tensor in tensors:
            found.update({entry.value: None for entry in tensor.external_data if entry.key == "location"})

    walk(model.graph)
    return list(found)


def brought_up(model: Any, file: Path) -> Any:
    """The model with operators of a version that today's nodes stand beside."""
    import onnx

    known = {entry.domain: entry.version for entry in model.opset_import}
    own = known.get("", known.get("ai.onnx", 0))
    if own >= OLDEST:
        return model
    if not own:
        model.opset_import.append(onnx.helper.make_opsetid("", BROUGHT))
        return model
    try:
        return onnx.version_converter.convert_version(model, BROUGHT)
    except Exception as error:  # the converter raises many unrelated kinds
        raise ModelError(
            f"{file} has operators of version {own}, which cannot be brought up to {BROUGHT}: {_line(error)}",
            f"Export it with an opset of {OLDEST} or more.",
        ) from None


def inputs_of(model: Any, file: Path) -> list[GraphInput]:
    """What a graph takes.

    Parameters
    ----------
    model : ModelProto
        The graph.
    file : Path
        What errors call it.

    Raises
    ------
    ModelError
        If it takes something that no column holds.
    """
    import onnx

    constant = {tensor.name for tensor in model.graph.initializer}
    found = []
    for value in model.graph.input:
        if value.name in constant:  # old files list their weights as inputs, too
            continue
        if not value.type.HasField("tensor_type"):
            raise ModelError(
                f"{file} takes {value.name!r} as a sequence or a map, which no column holds.",
                "Export it with tensors as inputs.",
            )
        kind = value.type.tensor_type
        if not kind.HasField("shape") or not kind.shape.dim:
            what = "no shape" if not kind.HasField("shape") else "one value for all rows"
            raise ModelError(
                f"The input {value.name!r} of {file} has {what}; a value for each row was expected.",
                "Export it with inputs of shape (batch, …); make a constant of what is the same for all rows.",
            )
        if kind.elem_type == onnx.TensorProto.STRING:
            dtype = "object"
        else:
            dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        if dtype not in DATATYPES:
            raise ModelError(
                f"The input {value.name!r} of {file} is {dtype}, which no column holds.",
                "Export it with float32, int64 or texts.",
            )
        sizes = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else -1 for dim in kind.shape.dim]
        found.append(GraphInput(value.name, dtype, tuple(sizes[1:]), max(0, sizes[0])))
    if not found:
        raise ModelError(f"{file} takes no inputs.", "Give a graph that answers rows.")
    return found


def unknown_operators(model: Any) -> list[str]:
    """Operators of a graph that are neither ONNX's nor a function of its own, as ``domain:Name``.

    Parameters
    ----------
    model : ModelProto
        The graph.
    """
    import onnx

    own = {(function.domain, function.name) for function in model.functions}
    found: dict[str, None] = {}

    def walk(graph: Any) -> None:
        for node in graph.node:
            domain = "" if node.domain == "ai.onnx" else node.domain
            if (domain, node.op_type) not in own and not onnx.defs.has(node.op_type, domain):
                found[f"{domain}:{node.op_type}" if domain else node.op_type] = None
            for attribute in node.attribute:
                for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    walk(inner)

    walk(model.graph)
    return [name for name in found if not name.startswith("com.microsoft")]


def parameters_of(model: Any) -> int:
    """Numbers in the weights of a graph, and in the tables of its trees.

    Parameters
    ----------
    model : ModelProto
        The graph.
    """
    total = sum(math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type != 8)
    return int(total) + sum(len(attribute.floats) for node in model.graph.node for attribute in node.attribute)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
