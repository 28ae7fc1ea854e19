"""Chunks as server-sent events."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from maas_magics.api.results import Prediction
from maas_magics.api.signature import DATATYPES
from maas_magics.api.stream import Chunk, RowsDelta, TensorDelta
from maas_magics.service.columns import answers_to_bytes


def encode_chunk(chunk: Chunk) -> bytes:
    """A chunk as an event whose id is its place in the stream.

    Raises
    ------
    TypeError
        If it holds something that JSON cannot express.
    """
    found = chunk.delta
    if isinstance(found, Prediction):
        delta = RowsDelta(found.model, answers_to_bytes(found.columns), found.blank, found.cautions)
        chunk = msgspec.structs.replace(chunk, delta=delta)
    return b"id: %d\nevent: Chunk\ndata: %s\n\n" % (chunk.index, msgspec.json.encode(chunk, enc_hook=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and str(value.dtype) in DATATYPES and value.dtype.kind != "O":
        little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        return TensorDelta(DATATYPES[str(value.dtype)], value.shape, little.tobytes())
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be sent")
