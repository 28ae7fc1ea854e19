"""A graph of tensor operators as plain values, and back.

torch's own way would run the graph's source once more to rebuild it, and what takes no input, as a draw of random
numbers, would become a constant.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from maas_magics.core.compat.operators import operator_of

OPERATOR = "operator"


def plain(graph: GraphModule) -> dict[str, Any]:
    """Operators, their arguments and constants, in words, numbers, lists and tensors.

    Raises
    ------
    TypeError
        If it calls anything but operators of torch.
    """
    nodes = [
        [node.op, node.name, _named(node), _packed(list(node.args)), {k: _packed(v) for k, v in node.kwargs.items()}]
        for node in graph.graph.nodes
    ]
    names = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    return {"nodes": nodes, "constants": {name: getattr(graph, name).detach() for name in sorted(names)}}


def rebuilt(told: dict[str, Any]) -> GraphModule:
    """The graph that `plain` described."""
    graph, made = Graph(), dict[str, Node]()
    for op, name, target, args, kwargs in told["nodes"]:
        found: Any = _found(target) if op == "call_function" else target
        given = tuple(_unpacked(args, made))
        more = {key: _unpacked(value, made) for key, value in kwargs.items()}
        made[name] = graph.create_node(op, found, given, more, name=name)
    root = torch.nn.Module()
    for name, value in told["constants"].items():
        root.register_buffer(name, value)
    return GraphModule(root, graph)


def _named(node: Node) -> Any:
    if node.op != "call_function":
        return str(node.target)
    target: Any = node.target
    known = operator_of(target)
    if known is not None:
        return [known.namespace, known.name, known.overload]
    if getattr(operator, name := getattr(target, "__name__", ""), None) is target:
        return [OPERATOR, name, ""]
    raise TypeError(f"{target} is not an operator of torch")


def _found(target: list[str]) -> Any:
    space, name, overload = target
    if space == OPERATOR:
        return getattr(operator, name)
    return getattr(getattr(getattr(torch.ops, space), name), overload)


def _packed(value: Any) -> Any:
    if isinstance(value, Node):
        return ["node", value.name]
    if isinstance(value, (list, tuple)):
        return ["list", *map(_packed, value)]
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
        return ["torch", str(value).removeprefix("torch.")]
    if isinstance(value, torch.device):
        return ["device", str(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be expressed in plain values")


def _unpacked(value: Any, made: dict[str, Node]) -> Any:
    if not isinstance(value, list):
        return value
    kind, *rest = value
    if kind == "list":
        return [_unpacked(item, made) for item in rest]
    if kind == "node":
        return made[rest[0]]
    return torch.device(rest[0]) if kind == "device" else getattr(torch, rest[0])


def tensors_of(told: dict[str, Any]) -> list[Tensor]:
    """Constants, in the order of their names."""
    return list(told["constants"].values())
