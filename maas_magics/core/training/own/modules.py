"""Modules that come from a notebook: built, checked against the data, and kept apart from the user's own copy."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.api.errors import ModelError
from maas_magics.core.data.answers import Answers


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
            return copy.deepcopy(model)
        except (TypeError, RuntimeError, ValueError) as error:
            raise ModelError(f"The module cannot be copied: {error}") from None
    if inspect.isclass(model) and issubclass(model, nn.Module):
        raise ModelError(f"{model.__name__} is a class; a module was expected.", f"Make one: net = {model.__name__}(…)")
    made = model(inputs, outputs)
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"The architecture is of type {type(made).__name__}; an nn.Module was expected.",
            "End the cell with the module itself.",
        )
    return made


def title_of(model: Any) -> str:
    """Name of a module's class; of one that came from elsewhere, the name it had there."""
    if not isinstance(model, nn.Module):
        return "module"
    return str(getattr(model, "title", None) or type(model).__name__)


def describe(module: nn.Module, source: str) -> str:
    """Source of a module's class where it can be had, else its printed form."""
    if source:
        return source
    try:
        return inspect.getsource(type(module)) if not type(module).__module__.startswith("torch.") else repr(module)
    except (OSError, TypeError):
        return repr(module)


def fit_in(net: nn.Module, inputs: tuple[Tensor, ...], answers: Answers, names: list[str], free_loss: bool) -> Answers:
    """Ask a module two rows, and check that it takes the features and answers the target.

    Parameters
    ----------
    net : nn.Module
    inputs : tuple of Tensor
        Two rows or more.
    answers : Answers
    names : list of str
        Names of the numbers of a flat input.
    free_loss : bool
        Whether the user's own loss decides what outputs are fine.

    Returns
    -------
    Answers
        With one output for each of two classes, the answers as one label of several.
    """
    outputs = ask(net, inputs, names)
    width = outputs.shape[1] if outputs.dim() == 2 else 1
    if answers.task == "binary" and outputs.dim() == 2 and width == 2:
        return Answers("multiclass", answers.names, answers.classes)
    fine = (outputs.dim() == 2 and width == answers.outputs) or (outputs.dim() == 1 and answers.outputs == 1)
    if not fine and not free_loss:
        raise ModelError(
            f"The network answers {tuple(outputs.shape)} for {len(outputs)} rows; the target ({answers.task}) wants "
            f"({len(outputs)}, {answers.outputs}).",
            f"Its last layer should have {answers.outputs} outputs.",
        )
    return answers


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
        If it does not take them, or answers something else than one tensor.
    """
    net.eval()
    try:
        with torch.no_grad():
            outputs = net(*inputs)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        shapes = ", ".join(
            f"{str(x.dtype).removeprefix('torch.')} ({', '.join(['n', *map(str, x.shape[1:])])})" for x in inputs
        )
        told = f": {', '.join(names[:8])}{', …' if len(names) > 8 else ''}" if names else ""
        raise ModelError(
            f"The network cannot take the features, {shapes}{told}. It says: {str(error).splitlines()[0]}",
            f"Its first layer should take {inputs[0].shape[-1]} inputs."
            if inputs[0].dim() == 2 and inputs[0].is_floating_point() and len(inputs) == 1
            else "Match its first layer to that shape and type.",
        ) from error
    if not isinstance(outputs, Tensor):
        raise ModelError(
            f"The network answers a {type(outputs).__name__}; one tensor was expected.", "Return one tensor."
        )
    return outputs
