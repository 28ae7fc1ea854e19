"""A loss of the user's: handed the target as they gave it, or as one of torch's declares it, and never broadcast."""

from __future__ import annotations

import dis
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from maas_magics.api.errors import MaasError, ModelError
from maas_magics.core.data.arrow import Array
from maas_magics.core.losses.broadcasting import broadcasts
from maas_magics.core.losses.known import KEEPING, KNOWN, LINKS, Takes, Watch
from maas_magics.core.networks.blame import arguments_of, code_of, name_of, told_of
from maas_magics.core.networks.modules import preserve_rng
from maas_magics.core.tasks.base import Task


@dataclass(frozen=True)
class TargetForm:
    """How a target came: its number of axes, and its dtype where torch has it."""

    axes: int = 1
    dtype: torch.dtype | None = None


UNKNOWN = TargetForm()
"""One number or label a row, of an unknown kind."""


@dataclass(frozen=True)
class Form:
    """How a loss gets outputs and target.

    Attributes
    ----------
    row : tuple of int
        Shape of one row of outputs.
    target : tuple of int
        Shape of one row of the target.
    dtype : torch.dtype or None
        Of the target; that of the outputs when None.
    signs : bool
        Whether 0 and 1 are given as −1 and 1.
    doubt : str
        Evidence against answers in the target's own units.
    """

    row: tuple[int, ...]
    target: tuple[int, ...]
    dtype: torch.dtype | None = None
    signs: bool = False
    doubt: str = ""


class OwnLoss:
    """``loss(outputs, target)`` of the user's, from outputs and encoded target.

    Parameters
    ----------
    loss : callable
    form : Form
    """

    def __init__(self, loss: Callable[..., Any], form: Form | None) -> None:
        self.loss, self.form = loss, form

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        """One number."""
        value = self.value(outputs, target)
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise MaasError(f"The loss returns {found}, not one number as a tensor.", _one_number(self.loss))
        return value.reshape(())

    def value(self, outputs: Tensor, target: Tensor) -> Any:
        """What the loss answers, whatever that is."""
        rows, form = target.shape[0], self.form
        if form is not None and (outputs.shape[1:] != form.row or outputs.shape[0] != rows):
            outputs = outputs.reshape(rows, *form.row)
        return self.loss(outputs, self.target(outputs, target))

    def target(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The encoded target in the form that the loss gets."""
        form = self.form
        if form is None:
            return target
        if target.shape[1:] != form.target:
            target = target.reshape(target.shape[0], *form.target)
        if form.signs:
            target = target * 2 - 1
        dtype = outputs.dtype if form.dtype is None else form.dtype
        if target.dtype == dtype:
            return target
        return (
            target.round().to(dtype) if not dtype.is_floating_point and target.is_floating_point() else target.to(dtype)
        )


def _one_number(loss: Any) -> str:
    """What makes one number of what a loss answers."""
    said = loss.keywords.get("reduction") if isinstance(loss, partial) else getattr(loss, "reduction", None)
    return 'Give it reduction="mean".' if said == "none" else "End it with .mean()"


@dataclass(frozen=True)
class LossTrial:
    """What a loss is found to take: the form of its arguments, and what it does with outputs."""

    form: Form
    watch: Watch | None = None


def try_loss(
    loss: Callable[..., Any], takes: Takes | None, outputs: Tensor, target: Tensor, answers: Task, given: TargetForm
) -> LossTrial:
    """How a loss takes the target.

    Parameters
    ----------
    loss : callable
    takes : Takes or None
        What it is known to take.
    outputs : Tensor
        Of a network, for some rows.
    target : Tensor
        Encoded, of those rows.
    answers : Task
    given : TargetForm

    Raises
    ------
    ModelError
        If it fails with every form of the target, or would broadcast one against the other.
    """
    row = tuple(outputs.shape[1:])
    taken = arguments_of(loss, 2)
    if taken is not None:
        raise ModelError(
            f"The loss {name_of(loss)} takes {taken}; it is handed two, outputs and target{code_of(loss)}.",
            "lambda outputs, target: …",
        )
    if takes is not None:
        form = _declared(loss, takes, outputs, target, answers)
        error = _failure(OwnLoss(loss, form), outputs, target)[0]
        if error is not None:
            raise _refused(loss, error, outputs, OwnLoss(loss, form).target(outputs, target))
        return LossTrial(form)
    if answers.numeric and outputs.numel() == target.numel() and is_plain(loss):
        return LossTrial(Form(row, row))
    first: tuple[BaseException | str, Form] | None = None
    for form in _forms(row, outputs, target, answers, given):
        error, watch = _failure(OwnLoss(loss, form), outputs, target)
        if error is None:
            return LossTrial(form, watch)
        first = first or (error, form)
    assert first is not None
    raise _refused(loss, first[0], outputs, OwnLoss(loss, first[1]).target(outputs, target))


def _declared(loss: Any, takes: Takes, outputs: Tensor, target: Tensor, answers: Task) -> Form:
    row = tuple(outputs.shape[1:])
    name = name_of(loss)
    if takes.target == "index" and answers.axes and answers.exclusive:
        if row[1:] != answers.axes:
            raise ModelError(
                f"{name} takes the classes behind the rows, (n, {len(answers.classes)}, …); the network returns "
                f"{_shape(outputs)}.",
                "Answer x.movedim(-1, 1), or leave the loss out.",
            )
        return Form(row, answers.axes, torch.int64)
    if takes.target == "index" and not answers.numeric:
        if len(row) != 1 or row[0] < 2:
            raise ModelError(
                f"{name} takes an output for each class, (n, {max(2, len(answers.classes))}); "
                f"the network returns {_shape(outputs)}."
            )
        return Form(row, (), torch.int64)
    if takes.target == "index" and outputs.numel() != target.numel():
        raise ModelError(
            f"{name} learns one label a row here; the target has {_several(target)} a row, and a label for each "
            "position is not learnt yet.",
            "Give one label a row; or a function, whose outputs are answered as they are: "
            "loss=lambda outputs, target: F.cross_entropy(outputs, target.long())",
        )
    if outputs.numel() != target.numel():
        raise ModelError(
            f"The network returns {_shape(outputs)} where the target is {_shape(target)}; {name} takes one shape."
        )
    return Form(row, row, signs=takes.target == "signs")


def _forms(row: tuple[int, ...], outputs: Tensor, target: Tensor, answers: Task, given: TargetForm) -> Iterator[Form]:
    """As it came, unless that would broadcast; as the outputs, where they are as many numbers; as class indices."""
    width = tuple(target.shape[1:]) if given.axes > 1 and target.dim() > 1 else (1,) * (given.axes - 1)
    came = answers.axes or (width if target[:1].numel() == math.prod(width) else tuple(target.shape[1:]))
    signs = answers.classes in ((-1, 1), (-1.0, 1.0))
    whole = given.dtype is not None and not given.dtype.is_floating_point
    plain = all(not isinstance(label, str) for label in answers.classes)
    as_it_came = given.dtype if whole and plain else torch.int64 if answers.exclusive else None
    if answers.exclusive:
        signs, as_it_came = False, as_it_came if as_it_came is not torch.bool else torch.int64
    like = Form(row, row, None, signs)
    same = outputs.numel() == target.numel() and outputs.is_floating_point()
    first = Form(row, came, as_it_came, signs)
    if same and {row, came} == {(), (1,)}:
        yield from (Form(row, row, as_it_came, signs), like, first)
    else:
        yield first
        if same:
            yield like
    if as_it_came is not None:
        yield Form(row, came, None, signs)
    if answers.one_label:
        yield Form(row, (), torch.int64)


def is_plain(loss: Any) -> bool:
    """Whether a function does arithmetic only: neither shapes, nor a loss of torch's, nor functions of the user's.

    Such a one need not be tried. Its calls may count: it may be one that breaks at the third.
    """
    code = getattr(loss, "__code__", None)
    if code is None or any(isinstance(constant, type(code)) for constant in code.co_consts):
        return False
    names = set(code.co_names)
    if names & (KNOWN.keys() | LINKS.keys() | KEEPING | {"transpose", "T", "mT", "movedim", "repeat", "expand"}):
        return False
    used = [loss.__globals__.get(name) for name in names]
    if any(inspect.isfunction(thing) or isinstance(thing, type) for thing in used):
        return False
    steps = list(dis.get_instructions(code))
    return not any("SUBSCR" in step.opname or "SLICE" in step.opname or step.argrepr == "[]" for step in steps)


def _failure(loss: OwnLoss, outputs: Tensor, target: Tensor) -> tuple[BaseException | str | None, Watch]:
    """What goes wrong with a loss in a form, forward and back, and what it does to the outputs."""
    leaf = outputs.detach().clone().requires_grad_(True)
    watch = Watch(leaf)
    try:
        with preserve_rng(), torch.enable_grad():
            with watch:
                value = loss.value(leaf, target)
            if not isinstance(value, Tensor) or value.numel() != 1:
                return None, watch  # the first step shows it, with the rows of a batch
            if value.is_complex():
                return "it gives a complex number", watch
            if value.requires_grad:
                torch.autograd.grad(value.sum(), leaf, allow_unused=True)
            known = watch.found is not None and watch.found.target != "index"  # they decide by the shapes alone
            wrong = watch.broadcasts or (not known and broadcasts(loss, leaf.detach(), target))
            return ("broadcast" if wrong else None), watch
    except MaasError:
        raise
    except Exception as error:  # whatever the loss raises
        return error, watch


def _refused(loss: Any, error: BaseException | str, outputs: Tensor, target: Tensor) -> ModelError:
    shapes = f"outputs {_shape(outputs)} and target {_shape(target)}"
    name = name_of(loss)
    if error == "broadcast":
        return ModelError(
            f"The loss would broadcast {shapes}: every row's output against every row's target.",
            "Give both one shape: outputs.squeeze(1), or target.unsqueeze(1).",
        )
    if isinstance(error, str):
        return ModelError(f"The loss cannot be made smaller: {error}.", "End it with a real number.")
    made = told_of(error, f"The loss {name} fails with {shapes}")
    made.__cause__ = error
    return made


def _several(target: Tensor) -> str:
    shape = tuple(target.shape[1:])
    return f"{math.prod(shape)} values" if len(shape) < 2 else f"values of shape {shape}"


def _shape(tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    inner = ", ".join(["n", *map(str, tensor.shape[1:])])
    return f"{kind} ({inner}{',' if tensor.dim() == 1 else ''})"


def given_by(target: Any, values: Array) -> TargetForm:
    """How a target came.

    Parameters
    ----------
    target : Any
        As the request has it.
    values : ndarray
        What was read of it.
    """
    array = target if hasattr(target, "dtype") and isinstance(getattr(target, "ndim", None), int) else values
    if isinstance(array, Tensor):
        return TargetForm(array.dim(), array.dtype)
    try:
        return TargetForm(array.ndim, torch.from_numpy(values[:0].astype(str(array.dtype))).dtype)
    except (TypeError, ValueError):
        return TargetForm(array.ndim, None)
