"""What may be in an uploaded graph: an allow-list, and a graph built anew from what is on it.

``torch.export.load`` unpickles sample inputs and weights, and evaluates expressions and guards. It is never called:
the JSON of a ``.pt2`` archive is read into structures that hold plain data (see `graph_format`), and each node of it
becomes a call of a listed operator. No text of the archive becomes a name in generated code.
"""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import fx, nn

from maas_magics.core.compat.operators import operator_of
from maas_magics.core.graphs import format as pt2
from maas_magics.core.graphs.format import only, refuse
from maas_magics.core.graphs.operators import find_operator

MAX_BYTES = 2**31 - 1
"""Most bytes of an archive. Its entries are stored, so together they are no larger than it is."""

MAX_GRAPH_BYTES = 2**23
MAX_NODES = 20_000
MAX_TENSORS = 10_000

NAME = re.compile(r"[\w-]{1,100}(\.[\w-]{1,100}){0,50}")
"""A key of the state. Torch writes these into code when a graph is exported again, so there are no quotes."""

TEXT = re.compile(r"[A-Za-z0-9_,.> -]{0,200}")
"""A string that an operator takes: the equation of ``einsum``, a mode of padding."""

SYMBOL = re.compile(r"Symbol\('s[0-9]{1,10}'(, (positive|nonnegative|integer)=True){0,3}\)")
"""The one expression there is: a symbol for the number of rows, or for a length that is free."""

MAX_PRODUCTS = 16
"""Products of products; numbers without end would take memory without end."""

T = TypeVar("T")

FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}

DTYPES = {
    **{1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 12: torch.bool},
    **{6: torch.float16, 7: torch.float32, 8: torch.float64, 13: torch.bfloat16},
}
MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
LAYOUTS = {7: torch.strided}

SCALARS = {"as_int", "as_float", "as_bool", "as_sym_int", "as_sym_float", "as_sym_bool"}
RETURNS = {
    "TensorType": "as_tensor",
    "ListType": "as_tensors",
    "IntType": "as_sym_int",
    "FloatType": "as_sym_float",
    "BoolType": "as_sym_bool",
}


@dataclass(frozen=True)
class Kind:
    """Of a tensor; the shape of an input leaves the rows out."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    requires_grad: bool


@dataclass(frozen=True)
class GraphState:
    """A tensor that a graph takes before its inputs.

    Attributes
    ----------
    name : str
        Key in the state; empty for a constant of the graph.
    path : str
        Key in the file of weights; tied tensors have the same.
    parameter, persistent : bool
    kind : Kind
    """

    name: str
    path: str
    parameter: bool
    persistent: bool
    kind: Kind


@dataclass(frozen=True)
class Checked:
    """A graph that takes the parts of its state and then its inputs, and answers one tensor."""

    graph: fx.GraphModule
    parts: tuple[GraphState, ...]
    inputs: tuple[Kind, ...]


def check(payload: bytes) -> Checked:
    """Graph of a ``.pt2`` archive, built from nothing but what is on the lists.

    Raises
    ------
    Exception
        For everything else, most often `Refusal`, ``zipfile.BadZipFile`` and ``msgspec.DecodeError``.
    """
    jsons = (pt2.MODEL, pt2.WEIGHTS, pt2.CONSTANTS)
    records = pt2.entries(payload, dict.fromkeys((*pt2.MARKS, *jsons), MAX_GRAPH_BYTES))
    if any(records[name] != mark for name, mark in pt2.MARKS.items()):
        refuse("it is not a .pt2 archive of version 0")
    module = pt2.read(records[pt2.MODEL], pt2.ExportedProgram).graph_module
    weights, constants = (pt2.read(records[name], pt2.PayloadConfig).config for name in jsons[1:])
    graph, signature = module.graph, module.signature
    if len(graph.nodes) > MAX_NODES or len(graph.inputs) > MAX_TENSORS:
        refuse(f"it has more than {MAX_NODES:,} nodes or {MAX_TENSORS:,} tensors")
    if any(payload.use_pickle for payload in (*weights.values(), *constants.values())):
        refuse("it has pickled tensors")
    if len(signature.input_specs) != len(graph.inputs):
        refuse("its signature does not fit its graph")
    builder, parts, inputs, rows = _Builder(), [], [], set()
    for given, spec in zip(graph.inputs, signature.input_specs, strict=True):
        role, told = only(spec)
        if given != (told.arg if role == "user_input" else pt2.Argument(as_tensor=told.arg)):
            refuse("its signature does not fit its graph")
        name = _tensor_name(given)
        builder.placeholder(name)
        kind, symbol = _kind(name, graph.tensor_values.pop(name))
        if role == "user_input":
            inputs.append(kind)
            rows.add(symbol)
        elif symbol or inputs:
            refuse(f"{name[:80]!r} has no fixed shape, or comes after an input")
        else:
            parts.append(_part(role, told, kind, weights, constants))
    if len(rows) != 1 or "" in rows:
        refuse("the first axis of each input should be the number of rows")
    if graph.tensor_values or weights or constants:
        refuse("there are tensors that the graph does not take")
    for node in graph.nodes:
        builder.call(node)
    if [output.user_output.arg for output in signature.output_specs] != graph.outputs or len(graph.outputs) != 1:
        refuse("its output is not one tensor")
    return Checked(builder.finish(_tensor_name(graph.outputs[0])), tuple(parts), tuple(inputs))


def _tensor_name(argument: pt2.Argument) -> str:
    if not isinstance(argument.as_tensor, pt2.TensorArgument) or only(argument)[0] != "as_tensor":
        refuse("an input or an output is not a tensor")
    return argument.as_tensor.name


def _kind(name: str, values: pt2.TensorMeta) -> tuple[Kind, str]:
    """Kind of a placeholder, and the symbol of its first axis if that is the number of rows."""
    sizes = [only(size) for size in values.sizes]
    for kind, size in sizes:
        if kind == "as_expr" and not SYMBOL.fullmatch(size.expr_str):
            refuse(f"the expression {size.expr_str[:80]!r} is more than a symbol")
        if kind not in ("as_expr", "as_int"):
            refuse(f"{name[:80]!r} has an axis that is neither a number nor free")
    symbol = sizes.pop(0)[1].expr_str if sizes and sizes[0][0] == "as_expr" else ""
    if not symbol and any(kind == "as_expr" for kind, _ in sizes):
        refuse(f"the first axis of {name[:80]!r} is not free, and another is")
    shape = tuple(size if kind == "as_int" else -1 for kind, size in sizes)
    return Kind(_listed(DTYPES, values.dtype), shape, values.requires_grad), symbol


def _part(
    role: str, told: Any, kind: Kind, weights: dict[str, pt2.PayloadMeta], constants: dict[str, pt2.PayloadMeta]
) -> GraphState:
    """A part of the state; what the tables hold of it is taken out of them."""
    key = getattr(told, pt2.KEYS[role])
    if role != "tensor_constant" and not NAME.fullmatch(key):
        refuse(f"{key[:80]!r} cannot be a key of a state")
    persistent = role == "parameter" or (role == "buffer" and told.persistent)
    found = (weights if persistent else constants).pop(key)
    if found.is_param != (role == "parameter"):
        refuse(f"{key[:80]!r} is a parameter in one place only")
    return GraphState("" if role == "tensor_constant" else key, found.path_name, found.is_param, persistent, kind)


def _listed(table: dict[Any, T], value: Any) -> T:
    if value not in table:
        refuse(f"{value!r} is not among {', '.join(map(str, table))}")
    return table[value]


class _Builder:
    """Builds a graph node by node; a value is defined once, and before it is used."""

    def __init__(self) -> None:
        self._graph = fx.Graph()
        self._tensors: dict[str, fx.Node | tuple[fx.Node, int]] = {}
        self._numbers: dict[str, tuple[fx.Node, int]] = {}

    def placeholder(self, name: str) -> None:
        self._define(name, self._graph.placeholder(f"x{len(self._tensors)}"))

    def finish(self, name: str) -> fx.GraphModule:
        self._graph.output(self._tensor(name))
        return fx.GraphModule(nn.Module(), self._graph)

    def call(self, node: pt2.Node) -> None:
        """Add a node, with arguments and answers as its operator has them."""
        function = find_operator(node.target)
        outputs = [only(output) for output in node.outputs]
        products = 0
        known = operator_of(function)
        if known is not None:
            names = known.arguments
            returns = [RETURNS.get(kind, "") for kind in known.returns]
        else:
            if any(only(x.arg)[0] not in SCALARS for x in node.inputs):
                refuse(f"{node.target} takes numbers only")
            products = self._products(node)
            names = [x.name for x in node.inputs]
            returns = [kind for kind, _ in outputs if kind.startswith("as_sym_") and kind in SCALARS][:1]
        if [kind for kind, _ in outputs] != returns:
            refuse(f"{node.target} does not answer that")
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for x in node.inputs:
            left = names[len(args) :]
            if x.kind == 1 and left[:1] == [x.name] and not kwargs:
                args.append(self._value(x.arg))
            elif x.kind == 2 and x.name in left and x.name not in kwargs:
                kwargs[x.name] = self._value(x.arg) if x.name != "pin_memory" else False  # another machine's matter
            else:
                refuse(f"{node.target} has no argument {x.name[:80]!r} there")
        made = self._graph.call_function(function, tuple(args), kwargs)
        for index, (kind, told) in enumerate(outputs):
            if kind == "as_tensor":
                self._define(told.name, made if len(outputs) == 1 else (made, index))
            elif kind == "as_tensors":
                for place, tensor in enumerate(told):
                    self._define(tensor.name, (made, place))
            else:
                self._define(told.as_name, made, products)

    def _define(self, name: Any, value: fx.Node | tuple[fx.Node, int], products: int | None = None) -> None:
        if not isinstance(name, str) or name in self._tensors or name in self._numbers:
            refuse(f"{str(name)[:80]!r} is defined twice, or is not a name")
        if products is None:
            self._tensors[name] = value
        elif isinstance(value, fx.Node):
            self._numbers[name] = (value, products)

    def _products(self, node: pt2.Node) -> int:
        """How many products lie in the number that a node makes, one in another."""
        taken = [only(x.arg)[1] for x in node.inputs]
        names = [str(x.as_name) for x in taken if isinstance(x, pt2.SymArgument)]
        products = max((self._numbers[name][1] for name in names if name in self._numbers), default=0)
        products += node.target.endswith("mul")
        if products > MAX_PRODUCTS:
            refuse("its numbers grow without end")
        return products

    def _tensor(self, name: str) -> fx.Node:
        found = self._tensors.get(name) or refuse(f"the tensor {name[:80]!r} is not defined")
        if isinstance(found, tuple):
            found = self._tensors[name] = self._graph.call_function(operator.getitem, found)
        return found

    def _number(self, number: pt2.SymArgument) -> Any:
        kind, value = only(number)
        if kind != "as_name":
            return FLOATS.get(value, value)
        return (self._numbers.get(value) or refuse(f"the number {value[:80]!r} is not defined"))[0]

    def _optional(self, tensor: pt2.OptionalTensorArgument) -> fx.Node | None:
        kind, told = only(tensor)
        return self._tensor(told.name) if kind == "as_tensor" else None

    def _value(self, argument: pt2.Argument) -> Any:
        kind, told = only(argument)
        match kind:
            case "as_none":
                return None
            case "as_tensor":
                return self._tensor(told.name)
            case "as_tensors":
                return [self._tensor(x.name) for x in told]
            case "as_optional_tensor":
                return self._optional(told)
            case "as_optional_tensors":
                return [self._optional(x) for x in told]
            case "as_sym_int" | "as_sym_float" | "as_sym_bool":
                return self._number(told)
            case "as_sym_ints" | "as_sym_floats":
                return [self._number(x) for x in told]
            case "as_float":
                return FLOATS.get(told, told)
            case "as_floats":
                return [FLOATS.get(x, x) for x in told]
            case "as_string" if not TEXT.fullmatch(told):
                refuse(f"the text {told[:80]!r} is not accepted")
            case "as_scalar_type":
                return _listed(DTYPES, told)
            case "as_memory_format":
                return _listed(MEMORY_FORMATS, told)
            case "as_layout":
                return _listed(LAYOUTS, told)
            case "as_device":
                return torch.device(told.type)
        return told
