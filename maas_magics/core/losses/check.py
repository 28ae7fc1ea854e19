"""A module, its loss and its target, brought together: what its outputs are, and how they become answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor, nn

from maas_magics.api.errors import ModelError, OptionError
from maas_magics.core.losses.direction import OF_LOGITS, runs_backwards, takes_probabilities
from maas_magics.core.losses.ignored import check_places
from maas_magics.core.losses.known import Takes, known, settings_of
from maas_magics.core.losses.meaning import WORDS, contradiction, told
from maas_magics.core.losses.own import UNKNOWN, Form, LossTrial, OwnLoss, TargetForm, try_loss
from maas_magics.core.losses.units import best_outputs
from maas_magics.core.networks.gradients import keep_gradients
from maas_magics.core.networks.in_place import keep_rows
from maas_magics.core.networks.modules import ask, copied, last_layer
from maas_magics.core.tasks.base import Family, Link, Task, TaskName

ROWS, NUMBERS = 61, 2**20
"""Rows, and numbers of them, that a module and a loss are tried with at most. No usual width, so that none fits by
chance."""

OTHER_UNITS = (
    "The loss is least where the network's outputs are {0}, and they are answered as they are: answers will not be in "
    "the target's own units. What makes the target of them can stand at the end of the network, instead of in the loss."
)


Families = TaskName | Family | Mapping[str, Any]
"""What a loss is for: of several heads, that of each."""


class OtherTask(Exception):
    """The loss is for another kind of target than the values alone imply, or for a ``raw`` one: not scaled."""

    def __init__(self, family: Families, raw: bool = False) -> None:
        super().__init__(family)
        self.family, self.raw = family, raw


@dataclass(frozen=True)
class LossRequest:
    """What a request says of loss and outputs.

    Attributes
    ----------
    loss : str or callable
    outputs : {"logits", "probabilities", "values"} or None
    task : TaskName, dict of them by head, or None
    given : TargetForm
        How the target came.
    declared : bool
        Whether the network is one by name, whose outputs are what the task needs.
    """

    loss: Any
    outputs: Literal["logits", "probabilities", "values"] | None = None
    task: TaskName | Mapping[str, TaskName] | None = None
    given: TargetForm = UNKNOWN
    declared: bool = False


def few_rows(inputs: tuple[Tensor, ...]) -> int:
    """How many rows to try a module with."""
    width = sum(x[:1].numel() for x in inputs)
    return max(8, min(ROWS, NUMBERS // max(1, width)))


def fit_loss(
    net: nn.Module,
    inputs: tuple[Tensor, ...],
    target: Tensor,
    answers: Task,
    names: list[str],
    asked: LossRequest,
    notify: Callable[[str], None],
) -> tuple[Task, Form | None]:
    """Run a module on some rows, and check that it takes the features and that its outputs fit the target.

    Parameters
    ----------
    net : nn.Module
    inputs : tuple of Tensor
        Two rows or more.
    target : Tensor
        Encoded, of those rows.
    answers : Task
    names : list of str
        Names of the numbers of a flat input.
    asked : LossRequest
    notify : callable
        Gets a sentence.

    Returns
    -------
    answers : Task
        With what the loss takes the outputs for, and with one output for each of two classes as one label of several.
    form : Form or None
        How a loss of the user's gets its arguments; None for one by name.

    Raises
    ------
    ModelError
    OtherTask
        If the loss is for quantities and the target was taken for labels, or the other way round.
    """
    two = tuple(x[:2] for x in inputs)
    outputs = ask(net, two, names)
    if not outputs.dim() or len(outputs) != len(two[0]):
        raise ModelError(
            f"The network returns {tuple(outputs.shape)} for {len(two[0])} rows; one answer for each row was expected."
        )
    if not asked.declared:
        keep_rows(net, tuple(x[: few_rows(inputs)] for x in inputs))
    keep_gradients(net, two)
    row = tuple(outputs.shape[1:])
    takes = known(asked.loss) if callable(asked.loss) else None
    if _is_dense(answers, row, asked):
        raise OtherTask("dense")
    wide = answers.answering(row)
    if wide is None or (not callable(asked.loss) and wide.classes != answers.classes):
        raise _other(asked, takes, answers) or _misfit(net, two, outputs, answers)
    if not callable(asked.loss):
        if wide.shape is not None:
            raise _misfit(net, two, outputs, answers)
        return msgspec.structs.replace(wide, link=_said(wide, asked.outputs)), None
    rows = few_rows(inputs)
    inputs, target = tuple(x[:rows] for x in inputs), target[:rows]
    target = answers.recoded(target, wide)
    answered = ask(net, inputs, names)
    loss = _spare(asked.loss)
    trial = try_loss(loss, takes, answered, target, wide, asked.given)
    found = takes or (trial.watch.found if trial.watch is not None else None)
    if wide.exclusive:
        settings = trial.watch.settings if trial.watch is not None else settings_of(loss)[1]
        check_places(asked.loss, settings, wide, notify)
    one_hot = trial.watch is not None and trial.watch.one_hot and wide.exclusive
    if one_hot and found is not None and trial.watch is not None:  # labels that the loss makes rows of stay labels
        trial.watch.link, found = "exp" if found.link == "exp" else "", None
    link = _said(wide, asked.outputs) or _seen(wide, found, trial)
    if asked.task is None and asked.outputs != "values" and takes is None and found is not None:
        _check_family(found.family, wide, target)
    own, form = OwnLoss(loss, trial.form), trial.form
    if takes is None and wide.numeric and wide.shape is None and asked.outputs is None and link in ("", "identity"):
        done, best = best_outputs(own, answered, _in_own_units(wide, target))
        link = done or link
        if best and not done:
            form = replace(form, doubt=OTHER_UNITS.format(best))
            notify(form.doubt)
    watched, probed = trial.watch, False
    if takes is None and found is None and watched is not None and not wide.numeric and not wide.axes:
        plain = asked.outputs is None and not link and not watched.calls & OF_LOGITS
        if plain and takes_probabilities(own, wide, answered, target, lambda: _is_bounded(net, inputs, names, wide)):
            link, probed = "identity", True
    fixed = link not in ("", "identity") or (found is not None and not found.in_any_units)
    if wide.numeric and fixed and any(factor != 1 for factor in wide.scale):
        raise OtherTask("quantities", raw=True)
    fitted = msgspec.structs.replace(wide, link=link)
    if takes is None and not fitted.numeric and not fitted.axes and runs_backwards(own, fitted, answered, target):
        raise _backwards(fitted)
    if not asked.declared and (takes is None or not fitted.numeric):
        notify(told(fitted, trial))
    doubt = "" if probed else contradiction(fitted, answered)
    if doubt:
        notify(doubt)
    return fitted, form


def _is_dense(answers: Task, row: tuple[int, ...], asked: LossRequest) -> bool:
    """Whether a network has several outputs for each of the whole numbers of a row, of which a loss takes labels."""
    whole = asked.given.dtype is not None and not asked.given.dtype.is_floating_point
    takes = known(asked.loss) if callable(asked.loss) else None
    labels = not callable(asked.loss) or (takes is not None and takes.target == "index")
    if asked.task is not None or asked.given.axes != 2 or not whole or not labels or len(row) != 2:
        return False
    return answers.outputs in row and max(row) > 1 and row != (answers.outputs, 1) and row != (1, answers.outputs)


def _other(asked: LossRequest, takes: Takes | None, answers: Task) -> OtherTask | None:
    """Another task, where a loss of the user's own is free to take whatever the network returns."""
    free = callable(asked.loss) and takes is None and asked.task is None and asked.outputs is None
    numbers = not any(isinstance(label, str) for label in answers.classes)
    return OtherTask("quantities") if free and numbers and not asked.declared else None


def _misfit(net: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor, answers: Task) -> ModelError:
    wanted, hint = answers.outputs, ""
    if outputs.dim() > 2:
        hint = "Each row has an axis too many: answer x[:, -1] or x.mean(1)." if outputs.shape[2:] == (wanted,) else ""
    elif last_layer(net, inputs):
        hint = f"Its last layer should have {wanted} outputs."
    return ModelError(
        f"The network returns {tuple(outputs.shape)} for {len(outputs)} rows; the target ({answers.task}) wants "
        f"({len(outputs)}, {wanted}).",
        hint,
    )


def _said(answers: Task, outputs: str | None) -> Link:
    """How outputs become answers by what the user says of them."""
    if outputs is None or outputs == "values":
        return ""
    if outputs == "probabilities":
        return "identity"
    if answers.numeric:
        raise OptionError("Logits are of labels; the task is regression.", "--outputs values")
    return answers.usual_link


def _seen(answers: Task, found: Takes | None, trial: LossTrial) -> Link:
    """How outputs become answers by what the loss does to them."""
    link = found.link if found is not None else trial.watch.link if trial.watch is not None else ""
    if answers.numeric:
        return link if found is not None and answers.shape is None else ""
    fits = {"softmax": answers.exclusive, "sigmoid": not answers.exclusive}
    return link if fits.get(link, True) else ""


def _check_family(family: Family, answers: Task, target: Tensor) -> None:
    if family == "quantities" and not answers.numeric:
        raise OtherTask("quantities")
    whole = answers.numeric and answers.flat and bool((target == target.round()).all())
    if family == "classes" and whole:
        raise OtherTask("classes")


def _is_bounded(net: nn.Module, inputs: tuple[Tensor, ...], names: list[str], answers: Task) -> bool:
    """Whether a network still returns probabilities for inputs a hundred times as large."""
    if not any(x.is_floating_point() for x in inputs):
        return False
    for factor in (1, -100, 100):
        values = ask(net, tuple(x * factor if x.is_floating_point() else x for x in inputs), names)
        values = values.detach().reshape(len(values), -1)
        whole = not answers.exclusive or bool(((values.sum(dim=1) - 1).abs() < 1e-3).all())
        if not whole or not bool(((values >= 0) & (values <= 1)).all()):
            return False
    return True


def _spare(loss: Any) -> Any:
    """A loss to try: of a module a copy, for it may count its calls."""
    try:
        return copied(loss) if isinstance(loss, nn.Module) else loss
    except Exception:  # whatever its parts raise
        return loss


def _in_own_units(answers: Task, target: Tensor) -> Tensor:
    scale, center = (torch.tensor(given, dtype=torch.float64) for given in (answers.scale, answers.center))
    return target.double().cpu() * scale + center if answers.standardised else target


def _backwards(answers: Task) -> ModelError:
    kind = WORDS.get(answers.decoding, "logits")
    return ModelError(
        f"The loss is smaller the less the outputs, taken for {kind}, say of a row's own label: answers would be the "
        "other labels.",
        "Reverse the sign of the loss, or move it into the network. --outputs values answers outputs as they are.",
    )
