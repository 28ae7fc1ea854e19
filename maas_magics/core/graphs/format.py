"""How the graphs of a module lie in bytes: stored zip files, and the parts of torch's schema that a graph needs.

Every structure and field is named as in ``torch/_export/serde/schema.py``, major version 8; a union holds exactly one
of its fields. What is left out cannot be expressed: graphs inside graphs, objects, any device but the CPU.
"""

# ruff: noqa: D101

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

MODEL = "archive/models/model.json"
WEIGHTS = "archive/data/weights/model_weights_config.json"
CONSTANTS = "archive/data/constants/model_constants_config.json"
MARKS = {"archive/archive_format": b"pt2", "archive/archive_version": b"0", "archive/.data/version": b"6\n"}
"""Records of a ``.pt2`` archive: the graph, which tensor is which, and what says that it is one."""

KEYS = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
"""Field of an input's role that holds its name."""

MAX_DIRECTORY = 2**12
"""Most bytes of the directory of a zip file, which is read before its entries."""

Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Float = float | Literal["Infinity", "-Infinity", "NaN"]


class TensorArgument(Struct):
    name: str


class SymArgument(Struct, omit_defaults=True):
    as_name: str | UnsetType = UNSET
    as_int: Int | UnsetType = UNSET
    as_float: Float | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET


class OptionalTensorArgument(Struct, omit_defaults=True):
    as_tensor: TensorArgument | UnsetType = UNSET
    as_none: bool | UnsetType = UNSET


class Device(Struct):
    type: Literal["cpu"]


class Argument(Struct, omit_defaults=True):
    as_none: bool | UnsetType = UNSET
    as_tensor: TensorArgument | UnsetType = UNSET
    as_tensors: list[TensorArgument] | UnsetType = UNSET
    as_optional_tensor: OptionalTensorArgument | UnsetType = UNSET
    as_optional_tensors: list[OptionalTensorArgument] | UnsetType = UNSET
    as_int: Int | UnsetType = UNSET
    as_ints: list[Int] | UnsetType = UNSET
    as_float: Float | UnsetType = UNSET
    as_floats: list[Float] | UnsetType = UNSET
    as_bool: bool | UnsetType = UNSET
    as_bools: list[bool] | UnsetType = UNSET
    as_string: str | UnsetType = UNSET
    as_sym_int: SymArgument | UnsetType = UNSET
    as_sym_ints: list[SymArgument] | UnsetType = UNSET
    as_sym_float: SymArgument | UnsetType = UNSET
    as_sym_floats: list[SymArgument] | UnsetType = UNSET
    as_sym_bool: SymArgument | UnsetType = UNSET
    as_scalar_type: int | UnsetType = UNSET
    as_memory_format: int | UnsetType = UNSET
    as_layout: int | UnsetType = UNSET
    as_device: Device | UnsetType = UNSET


class NamedArgument(Struct):
    name: str
    arg: Argument
    kind: Literal[1, 2]


class Node(Struct):
    target: str
    inputs: list[NamedArgument]
    outputs: list[Argument]


class SymExpr(Struct):
    expr_str: str


class SymInt(Struct, omit_defaults=True):
    as_int: Annotated[int, Meta(ge=0, lt=2**40)] | UnsetType = UNSET
    as_expr: SymExpr | UnsetType = UNSET


class TensorMeta(Struct):
    dtype: int
    sizes: list[SymInt]
    requires_grad: bool


class Graph(Struct):
    inputs: list[Argument]
    outputs: list[Argument]
    nodes: list[Node]
    tensor_values: dict[str, TensorMeta]


class InputToParameterSpec(Struct):
    arg: TensorArgument
    parameter_name: str


class InputToBufferSpec(Struct):
    arg: TensorArgument
    buffer_name: str
    persistent: bool


class InputToTensorConstantSpec(Struct):
    arg: TensorArgument
    tensor_constant_name: str


class UserSpec(Struct):
    arg: Argument


class InputSpec(Struct, omit_defaults=True):
    parameter: InputToParameterSpec | UnsetType = UNSET
    buffer: InputToBufferSpec | UnsetType = UNSET
    tensor_constant: InputToTensorConstantSpec | UnsetType = UNSET
    user_input: UserSpec | UnsetType = UNSET


class OutputSpec(Struct):
    user_output: UserSpec


class GraphSignature(Struct):
    input_specs: list[InputSpec]
    output_specs: list[OutputSpec]


class GraphModule(Struct):
    graph: Graph
    signature: GraphSignature


class SchemaVersion(Struct):
    major: Literal[8]
    minor: int


class ExportedProgram(Struct):
    graph_module: GraphModule
    schema_version: SchemaVersion


class PayloadMeta(Struct):
    path_name: str
    is_param: bool
    use_pickle: bool


class PayloadConfig(Struct):
    config: dict[str, PayloadMeta]


T = TypeVar("T")


class Refusal(ValueError):
    """An archive that is not accepted, and why."""


def refuse(why: str) -> NoReturn:
    """Raise `Refusal`."""
    raise Refusal(why)


def only(union: Struct) -> tuple[str, Any]:
    """Name and value of the one field that a union has."""
    found = [(name, value) for name, value in msgspec.structs.asdict(union).items() if value is not UNSET]
    if len(found) != 1:
        refuse(f"a {type(union).__name__} has {len(found)} values")
    return found[0]


def write(value: Struct) -> bytes:
    """JSON in the one form that `read` takes."""
    return msgspec.json.encode(value)


def read(data: bytes, kind: type[T]) -> T:
    """Structure of JSON that says nothing but what the structure holds, as `write` spells it.

    Raises
    ------
    Refusal, msgspec.DecodeError
        For an unknown field among others.
    """
    value = msgspec.json.decode(data, type=kind)
    known = msgspec.json.encode(value)
    if known != data:
        at = next((i for i, (a, b) in enumerate(zip(data, known, strict=False)) if a != b), len(known))
        refuse(f"there is something unknown in its JSON: {data[max(0, at - 1) : at + 40].decode(errors='replace')!r}")
    return value


def archive(contents: Mapping[str, bytes]) -> bytes:
    """A zip file of stored entries, the same bytes each time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            file.writestr(entry, data)
    return out.getvalue()


def entries(data: bytes, limits: Mapping[str, int]) -> dict[str, bytes]:
    """Contents of a zip file that holds exactly the named entries, each stored as it is and within its limit."""
    directory = int.from_bytes(data[-10:-6], "little")
    if data[-22:-18] != b"PK\5\6" or data[-2:] != b"\0\0" or data[-42:-38] == b"PK\6\7" or directory > MAX_DIRECTORY:
        refuse("it is not a zip file, or has too many entries")
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        found = file.infolist()
        for entry in found:
            if entry.filename not in limits:
                refuse(f"there is an unknown entry {entry.filename[:80]!r}")
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                refuse(f"the entry {entry.filename!r} is compressed")
            if entry.file_size > limits[entry.filename]:
                refuse(f"the entry {entry.filename!r} is larger than {limits[entry.filename]:,} bytes")
        if sorted(entry.filename for entry in found) != sorted(limits):
            refuse(f"of the entries {', '.join(limits)} each should be there once")
        return {entry.filename: file.read(entry) for entry in found}
