"""The Open Inference Protocol's bodies: an inference request in, an inference response out."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any

import msgspec
import numpy as np

from maas_magics.api.backend import Inferred
from maas_magics.api.errors import DataError
from maas_magics.api.signature import NUMPY, Signature
from maas_magics.service.tensors import (
    DATATYPES,
    LARGE,
    Array,
    check_finite,
    check_shape,
    dtype_of,
    list_of,
    of_bytes,
    of_json,
    to_bytes,
)

EXTENSIONS = ("binary_tensor_data", "model_repository", "model_configuration", "statistics")
"""Extensions of the protocol that are spoken, as a server's metadata lists them."""

MOST_TENSORS = 10_000


_Size = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Input(msgspec.Struct):
    name: str
    shape: tuple[_Size, ...]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Asked(msgspec.Struct, kw_only=True):
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


class _Body(_Asked, kw_only=True):
    inputs: list[_Input]


class _Told(msgspec.Struct, omit_defaults=True):
    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class _Answer(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[_Told]
    id: str = ""


class Call(msgspec.Struct):
    """A request for inference, read.

    Attributes
    ----------
    inputs : dict of str to ndarray
    id : str
        The client's own, given back.
    binary : bool
        Whether outputs go as bytes where nothing else is said of them.
    outputs : dict of str to bool
        Outputs that are wanted, and whether as bytes; all when empty.
    """

    inputs: dict[str, Array]
    id: str
    binary: bool
    outputs: dict[str, bool]


def _flat_input(datatype: str) -> Any:
    """An input whose values are a flat list of its datatype."""
    fields = [("name", str), ("shape", tuple[_Size, ...]), ("data", list_of(datatype))]
    more: Any = ("parameters", dict[str, Any], {})
    return msgspec.defstruct(f"_{datatype}", [*fields, more], tag_field="datatype", tag=datatype)


_FLAT = {_flat_input(datatype): np.dtype(name) for datatype, name in NUMPY.items()}
_flat: Any = reduce(or_, _FLAT)  # the datatype of an input says which it is
_FlatBody: Any = msgspec.defstruct("_FlatBody", [("inputs", list[_flat])], bases=(_Asked,), kw_only=True)
_flat_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_FlatBody)

_decoder = msgspec.json.Decoder(_Body)
_encoder = msgspec.json.Encoder()


def read_call(body: bytes, header: int | None) -> Call:
    """A request's body.

    Parameters
    ----------
    body : bytes
    header : int or None
        Bytes of JSON at its beginning, where tensors in binary follow; all is JSON when None.

    Raises
    ------
    DataError
        If it is no such request.
    """
    if header is None and len(body) < LARGE:
        try:
            asked = _flat_decoder.decode(body)
            if (flat := _flat_inputs(asked.inputs)) is not None:
                return _call(flat, asked)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # it is nested, or wrong, and the long way finds out
    if header is not None and header > len(body):
        raise DataError(f"The header counts {header:,} bytes of JSON; the body has {len(body):,}.")
    try:
        asked = _decoder.decode(body if header is None else memoryview(body)[:header])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"The body is no request for inference: {error}.") from None
    if not 0 < len(asked.inputs) <= MOST_TENSORS:
        raise DataError(
            "The request has no inputs.", 'Send "inputs": [{"name": …, "shape": …, "datatype": …, "data": …}].'
        )
    return _call(_inputs(asked.inputs, memoryview(body)[header if header is not None else len(body) :]), asked)


def _flat_inputs(asked: list[Any]) -> dict[str, Array] | None:
    """Arrays of inputs that were decoded at once; None where anything is out of the ordinary."""
    inputs: dict[str, Array] = {}
    for one in asked:
        size = check_shape(one.name, one.shape)
        if size != len(one.data) or "binary_data_size" in one.parameters or one.name in inputs:
            return None
        try:
            inputs[one.name] = np.array(one.data, _FLAT[type(one)]).reshape(one.shape)
        except OverflowError:
            return None
    return inputs or None


def _inputs(asked: list[_Input], blobs: memoryview) -> dict[str, Array]:
    """Arrays of inputs, from JSON or from the bytes that follow it."""
    at = 0
    inputs: dict[str, Array] = {}
    for one in asked:
        if one.name in inputs:
            raise DataError(f"The input {one.name[:80]!r} is there twice.")
        size = one.parameters.get("binary_data_size")
        if size is None:
            if not len(one.data):
                raise DataError(f"The input {one.name[:80]!r} has no data.")
            inputs[one.name] = of_json(one.name, one.datatype, one.shape, one.data)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(blobs) - at:
            raise DataError(f"The input {one.name[:80]!r} counts {str(size)[:20]} bytes; {len(blobs) - at:,} are left.")
        inputs[one.name] = of_bytes(one.name, one.datatype, one.shape, blobs[at : at + size])
        at += size
    if at != len(blobs):
        raise DataError(f"{len(blobs) - at:,} bytes follow the last input.")
    return inputs


def _call(inputs: dict[str, Array], asked: _Asked) -> Call:
    binary = asked.parameters.get("binary_data_output") is True
    outputs: dict[str, bool] = {}
    for output in asked.outputs:
        if output.parameters.get("classification"):
            raise Unsupported("Classification is not offered.", "The outputs hold labels and probabilities.")
        outputs[output.name] = bool(output.parameters.get("binary_data", binary))
    return Call(inputs, asked.id, binary, outputs)


class Unsupported(DataError):
    """A part of the protocol that is not offered."""


def read_raw(body: bytes, signature: Signature) -> Call:
    """A body that is nothing but the bytes of a model's only input.

    Raises
    ------
    DataError
        If the model has several, or the bytes are no rows of it.
    """
    if len(signature.inputs) != 1:
        raise DataError("A body of bytes alone is for a model of one input.", "Send JSON, or JSON and bytes.")
    spec = signature.inputs[0]
    if spec.datatype == "BYTES":
        shape: tuple[int, ...] = (1, *map(abs, spec.shape[1:]))
        text = body if len(body) >= 4 and int.from_bytes(body[:4], "little") == len(body) - 4 else None
        data = text if text is not None else len(body).to_bytes(4, "little") + body
        return Call({spec.name: of_bytes(spec.name, "BYTES", shape, memoryview(data))}, "", True, {})
    row = check_shape(spec.name, (1, *map(abs, spec.shape[1:]))) * dtype_of(spec.name, spec.datatype).itemsize
    if not body or len(body) % row:
        raise DataError(f"{len(body):,} bytes are no rows of {row:,} bytes each.", f"The model takes {spec}.")
    shape = (len(body) // row, *map(abs, spec.shape[1:]))
    return Call({spec.name: of_bytes(spec.name, spec.datatype, shape, memoryview(body))}, "", True, {})


def write_answer(call: Call, found: Inferred) -> tuple[bytes, int | None]:
    """A response's body, and how many bytes of it are JSON where bytes of tensors follow.

    Raises
    ------
    DataError
        If an output is asked for that is not there, or cannot be told in JSON.
    """
    wanted = call.outputs or dict.fromkeys(found.outputs, call.binary)
    told: list[_Told] = []
    blobs: list[bytes] = []
    for name, binary in wanted.items():
        values = found.outputs.get(name)
        if values is None:
            raise DataError(f"The model has no output {name[:80]!r}.", f"There is: {', '.join(found.outputs)}.")
        output = _Told(name, values.shape, DATATYPES[values.dtype])
        if binary:
            blobs.append(to_bytes(values))
            output.parameters = {"binary_data_size": len(blobs[-1])}
        else:
            output.data = values.ravel().tolist()
        told.append(output)
    model, _, version = found.model.partition(":")
    head = _encoder.encode(_Answer(model, version, told, call.id))
    if b"null" in head:  # what the encoder makes of a float that is no number, unless it stands in a text
        for name, binary in wanted.items():
            if not binary:
                check_finite(name, found.outputs[name])
    return (b"".join((head, *blobs)), len(head)) if blobs else (head, None)
