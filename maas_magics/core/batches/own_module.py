"""A module of the user's and its rows, made to fit each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from maas_magics.api.errors import ModelError, OptionError
from maas_magics.api.specs import DataSpec, ModelSpec, TaskSpec
from maas_magics.core.batches.changed import as_given, in_order, with_answers
from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.features.fitting import Layout
from maas_magics.core.losses.check import LossRequest, few_rows, fit_loss
from maas_magics.core.losses.heads import fit_in_heads
from maas_magics.core.networks.arguments import arranged, by_place, takes_by_name
from maas_magics.core.networks.modules import ask, make_module
from maas_magics.core.networks.outputs import (
    Chosen,
    SeveralHeads,
    SeveralOutputs,
    chosen_outputs,
    one_tensor,
    only_output,
    pick,
)
from maas_magics.core.tasks.base import Task


def own_module(
    model: ModelSpec, task: TaskSpec, data: DataSpec, prepared: Prepared, layout: Layout, notify: Callable[[str], None]
) -> tuple[nn.Module, Prepared]:
    """The user's module, its lazy layers made, and the rows and the target as it and the loss take them."""
    try:
        return _own_module(model, task, data, prepared, layout, notify, None)
    except SeveralOutputs as several:
        chosen = _chosen(several, prepared.answers)
    return _own_module(model, task, data, prepared, layout, notify, chosen)


def _chosen(several: SeveralOutputs, answers: Task) -> Chosen:
    """Which tensors of a module answer what.

    Raises
    ------
    SeveralHeads
        If the columns of one target are as many targets of their own.
    """
    found = several.outputs
    if answers.parts:
        return chosen_outputs(found, several.kind, answers.names)
    rows = [key for key, value in found.items() if value.dim() and key != "loss"]
    if len(answers.names) > 1 and len(rows) > 1 and "logits" not in found:
        raise SeveralHeads
    return Chosen((only_output(found, several.kind),))


def _own_module(
    model: ModelSpec,
    task: TaskSpec,
    data: DataSpec,
    prepared: Prepared,
    layout: Layout,
    notify: Callable[[str], None],
    chosen: Chosen | None,
) -> tuple[nn.Module, Prepared]:
    if model.params:
        raise OptionError("Hyperparameters are for architectures by name; this model is a module.", "Drop --set.")
    own = prepared.processor.names
    first = prepared.train[0][0]
    net = make_module(model.model, first[:1].numel(), prepared.answers.outputs)
    raw, several = layout == "raw", bool(prepared.answers.parts)
    names = own if raw else prepared.processor.flat_names
    if raw:
        net, order = arranged(net, names, notify if chosen is None else lambda text: None, data.inputs)
        prepared = in_order(prepared, order)
    elif not isinstance(model.model, nn.Module) and takes_by_name(net, own):
        raise OneByOne(net)
    if chosen is not None:  # its forward takes no names any more
        pick(net, chosen.keys, joined=several, rows=chosen.rows)
        if several:
            prepared = replace(prepared, answers=msgspec.structs.replace(prepared.answers, names=chosen.names))
    line = raw and len(own) == 1 and is_line(data.data, own[0]) and prepared.train[0][0].shape[1:] == (1,)
    prepared = _taken(net, prepared, line)
    if any(x.dtype == torch.bfloat16 for x in prepared.train[0]):
        raise ModelError("The network takes bfloat16 only, a type that no array has.", "net.float(), --precision bf16")
    _check_places(net, prepared, by_place(net, names) if raw and not data.inputs and chosen is None else [])
    names = [] if raw else names
    if not several:
        return net, fitted(model, task, net, prepared, names, notify)
    if chosen is None:
        ask(net, tuple(x[:2] for x in prepared.train[0]), names)
        raise one_tensor(prepared.answers.names)
    return net, fitted_heads(model, task, net, prepared, chosen.rows, names, notify)


def _check_places(net: nn.Module, prepared: Prepared, places: list[str]) -> None:
    """Add a note where a module takes arrays in another order than they come in, and no name says which is which."""
    if not places:
        return
    try:
        ask(net, tuple(x[:2] for x in prepared.train[0]))
    except SeveralOutputs:
        raise
    except ModelError as error:
        if error.__cause__ is None:  # it took them
            return
        names = prepared.processor.names
        pairs = ", ".join(f"{name!r} as {place}" for name, place in zip(names, places, strict=False))
        raise ModelError(
            f"{error.message} It got {pairs}, by their order.", f"Name the arrays as its arguments: {', '.join(places)}"
        ) from error.__cause__


class OneByOne(Exception):
    """A module that a function made has an argument for each column of a table."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


def is_line(data: Any, name: str = "") -> bool:
    """Whether data is an array of one axis, by itself, by a name, or beside its target."""
    if isinstance(data, tuple) and len(data) == 2:
        data = data[0]
    if isinstance(data, Mapping):
        data = next((values for key, values in data.items() if str(key) == name), None)
        return isinstance(data, (list, tuple)) or getattr(data, "ndim", None) == 1
    return hasattr(data, "dtype") and getattr(data, "ndim", None) == 1


def _taken(net: nn.Module, prepared: Prepared, line: bool) -> Prepared:
    """The rows as the module takes them: as they are if it can, else with floats of its weights' own kind."""
    kinds = {x.dtype for x in net.parameters() if x.is_floating_point() and not is_lazy(x)} or {torch.float32}
    own = next(iter(kinds)) if len(kinds) == 1 else torch.float32
    tries: list[tuple[torch.dtype | None, bool]] = [(None, False)]
    if any(x.is_floating_point() and x.dtype != own for x in prepared.train[0]):
        tries.append((own, False))
    if line:
        tries = [(dtype, True) for dtype, _ in tries] + tries
    for dtype, flat in tries[:-1]:
        changed = as_given(prepared, dtype, flat)
        if _takes(net, changed.train[0]):
            return changed
    return as_given(prepared, *tries[-1])


def _takes(net: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether a module answers some rows one by one, whatever their number."""
    try:
        return all(
            ask(net, part).shape[:1] == (len(part[0]),) for part in (tuple(x[:rows] for x in inputs) for rows in (2, 3))
        )
    except SeveralOutputs:
        raise
    except ModelError:
        return False


def fitted(
    model: ModelSpec,
    task: TaskSpec,
    net: nn.Module,
    prepared: Prepared,
    names: list[str],
    notify: Callable[[str], None],
) -> Prepared:
    """The target as network and loss take it."""
    asked = LossRequest(task.loss, model.outputs, task.task, prepared.given, isinstance(model.model, str))
    inputs, target = prepared.train
    rows = few_rows(inputs)
    inputs = tuple(x[:rows] for x in inputs)
    answers, form = fit_loss(net, inputs, target[:rows], prepared.answers, names, asked, notify)
    return replace(with_answers(prepared, answers), form=form)


def fitted_heads(
    model: ModelSpec,
    task: TaskSpec,
    net: nn.Module,
    prepared: Prepared,
    rows: tuple[tuple[int, ...], ...],
    names: list[str],
    notify: Callable[[str], None],
) -> Prepared:
    """The targets as the heads of a network and their losses take them."""
    answers, (inputs, target) = prepared.answers, prepared.train
    asked = LossRequest(task.loss, model.outputs, task.task, declared=isinstance(model.model, str))
    few = few_rows(inputs)
    inputs = tuple(x[:few] for x in inputs)
    found, forms = fit_in_heads(
        net, rows, inputs, target[:few], answers, names, asked, task.loss_weights, prepared.givens, notify
    )
    return replace(with_answers(prepared, found), form=forms)
