"""torch's operators as they stand in graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard

import torch

_OVERLOAD: type[Any] = type(torch.ops.aten.add.Tensor)
"""``torch._ops.OpOverload``, without its name."""


class Operator(NamedTuple):
    """What an operator is called, takes and returns.

    Attributes
    ----------
    namespace, name, overload : str
        ``"aten"``, ``"add"`` and ``"Tensor"`` of ``torch.ops.aten.add.Tensor``.
    arguments : list of str
        Their names.
    returns : list of str
        Kinds in torch's own words, such as ``"TensorType"``.
    """

    namespace: str
    name: str
    overload: str
    arguments: list[str]
    returns: list[str]


def is_operator(function: Any) -> TypeGuard[Callable[..., Any]]:
    """Whether a function is an operator of torch, with its overload."""
    return isinstance(function, _OVERLOAD)


def operator_of(function: Any) -> Operator | None:
    """The operator that a function is; None for any other function.

    Private are ``_schema`` and ``_overloadname`` of an operator, which say how a graph names it and in which order it
    takes its arguments. Seen in torch 2.6 to 2.13.
    """
    if not is_operator(function):
        return None
    operator: Any = function
    schema = operator._schema
    return Operator(
        operator.namespace,
        schema.name.partition("::")[2],
        operator._overloadname,
        [argument.name for argument in schema.arguments],
        [returned.type.kind() for returned in schema.returns],
    )
