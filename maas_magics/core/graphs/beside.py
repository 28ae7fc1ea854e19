"""An ONNX file whose weights stand in another file beside it, each of them once: it may have more than 2 GB."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

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
    from onnx.external_data_helper import set_external_data

    beside = file.with_name(f"{file.name}.data")
    places: dict[bytes, int] = {}
    with beside.open("wb") as stream:
        for tensor in model.graph.initializer:
            data = tensor.raw_data
            if len(data) < LARGE:
                continue
            key = hashlib.sha256(data).digest()
            if key not in places:
                stream.write(bytes(-stream.tell() % PAGE))
                places[key] = stream.tell()
                stream.write(data)
            set_external_data(tensor, beside.name, places[key], len(data))
            tensor.ClearField("raw_data")
    file.write_bytes(model.SerializeToString())
