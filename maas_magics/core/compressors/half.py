"""Weights stored as halves, which a `Cast` in front of whatever takes them makes floats again.

Not a compressor itself: it registers nothing. What is computed stays in floats, for ONNX Runtime computes halves in
floats on a processor, or not at all; a `Cast` of a constant is done once, when the file is opened.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from maas_magics.api.errors import ExportError, require
from maas_magics.core.compressors.stayed import INTEGERS, WORTH, takers
from maas_magics.core.graphs.beside import loaded, save_beside
from maas_magics.core.seal.files import put


def write_as_halves(file: Path, smaller: Path, kind: str) -> str:
    """Write a file whose large float weights are stored in two bytes; a sentence about what stayed as it was.

    Parameters
    ----------
    file : Path
        The exported file.
    smaller : Path
        Where to write.
    kind : {"fp16", "bf16"}
        Five bits of exponent and ten of fraction, or eight and seven.

    Raises
    ------
    ExportError
        If there is nothing in the file that it makes smaller.
    """
    require("onnx", "onnx", "Compression")
    from onnx import TensorProto, helper, numpy_helper

    model = loaded(file)
    beside = (file.parent / f"{file.name}.data").is_file()
    known = {entry.name for entry in (*model.graph.input, *model.graph.output)}
    taken = takers(model.graph)
    to = TensorProto.FLOAT16 if kind == "fp16" else TensorProto.BFLOAT16
    casts, before, left = [], 0, dict[str, int]()
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < WORTH:
            continue
        kinds = {kind for kind, _ in taken.get(tensor.name, ())}
        if kinds and kinds <= INTEGERS:
            continue  # scales
        before += 4 * math.prod(tensor.dims)
        name = tensor.name
        values = numpy_helper.to_array(tensor)
        stored = None if name in known else _stored(values, kind)
        if stored is None:
            for operator in kinds:
                left[operator] = left.get(operator, 0) + values.nbytes
            continue
        tensor.CopyFrom(helper.make_tensor(f"{name}/{kind}", to, list(values.shape), stored, raw=True))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}/{kind}/cast", to=TensorProto.FLOAT))
    if not casts:
        raise ExportError(
            f"{kind} finds nothing to store in two bytes: no weight of {WORTH:,} numbers in floats is left.",
            f"Leave out {kind}." if _has_integers(model.graph) else "Export it without --compress.",
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    if beside:
        save_beside(model, smaller)
    else:
        put(smaller, model.SerializeToString())
    if not left:
        return ""
    return f"{kind}: {sum(left.values()) / before:.0%} of the weights stay in floats ({', '.join(sorted(left))})."


def _stored(values: Any, kind: str) -> bytes | None:
    """Bytes of halves, rounded to the nearest; None where a value is too large for them."""
    with np.errstate(over="ignore"):
        if kind == "fp16":
            halves = values.astype("<f2")
            return None if not np.isfinite(halves[np.isfinite(values)]).all() else halves.tobytes()
    import ml_dtypes

    rounded = values.astype(ml_dtypes.bfloat16)
    if not np.isfinite(rounded[np.isfinite(values)].astype(np.float32)).all():
        return None
    return bytes(rounded.tobytes())


def _has_integers(graph: Any) -> bool:
    """Whether weights of a graph became integers before."""
    from onnx import TensorProto

    kinds = {TensorProto.INT8, TensorProto.UINT8, getattr(TensorProto, "INT4", -1)}
    return any(tensor.data_type in kinds for tensor in graph.initializer)
