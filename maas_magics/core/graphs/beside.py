"""An ONNX file whose weights stand in another file beside it, each of them once: it may have more than 2 GB."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maas_magics.core.seal.files import contents, is_sealed, put

LARGE = 1_024
"""Bytes from which a weight stands beside the graph."""

PAGE = 4_096
"""Bytes that a large weight begins at a multiple of, so that it can be mapped into memory as it is."""


def save_beside(model: Any, file: Path) -> None:
    """Write ``file``, and its weights as ``file.data``; those that are equal share their place.

    Parameters
    ----------
    model : onnx.ModelProto
        Whose weights are taken out of it.
    file : Path
        Where to write.
    """
    beside = file.with_name(f"{file.name}.data")
    put(beside, _taken_out(model, beside.name))
    put(file, model.SerializeToString())


def loaded(file: Path) -> Any:
    """A model as ``onnx.load`` gives it, with the weights that stand beside it; decrypted in memory.

    Parameters
    ----------
    file : Path
        Encrypted or not.
    """
    import onnx
    from onnx.external_data_helper import uses_external_data

    if not is_sealed(file):
        return onnx.load(file)
    model = onnx.load_from_string(contents(file))
    outside = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    weights = memoryview(contents(file.with_name(f"{file.name}.data")) if outside else b"")
    for tensor in outside:
        told = {entry.key: entry.value for entry in tensor.external_data}
        begin = int(told.get("offset", 0))
        tensor.raw_data = bytes(weights[begin : begin + int(told["length"])])
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.ClearField("external_data")
    return model


def _taken_out(model: Any, beside: str) -> Iterator[bytes]:
    """Bytes of the weights, in the order of their file, each taken out of the model as it goes."""
    from onnx.external_data_helper import set_external_data

    places: dict[bytes, int] = {}
    end = 0
    for tensor in model.graph.initializer:
        data = tensor.raw_data
        if len(data) < LARGE:
            continue
        key = hashlib.sha256(data).digest()
        if key not in places:
            yield (padding := bytes(-end % PAGE))
            places[key] = end + len(padding)
            end = places[key] + len(data)
            yield data
        set_external_data(tensor, beside, places[key], len(data))
        tensor.ClearField("raw_data")
