"""Graphs out of a module, as ``.pt2`` archives that hold neither weights nor traces of the machine they are made on."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor, fx, nn

from maas_magics.api.errors import ModelError
from maas_magics.core.compat.export import graph_in_words
from maas_magics.core.graphs import format as pt2
from maas_magics.core.graphs.capture import captured, plain_attention
from maas_magics.core.graphs.filter import DTYPES
from maas_magics.core.graphs.reasons import hint, told
from maas_magics.core.tracing import suppress_torch_logging, tracing_lock

CHECKS = ("aten._assert_tensor_metadata", "aten._assert_scalar", "aten._assert_async", "aten.sym_constrain_range")
"""What torch adds to check a graph while it runs. It computes nothing, and names devices."""

CPU = torch.device("cpu")


def free_axes(open_axes: Sequence[Sequence[int]], inputs: int) -> list[dict[int, Any]]:
    """Axes of each input that a graph leaves free: the batch, and those that are open, several of which may be one."""
    batch = torch.export.Dim("batch", min=1)
    axes = list(open_axes) or [()] * inputs
    return [{0: batch} | dict.fromkeys(own, torch.export.Dim.DYNAMIC) for own in axes]


def trace(
    module: nn.Module, example: tuple[Tensor, ...], open_axes: Sequence[Sequence[int]] = ()
) -> torch.export.ExportedProgram:
    """Program of a module in the mode it is in, for any number of rows.

    Parameters
    ----------
    module : nn.Module
    example : tuple of Tensor
    open_axes : sequence of sequences of int
        Further axes of each input that may have any length.

    Raises
    ------
    ModelError
        If torch cannot trace it, or it answers something else than one tensor.
    """
    kind = type(module).__name__
    free = iter(free_axes(open_axes, len(example)))
    try:
        given = inspect.signature(module.forward).bind(*example).arguments
        shapes = {
            name: next(free) if isinstance(x, Tensor) else tuple(next(free) for _ in x) for name, x in given.items()
        }
        with tracing_lock(), suppress_torch_logging(), plain_attention():
            program = captured(module, example, shapes)
    except Exception as error:  # torch raises many unrelated kinds here
        raise ModelError(f"torch cannot trace {kind}: {told(error).rstrip('. ')}.", hint(error)) from error
    answers = program.call_spec.out_spec
    if answers is None or not answers.is_leaf():
        raise ModelError(f"{kind} returns something else than one tensor.", "Return one tensor.")
    return program


def reason(error: BaseException) -> str:
    """First line of what an error says, without a full stop."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, KeyError):
        line = f"{line} is missing, or there twice"
    return "".join(letter if letter.isprintable() else " " for letter in line)[:200].rstrip(". ")


def payload(program: torch.export.ExportedProgram, module: nn.Module, paths: Mapping[str, str]) -> bytes:
    """A ``.pt2`` archive of a graph, without weights, samples, traces, guards and devices.

    Parameters
    ----------
    program : ExportedProgram
        Is changed.
    module : nn.Module
        What it was made of.
    paths : mapping
        Where each tensor of the state is, and each constant.
    """
    graph = program.graph_module
    _inline_no_grad(graph)
    for node in list(graph.graph.nodes):
        if str(node.target).startswith(CHECKS) and not node.users:
            graph.graph.erase_node(node)
    move(graph, CPU)
    whole = graph_in_words(program, graph)
    placeholders = {node.name for node in graph.graph.nodes if node.op == "placeholder"}
    inner = whole["graph_module"]["graph"]
    inner["tensor_values"] = {name: kind for name, kind in inner["tensor_values"].items() if name in placeholders}
    model = msgspec.json.decode(json.dumps(whole), type=pt2.ExportedProgram)
    made = model.graph_module
    made.signature.output_specs = [pt2.OutputSpec(pt2.UserSpec(value)) for value in made.graph.outputs]
    _complete(made, module)
    weights: dict[str, pt2.PayloadMeta] = {}
    constants: dict[str, pt2.PayloadMeta] = {}
    for spec in made.signature.input_specs:
        role, part = pt2.only(spec)
        if role != "user_input":
            name = getattr(part, pt2.KEYS[role])
            table = weights if getattr(part, "persistent", role == "parameter") else constants
            table[name] = pt2.PayloadMeta(paths[name], role == "parameter", False)
    return pt2.archive(
        {
            **pt2.MARKS,
            pt2.MODEL: pt2.write(model),
            pt2.WEIGHTS: pt2.write(pt2.PayloadConfig(weights)),
            pt2.CONSTANTS: pt2.write(pt2.PayloadConfig(constants)),
        }
    )


def _complete(graph: pt2.GraphModule, module: nn.Module) -> None:
    """Let a graph take the whole state, in its order: torch may leave out what is tied or not used."""
    codes = {dtype: code for code, dtype in DTYPES.items()}
    kept = module.state_dict(keep_vars=True)
    state = dict((*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)))
    places = {name: place for place, name in enumerate(state)}

    def place(pair: tuple[pt2.Argument, pt2.InputSpec]) -> int:
        role, part = pt2.only(pair[1])
        return len(state) + 1 if role == "user_input" else places.get(getattr(part, pt2.KEYS[role]), len(state))

    pairs = list(zip(graph.graph.inputs, graph.signature.input_specs, strict=True))
    there = {place(pair) for pair in pairs}
    for name, tensor in state.items():
        if places[name] in there:
            continue
        argument = pt2.TensorArgument(f"state.{name}")
        if isinstance(tensor, nn.Parameter):
            spec = pt2.InputSpec(parameter=pt2.InputToParameterSpec(argument, name))
        else:
            spec = pt2.InputSpec(buffer=pt2.InputToBufferSpec(argument, name, name in kept))
        sizes = [pt2.SymInt(as_int=size) for size in tensor.shape]
        graph.graph.tensor_values[argument.name] = pt2.TensorMeta(codes[tensor.dtype], sizes, tensor.requires_grad)
        pairs.append((pt2.Argument(as_tensor=argument), spec))
    pairs.sort(key=place)
    graph.graph.inputs = [given for given, _ in pairs]
    graph.signature.input_specs = [spec for _, spec in pairs]


def move(graph: fx.GraphModule, device: torch.device) -> None:
    """Let the tensors that a graph makes be on a device."""

    def moved(value: Any) -> Any:
        return device if isinstance(value, torch.device) else value

    for node in graph.graph.nodes:
        node.args, node.kwargs = fx.node.map_aggregate((node.args, node.kwargs), moved)
    graph.recompile()


def _inline_no_grad(module: fx.GraphModule) -> None:
    """Write what runs under ``torch.no_grad()`` into the graph itself, on inputs that are detached."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.target is not torch.ops.higher_order.wrap_with_set_grad_enabled or node.args[0]:
            continue
        body = getattr(module, node.args[1].target)
        _inline_no_grad(body)
        *steps, output = body.graph.nodes
        given = iter(node.args[2:])
        made: dict[fx.Node, Any] = {}
        with graph.inserting_before(node):
            for step in steps:
                if step.op != "placeholder":
                    made[step] = graph.node_copy(step, made.__getitem__)
                    continue
                outer = next(given)
                made[step] = outer
                if isinstance(outer, fx.Node) and isinstance(outer.meta["val"], Tensor):
                    made[step] = graph.call_function(torch.ops.aten.detach.default, (outer,))
                    made[step].meta["val"] = outer.meta["val"].detach()
        for user in list(node.users):
            user.replace_all_uses_with(made[output.args[0][user.args[1]]])
            graph.erase_node(user)
        graph.erase_node(node)
