"""A loss for each of several heads: which one, how it takes its target, and their sum."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from maas_magics.api.errors import ModelError, OptionError, did_you_mean
from maas_magics.api.specs import TaskSpec
from maas_magics.core.losses.check import LossRequest, OtherTask, fit_loss
from maas_magics.core.losses.own import UNKNOWN, Form, TargetForm
from maas_magics.core.networks.gradients import keep_gradients
from maas_magics.core.networks.in_place import keep_rows
from maas_magics.core.networks.outputs import OneHead
from maas_magics.core.tasks.base import Task


@dataclass(frozen=True)
class Forms:
    """How the loss of each head gets its arguments.

    Attributes
    ----------
    forms : tuple of Form or None
    """

    forms: tuple[Form | None, ...]

    @property
    def doubt(self) -> str:
        """Evidence against answers in the targets' own units."""
        return " ".join(form.doubt for form in self.forms if form is not None and form.doubt)


def parsed(task: TaskSpec) -> dict[str, Any]:
    """Loss and task as they were requested, ``"a=mse,b=cross_entropy"`` and ``"a=regression"`` as dicts.

    Raises
    ------
    OptionError
        If a part of one names no target, or nothing for it.
    """
    return {
        "loss": _parsed(task.loss, "loss", '--loss "a=mse,b=cross_entropy"'),
        "task": _parsed(task.task, "task", '--task "a=regression,b=binary"'),
    }


def _parsed(asked: Any, what: str, example: str) -> Any:
    if not isinstance(asked, str) or "=" not in asked:
        return asked
    pairs = [part.partition("=") for part in asked.split(",") if part.strip()]
    wrong = next((name for name, equals, of in pairs if not (name.strip() and equals and of.strip())), None)
    if wrong is not None:
        raise OptionError(f"{wrong!r} is not of the form target={what}.", example)
    return {name.strip(): of.strip() for name, _, of in pairs}


def is_own(loss: Any) -> bool:
    """Whether a loss, or that of any target, is a function or a module of the user's."""
    return any(map(callable, loss.values())) if isinstance(loss, Mapping) else callable(loss)


def each(asked: Any, heads: Sequence[str], what: str, usual: Any) -> tuple[Any, ...]:
    """The option of each head: of a dict by its name, else the same for all.

    Raises
    ------
    OptionError
        If it names a head that there is not.
    """
    if not isinstance(asked, Mapping):
        return (asked,) * len(heads)
    strange = next((str(name) for name in asked if name not in heads), None)
    if strange is not None:
        raise OptionError(f"There is no target {strange!r} for a {what}.", did_you_mean(strange, heads))
    return tuple(asked.get(name, usual) for name in heads)


class ClassWeighted:
    """Loss of a head whose classes count differently: the mean over rows, each times the weight of its class.

    Unlike one that is divided by the weights of each batch, it is the same in however many parts a batch comes.

    Parameters
    ----------
    rowwise : callable
        ``(outputs, target) -> losses``, one for each row.
    weights : Tensor, shape (classes,)
        Mean 1 over the training rows.
    mean : bool
        Whether the mean is taken, rather than the loss of each row.
    """

    def __init__(self, rowwise: Callable[[Tensor, Tensor], Tensor], weights: Tensor, *, mean: bool) -> None:
        self.rowwise, self.weights, self.mean = rowwise, weights, mean

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch; without ``mean`` (n,)."""
        losses = self.rowwise(outputs, target).reshape(len(target), -1).mean(dim=1)
        losses = losses * self.weights[target.reshape(-1).long()]
        return losses.mean() if self.mean else losses


class SumOfLosses:
    """Weighted sum of the losses of several heads.

    Parameters
    ----------
    losses : sequence of callable
        ``(outputs, target) -> losses``, one for each head.
    answers : Task
        One of several heads.
    rowwise : bool
        Whether each gives a loss for each row, or for each number of it, rather than their mean.
    """

    def __init__(
        self, losses: Sequence[Callable[[Tensor, Tensor], Any]], answers: Task, *, rowwise: bool = False
    ) -> None:
        self.losses, self.answers, self.rowwise = tuple(losses), answers, rowwise

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The sum of a batch; with ``rowwise`` (n,)."""
        answers = self.answers
        total: Any = None
        for loss, weight, part, wanted in zip(
            self.losses, answers.part_weights, answers.outputs_of(outputs), answers.targets_of(target), strict=True
        ):
            value = loss(part, wanted)
            if self.rowwise:
                value = value.reshape(len(wanted), -1).mean(dim=1)
            value = value if weight == 1 else value * weight
            total = value if total is None else total + value
        found: Tensor = total
        return found


def fit_in_heads(
    net: nn.Module,
    rows: Sequence[tuple[int, ...]],
    inputs: tuple[Tensor, ...],
    target: Tensor,
    answers: Task,
    names: list[str],
    asked: LossRequest,
    weights: Mapping[str, float],
    givens: Sequence[TargetForm],
    notify: Callable[[str], None],
) -> tuple[Task, Forms]:
    """Check that each head of a module answers its target, as `fit_loss` does for one.

    Parameters
    ----------
    net : nn.Module
        Its heads side by side; see `maas_magics.core.networks.outputs.pick`.
    rows : sequence of tuple of int
        Shape of what each head answers for a row.
    inputs, target, answers, names
        As `fit_loss` takes them.
    asked : LossRequest
        Its loss for each head, or for all.
    weights : mapping of str to float
        Weight of each head's loss, 1 where it is left out.
    givens : sequence of TargetForm
        How each target came.
    notify : callable

    Raises
    ------
    ModelError, OptionError
    OtherTask
        With a family by head.
    """
    keep_rows(net.eval(), inputs)
    keep_gradients(net, tuple(x[:2] for x in inputs))
    losses = each(asked.loss, answers.names, "loss", "auto")
    tasks = each(asked.task, answers.names, "task", None)
    fitted: list[Task] = []
    forms: list[Form | None] = []
    begin = 0
    targets = answers.targets_of(target)
    for place, (name, head) in enumerate(zip(answers.names, answers.parts, strict=True)):
        one = OneHead(net, begin, rows[place])
        begin += math.prod(rows[place])
        own = replace(asked, loss=losses[place], task=tasks[place], given=givens[place] if givens else UNKNOWN)
        say = _saying(name, notify)
        try:
            found, form = fit_loss(one, inputs, targets[place], head, names, own, say)
        except OtherTask as other:
            raise OtherTask({name: other.family}, other.raw) from None
        except (ModelError, OptionError) as error:
            raise type(error)(f"The target {name!r}: {error.message}", error.hint) from error.__cause__
        fitted.append(found)
        forms.append(form)
    told = tuple(float(weight) for weight in each(weights, answers.names, "weight of a loss", 1.0))
    bad = next((weight for weight in told if not 0 <= weight < math.inf), None)
    if bad is not None or not any(told):
        raise OptionError(f"A loss cannot weigh {bad if bad is not None else 0:g}.", "--loss-weights a=1,b=0.5")
    widths = tuple(math.prod(row) for row in rows)
    return answers.with_parts(fitted, widths, told), Forms(tuple(forms))


def _saying(name: str, notify: Callable[[str], None]) -> Callable[[str], None]:
    return lambda text: notify(f"{name}: {text}")
