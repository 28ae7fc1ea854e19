"""Modules that come from a notebook: built, checked against the data, and kept apart from the user's own copy."""

from __future__ import annotations

import copy
import inspect
import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer
from torch.nn.utils import parametrize

from maas_magics.api.errors import MaasError, ModelError
from maas_magics.core.networks.blame import HINTS, first_line, frames_of, told_of, where
from maas_magics.core.networks.outputs import SeveralOutputs, tensors_of


def make_module(model: Any, inputs: int, outputs: int) -> nn.Module:
    """A module to train, from one held in a variable or from a factory.

    Parameters
    ----------
    model : nn.Module or callable
        A module is copied, so the user's own stays as it is. A callable gets ``(inputs, outputs)``.
    inputs, outputs : int
        Numbers the first layer gets and the last layer gives for a row.

    Raises
    ------
    ModelError
        If it makes something else.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError("A TorchScript module cannot be trained.", "Give the module that it was made of.")
    if isinstance(model, nn.Module):
        try:
            return copied(model)
        except Exception as error:  # whatever its parts raise
            raise told_of(error, f"{type(model).__name__} cannot be copied") from error
    if inspect.isclass(model) and issubclass(model, nn.Module):
        raise ModelError(f"{model.__name__} is a class; a module was expected.", f"Make one: net = {model.__name__}(…)")
    try:
        made = model(inputs, outputs)
    except MaasError:
        raise
    except Exception as error:  # whatever the user's function raises
        raise told_of(error, "The function that makes the network fails") from error
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"The architecture is of type {type(made).__name__}; an nn.Module was expected.",
            "End the cell with the module itself.",
        )
    return made


def copied(net: nn.Module) -> nn.Module:
    """A deep copy. What was computed from weights, as by a pruning or an old weight-norm, is a plain tensor in it."""
    memo: dict[int, Any] = {}
    lazy: Any = UninitializedBuffer
    for buffer in net.buffers():
        if isinstance(buffer, lazy):  # torch copies lazy parameters, but no lazy buffers
            memo[id(buffer)] = lazy(device=buffer.device, dtype=buffer.dtype)
    for module in net.modules():
        for value in _tensors(vars(module).values()):
            if not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(net, memo)


def settle(net: nn.Module) -> None:
    """Cut what was computed from weights, and stands beside them, off the graph that it came from."""
    for module in net.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor) and not value.is_leaf:
                vars(module)[name] = value.detach().clone()


def baked(net: nn.Module) -> nn.Module:
    """The module with weights that stand for its parametrizations, which need not be computed, or exported, each time.

    A copy where there are any.
    """
    if not any(parametrize.is_parametrized(module) for module in net.modules()):
        return net
    twin = copied(net)
    with torch.no_grad():
        for module in list(twin.modules()):
            if not parametrize.is_parametrized(module):
                continue
            kind = type(module)  # torch takes the weight off the class, which a copy shares with the original
            module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return twin


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())


def title_of(model: Any) -> str:
    """Name of a module's class; of one that came from elsewhere, the name it had there."""
    if not isinstance(model, nn.Module):
        return "module"
    return str(getattr(model, "title", None) or type(model).__name__)


def describe(module: nn.Module, source: str) -> str:
    """Source of a module's class where it can be had, else its printed form."""
    if source:
        return source
    kind = getattr(type(module), "of", type(module))
    try:
        return inspect.getsource(kind) if not kind.__module__.startswith("torch.") else repr(module)
    except (OSError, TypeError):
        return repr(module)


def ask(net: nn.Module, inputs: tuple[Tensor, ...], names: Sequence[str] = ()) -> Tensor:
    """Outputs of a module for a few rows.

    Parameters
    ----------
    net : nn.Module
        Is in eval mode afterwards.
    inputs : tuple of Tensor
    names : sequence of str
        Names of the numbers of a flat input.

    Raises
    ------
    ModelError
        If it does not take them, or answers something else than one tensor of real numbers.
    """
    net.eval()
    inputs = tuple(x.clone() for x in inputs)  # it may change what it is handed
    try:
        with torch.no_grad():
            outputs = net(*inputs)
    except MaasError:
        raise
    except Exception as error:  # whatever the module raises
        told = f": {', '.join(names[:8])}{', …' if len(names) > 8 else ''}" if names else ""
        place = where(error)
        raise ModelError(
            f"The network cannot take the features, {shapes_of(inputs)}{told}. It says: {first_line(error)}"
            f"{f' ({place})' if place else ''}",
            _remedy(net, inputs, error),
        ) from error
    if not isinstance(outputs, Tensor):
        raise SeveralOutputs(tensors_of(outputs), type(outputs).__name__)
    if outputs.is_complex():
        raise ModelError("The network returns complex numbers; real ones were expected.", "Return .real, or .abs()")
    if not outputs.is_floating_point():
        kind = str(outputs.dtype).removeprefix("torch.")
        raise ModelError(
            f"The network returns {kind}, through which nothing is learnt; floats were expected.",
            "Return the numbers that it is made of, before an argmax or a comparison.",
        )
    return outputs


def shapes_of(inputs: Iterable[Tensor]) -> str:
    """Types and shapes, for display."""
    return ", ".join(
        f"{str(x.dtype).removeprefix('torch.')} ({', '.join(['n', *map(str, x.shape[1:])])})" for x in inputs
    )


def _remedy(net: nn.Module, inputs: tuple[Tensor, ...], error: BaseException) -> str:
    """What would let a module take its inputs, where the layer that refuses them shows it; else empty."""
    told = next((hint for sign, hint in HINTS.items() if sign in str(error)), "")
    if told:
        return told
    paths = {id(module): name for name, module in net.named_modules()}
    for frame in reversed(frames_of(error)):
        layer, given = frame.f_locals.get("self"), frame.f_locals.get("input")
        if not isinstance(layer, nn.Module) or id(layer) not in paths:
            continue
        if not isinstance(given, Tensor):
            return ""
        first = any(given is x or (given.data_ptr() == x.data_ptr() and given.shape == x.shape) for x in inputs)
        name = "Its first layer" if first and len(inputs) == 1 else f"Its layer {paths[id(layer)]!r}"
        if isinstance(layer, nn.Linear) and given.dim() and given.shape[-1] != layer.in_features:
            return f"{name} should take {given.shape[-1]} inputs."
        return f"Match {name[0].lower()}{name[1:]} to that shape and type." if first else ""
    return ""


def last_layer(net: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether what a module returns is what its last linear layer gave, so that the layer's size decides."""
    gave: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, given, outputs: gave.append(outputs))
        for module in net.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        outputs = ask(net, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return bool(gave) and gave[-1].data_ptr() == outputs.data_ptr() and gave[-1].shape == outputs.shape


@contextmanager
def preserve_rng() -> Iterator[None]:
    """Give all random numbers back as they were."""
    numpy, python = np.random.get_state(), random.getstate()
    cuda = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=cuda), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what is looked for here
        try:
            yield
        finally:
            np.random.set_state(numpy)
            random.setstate(python)
