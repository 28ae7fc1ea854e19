"""The Open Inference Protocol's bodies: an inference request in, an inference response out."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from maas_magics.api.errors import DataError
from maas_magics.api.signature import NUMPY, Signature
from maas_magics.service.budget import Hold
from maas_magics.service.kinds import DTYPES, list_of
from maas_magics.service.tensors import (
    LARGE,
    Array,
    Bytes,
    check_shape,
    dtype_of,
    of_bytes,
    of_json,
    packer,
)

Parameters = dict[str, Any] | None

EXTENSIONS = ("binary_tensor_data", "classification", "model_repository", "model_configuration", "statistics")
"""Extensions of the protocol that are spoken, as a server's metadata lists them."""

MOST_TENSORS = 10_000


_Size = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Input(msgspec.Struct):
    name: str
    shape: tuple[_Size, ...]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: Parameters = None


class _Floats(msgspec.Struct):
    """An input as it comes most often."""

    name: str
    shape: tuple[_Size, ...]
    datatype: Literal["FP32", "FP64"]
    data: list[float]
    parameters: Parameters = None


class _Output(msgspec.Struct):
    name: str
    parameters: Parameters = None


class _Asked(msgspec.Struct, kw_only=True):
    id: str | None = None
    parameters: Parameters = None
    outputs: list[_Output] | None = None


class _FloatsBody(_Asked, kw_only=True):
    inputs: list[_Floats]


class _Body(_Asked, kw_only=True):
    inputs: list[_Input]


class Wanted(msgspec.Struct, frozen=True):
    """How an output is written.

    Attributes
    ----------
    binary : bool
        Whether as bytes.
    most : int
        How many of its largest values, with their places; 0 for all of it as it is.
    """

    binary: bool = False
    most: int = 0


class Call(msgspec.Struct):
    """A request for inference, read.

    Attributes
    ----------
    inputs : dict of str to ndarray
    id : str
        The client's own, given back.
    binary : bool
        Whether outputs go as bytes by default.
    outputs : dict of str to Wanted
        Outputs that are wanted, and how; all when empty.
    """

    inputs: dict[str, Array]
    id: str = ""
    binary: bool = False
    outputs: dict[str, Wanted] = {}

    @property
    def ranks(self) -> bool:
        """Whether the largest values of an output are requested."""
        return any(wanted.most for wanted in self.outputs.values())


def _flat_input(datatype: str) -> Any:
    """An input whose values are a flat list of its datatype."""
    fields = [("name", str), ("shape", tuple[_Size, ...]), ("data", list_of(datatype))]
    more: Any = ("parameters", Parameters, None)
    return msgspec.defstruct(f"_{datatype}", [*fields, more], tag_field="datatype", tag=datatype)


_FLAT = {_flat_input(datatype): DTYPES[datatype] for datatype in NUMPY}
_flat: Any = reduce(or_, _FLAT)  # the datatype of an input says which it is
_FlatBody: Any = msgspec.defstruct("_FlatBody", [("inputs", list[_flat])], bases=(_Asked,), kw_only=True)
_flat_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_FlatBody)

_floats_decoder = msgspec.json.Decoder(_FloatsBody)
_decoder = msgspec.json.Decoder(_Body)
_encoder = msgspec.json.Encoder()


def read_call(body: Bytes, header: int | None, hold: Hold | None = None) -> Call:
    """A request's body.

    Parameters
    ----------
    body : bytes
    header : int or None
        Bytes of JSON at its beginning, where tensors in binary follow; all is JSON when None.
    hold : callable, optional
        Takes memory for what is made of a large body.

    Raises
    ------
    DataError
        If it is not such a request.
    """
    if header is None and len(body) < LARGE:
        for decoder in (_floats_decoder, _flat_decoder) if b'"FP32"' in body else (_flat_decoder,):
            try:
                asked = decoder.decode(body)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue  # it is of several kinds, or nested, or wrong, and the long way finds out
            if (flat := _flat_inputs(asked.inputs)) is not None:
                return _call(flat, asked)
    if header is not None and header > len(body):
        raise DataError(f"The header counts {header:,} bytes of JSON; the body has {len(body):,}.")
    try:
        asked = _decoder.decode(body if header is None else memoryview(body)[:header])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        first = bytes(memoryview(body)[:LARGE])
        hint = "A missing number is null." if isinstance(error, msgspec.DecodeError) and b"NaN" in first else ""
        if header is None and first.lstrip()[:1] not in (b"{", b"["):
            hint = "A body is JSON; a file alone goes with its type: -H 'Content-Type: image/png' or audio/wav."
        raise DataError(f"The body is not a request for inference: {error}.", hint) from None
    if not 0 < len(asked.inputs) <= MOST_TENSORS:
        raise DataError(
            "The request has no inputs.", 'Send "inputs": [{"name": …, "shape": …, "datatype": …, "data": …}].'
        )
    blobs = memoryview(body)[header if header is not None else len(body) :]
    return _call(_inputs(asked.inputs, blobs, hold), asked)


def _flat_inputs(asked: list[Any]) -> dict[str, Array] | None:
    """Arrays of inputs that were decoded at once; None where anything is out of the ordinary."""
    inputs: dict[str, Array] = {}
    for one in asked:
        name, shape, data = one.name, one.shape, one.data
        size = check_shape(name, shape)
        if size != len(data) or name in inputs or (one.parameters and "binary_data_size" in one.parameters):
            return None
        try:
            if type(one) is _Floats:
                pack = packer(one.datatype, size)
                assert pack is not None
                inputs[name] = np.frombuffer(pack.pack(*data), DTYPES[one.datatype]).reshape(shape)
            else:
                inputs[name] = np.array(data, _FLAT[type(one)]).reshape(shape)
        except OverflowError:
            return None
    return inputs or None


def _inputs(asked: list[_Input], blobs: memoryview, hold: Hold | None) -> dict[str, Array]:
    """Arrays of inputs, from JSON or from the bytes that follow it."""
    at = 0
    inputs: dict[str, Array] = {}
    for one in asked:
        if one.name in inputs:
            raise DataError(f"The input {one.name[:80]!r} is there twice.")
        size = one.parameters.get("binary_data_size") if one.parameters else None
        if size is None:
            if not len(one.data):
                raise DataError(f"The input {one.name[:80]!r} has no data.")
            inputs[one.name] = of_json(one.name, one.datatype, one.shape, one.data)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(blobs) - at:
            raise DataError(f"The input {one.name[:80]!r} counts {str(size)[:20]} bytes; {len(blobs) - at:,} are left.")
        inputs[one.name] = of_bytes(one.name, one.datatype, one.shape, blobs[at : at + size], hold)
        at += size
    if at != len(blobs):
        raise DataError(f"{len(blobs) - at:,} bytes follow the last input.")
    return inputs


def _call(inputs: dict[str, Array], asked: _Asked) -> Call:
    if not (asked.parameters or asked.outputs):
        return Call(inputs, asked.id or "")
    binary = (asked.parameters or {}).get("binary_data_output") is True
    outputs: dict[str, Wanted] = {}
    for output in asked.outputs or ():
        told = output.parameters or {}
        most = told.get("classification") or 0
        if type(most) is not int or most < 0:
            raise DataError("classification is a number of labels.", '"parameters": {"classification": 3}')
        outputs[output.name] = Wanted(bool(told.get("binary_data", binary)), most)
    return Call(inputs, asked.id or "", binary, outputs)


class Unsupported(DataError):
    """A part of the protocol that is not offered."""


def read_raw(body: Bytes, signature: Signature, *, binary: bool = True) -> Call:
    """A body that is nothing but the bytes of a model's only input; ``binary`` says whether so is its answer.

    Raises
    ------
    DataError
        If the model has several, or the bytes are not rows of it.
    """
    if len(signature.inputs) != 1:
        raise DataError("A body of bytes alone is for a model of one input.", "Send JSON, or JSON and bytes.")
    spec = signature.inputs[0]
    if spec.datatype == "BYTES":
        shape: tuple[int, ...] = (1, *map(abs, spec.shape[1:]))
        text = body if len(body) >= 4 and int.from_bytes(body[:4], "little") == len(body) - 4 else None
        data = text if text is not None else len(body).to_bytes(4, "little") + bytes(body)
        return Call({spec.name: of_bytes(spec.name, "BYTES", shape, memoryview(data))}, binary=binary)
    row = check_shape(spec.name, (1, *map(abs, spec.shape[1:]))) * dtype_of(spec.name, spec.datatype).itemsize
    if not body or len(body) % row:
        raise DataError(f"{len(body):,} bytes are not rows of {row:,} bytes each.", f"The model takes {spec}.")
    shape = (len(body) // row, *map(abs, spec.shape[1:]))
    return Call({spec.name: of_bytes(spec.name, spec.datatype, shape, memoryview(body))}, binary=binary)
