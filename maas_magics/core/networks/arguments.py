"""Arrays by name, and the arguments of a module's ``forward`` that they go to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from maas_magics.api.errors import ModelError, did_you_mean

NAMES = "argument_names"
"""Attribute of a module that came as its graphs: the names of what it takes, in order."""

_FREE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def takes_by_name(module: Any, names: Sequence[str]) -> bool:
    """Whether a module has an argument for each of several columns, so that they are not one row of numbers to it."""
    if not isinstance(module, nn.Module):
        return False
    told = getattr(module, NAMES, None)
    if told is not None:
        return set(told) == set(names)
    parameters = _parameters(module)
    needed = {name for name, found in parameters.items() if _is_needed(found)}
    return set(names) <= set(parameters) and needed <= set(names) and len(needed) > 1


def arranged(
    module: nn.Module,
    names: Sequence[str],
    notify: Callable[[str], None],
    inputs: Mapping[str, str] | None = None,
) -> tuple[nn.Module, list[str]]:
    """The names in the order in which a module is called with their arrays, and the module that is.

    Parameters
    ----------
    module : nn.Module
    names : sequence of str
        Of arrays.
    notify : callable
        Gets a note where no name decides where an array goes.
    inputs : mapping of str to str, optional
        The array of each argument, where it was given; else the one of its name.

    Raises
    ------
    ModelError
        If some names are arguments and others not, or an argument is left without an array.
    """
    told = getattr(module, NAMES, None)
    if told is not None and set(told) == set(names):
        return module, list(told)
    if inputs:
        module, order = arranged(module, list(inputs), notify)
        return module, [inputs[argument] for argument in order]
    parameters = _parameters(module)
    free = [name for name, found in parameters.items() if found.kind in _FREE]
    rest = any(found.kind is inspect.Parameter.VAR_KEYWORD for found in parameters.values())
    spread = any(found.kind is inspect.Parameter.VAR_POSITIONAL for found in parameters.values())
    own = [name for name, found in parameters.items() if found.kind in (*_FREE, inspect.Parameter.KEYWORD_ONLY)]
    known = [name for name in own if name in names]
    if not known and not rest:
        need = sum(_is_needed(parameters[name]) for name in own)
        if len(names) < need or (len(names) > len(free) and not spread) or need > len(free):
            raise _unlike(module, own, names)
        if by_place(module, names):
            shown = ", ".join(map(repr, names))
            taken = ", ".join(free[: len(names)])
            notify(f"The arrays {shown} go to forward's {taken} in this order: no name is one of its.")
        return module, list(names)
    strange = [name for name in names if name not in own]
    if strange and not rest:
        left = [name for name in own if name not in names]
        only = ",".join(f"{name}={name}" for name in known)
        raise ModelError(
            f"The forward of {type(module).__name__} takes {', '.join(own)}; the data has {', '.join(names)}.",
            did_you_mean(strange[0], left) if left else f"Leave out {strange[0]!r}: --inputs {only}",
        )
    absent = [name for name in own if name not in names and _is_needed(parameters[name])]
    if absent:
        raise ModelError(
            f"The forward of {type(module).__name__} needs {', '.join(map(repr, absent))}, which the data lacks.",
            f"The data has: {', '.join(names)}.",
        )
    order = [*known, *strange]
    if order == free[: len(order)]:
        return module, order
    return _by_keyword(module, order), order


def by_place(module: nn.Module, names: Sequence[str]) -> list[str]:
    """Arguments that several arrays go to in the order that they were given in, for none has the name of one."""
    if getattr(module, NAMES, None) is not None or len(names) < 2:
        return []
    parameters = _parameters(module)
    free = [name for name, found in parameters.items() if found.kind in _FREE]
    return [] if set(names) & set(parameters) or len(free) < len(names) else free


def _unlike(module: nn.Module, own: Sequence[str], names: Sequence[str]) -> ModelError:
    """The error of arrays that are more, or fewer, than the arguments, and have none of their names."""
    has = f"the data has {', '.join(names)}."
    if len(own) == 1:
        return ModelError(
            f"The forward of {type(module).__name__} takes one array, {own[0]}; {has}",
            f"Give one array, or let its forward take each by its name: forward(self, {', '.join(names)}).",
        )
    return ModelError(
        f"The forward of {type(module).__name__} takes {', '.join(own) or 'nothing'}; {has}",
        f"Name the arrays as its arguments: {{{', '.join(f'{name!r}: …' for name in own)}}}" if own else "",
    )


def _parameters(module: nn.Module) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(module.forward).parameters)
    except (TypeError, ValueError):
        return {}


def _is_needed(found: inspect.Parameter) -> bool:
    return found.default is inspect.Parameter.empty and found.kind in (*_FREE, inspect.Parameter.KEYWORD_ONLY)


def _by_keyword(module: nn.Module, order: list[str]) -> nn.Module:
    """The module, which takes its arrays in order, and hands them to its ``forward`` by name."""
    kind: Any = type(module)

    def forward(self: Any, *arrays: Any, **named: Any) -> Any:
        if len(arrays) == len(order) and not named:
            return kind.forward(self, **dict(zip(order, arrays, strict=True)))
        return kind.forward(self, *arrays, **named)

    module.__class__ = type(kind.__name__, (kind,), {"forward": forward, "of": kind, "__module__": kind.__module__})
    return module
