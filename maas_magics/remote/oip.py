"""Any server of the Open Inference Protocol: tensors to it and back, in JSON or binary, and rows by its metadata."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from maas_magics.api.backend import Inferred
from maas_magics.api.errors import DataError, ServiceError
from maas_magics.api.signature import DATATYPES, NUMPY, TensorSpec
from maas_magics.remote.client import Client

BINARY = ("binary_tensor_data", "binary_data_extension", "binary")
"""Names that servers give the extension for binary tensors."""


class Metadata(msgspec.Struct, frozen=True):
    """What a server reports of a model."""

    name: str
    versions: tuple[str, ...] = ()
    platform: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


class _Output(msgspec.Struct, frozen=True):
    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class _Answer(msgspec.Struct, frozen=True):
    model_name: str
    outputs: tuple[_Output, ...]
    model_version: str | None = None
    parameters: dict[str, Any] | None = None


class _Server(msgspec.Struct, frozen=True):
    name: str = ""
    version: str = ""
    extensions: tuple[str, ...] = ()
    code: bool = False
    limits: dict[str, Any] = {}


def path_of(model: str) -> str:
    """Path of a model, ``NAME`` or ``NAME:3``."""
    name, colon, version = model.partition(":")
    return f"/v2/models/{quote(name, safe='@')}" + (f"/versions/{quote(version)}" if colon else "")


def server(client: Client) -> _Server:
    """Name, version and extensions of a server."""
    found: _Server = _read(client.request("GET", "/v2").content, _Server)
    return found


def metadata(client: Client, model: str) -> Metadata:
    """Inputs and outputs of a model."""
    found: Metadata = _read(client.request("GET", path_of(model)).content, Metadata)
    return found


def infer(client: Client, model: str, inputs: Mapping[str, np.ndarray[Any, Any]], binary: bool = True) -> Inferred:
    """Tensors in, tensors out.

    Parameters
    ----------
    client : Client
    model : str
        ``NAME`` or ``NAME:version``.
    inputs : dict of str to ndarray
    binary : bool
        Whether the server takes binary tensors.
    """
    described, blobs = [], []
    for name, values in inputs.items():
        datatype = "BYTES" if values.dtype.kind in "OUS" else DATATYPES.get(str(values.dtype))
        if datatype is None:
            raise DataError(f"The input {name!r} is {values.dtype}, which the protocol does not have.")
        entry: dict[str, Any] = {"name": name, "shape": list(values.shape), "datatype": datatype}
        if binary:
            blobs.append(_bytes(values))
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise DataError(
                    f"The input {name!r} holds missing or infinite values, and the server takes JSON only.",
                    "Fill them first.",
                )
            entry["data"] = values.ravel().tolist()
        described.append(entry)
    asked: dict[str, Any] = {"inputs": described}
    headers = {"content-type": "application/json"}
    if binary:
        asked["parameters"] = {"binary_data_output": True}
    head = msgspec.json.encode(asked)
    if binary:
        headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    answer = client.request("POST", path_of(model) + "/infer", content=b"".join([head, *blobs]), headers=headers)
    length = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    found = _read(answer.content[:length], _Answer)
    outputs, offset = {}, length
    for output in found.outputs:
        size = output.parameters.get("binary_data_size")
        blob = None if size is None else answer.content[offset : offset + size]
        outputs[output.name] = _tensor(output, blob)
        offset += size or 0
    version = f":{found.model_version}" if found.model_version else ""
    warnings = (found.parameters or {}).get("warnings")
    told = tuple(map(str, warnings)) if isinstance(warnings, list) else ()
    return Inferred(found.model_name + version, outputs, warnings=told)


def _bytes(values: np.ndarray[Any, Any]) -> bytes:
    if values.dtype.kind not in "OUS":
        return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    parts = []
    for value in values.ravel().tolist():
        data = value if isinstance(value, bytes) else str(value).encode()
        parts += [len(data).to_bytes(4, "little"), data]
    return b"".join(parts)


def _tensor(output: _Output, blob: bytes | None) -> np.ndarray[Any, Any]:
    dtype = np.dtype(NUMPY.get(output.datatype, "float32"))
    if blob is None:
        flat = _flat(output.data or [])
        values = np.array(flat, dtype=dtype)
    elif dtype.kind == "O":
        texts, at = [], 0
        while at < len(blob):
            size = int.from_bytes(blob[at : at + 4], "little")
            texts.append(blob[at + 4 : at + 4 + size].decode(errors="replace"))
            at += 4 + size
        values = np.array(texts, dtype=object)
    else:
        values = np.frombuffer(blob, dtype.newbyteorder("<")).astype(dtype)
    if values.size != math.prod(output.shape):
        raise ServiceError(f"The output {output.name!r} has {values.size} values for the shape {output.shape}.")
    return values.reshape(output.shape)


def _flat(data: Sequence[Any]) -> list[Any]:
    while data and isinstance(data[0], list):
        data = [item for part in data for item in part]
    return list(data)


def _read(data: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise ServiceError(f"The server's answer cannot be read: {error}") from None
