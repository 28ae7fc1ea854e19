"""The loss of a request, by name or as the user's own, and the task that it implies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.core.losses.check import Families
from maas_magics.core.losses.heads import ClassWeighted, Forms, SumOfLosses, each
from maas_magics.core.losses.known import known
from maas_magics.core.losses.own import Form, OwnLoss
from maas_magics.core.networks.blame import name_of
from maas_magics.core.tasks.base import Family, Task, TaskName
from maas_magics.core.tasks.class_weights import weights_of
from maas_magics.core.tasks.fit import is_of_quantities
from maas_magics.core.tasks.losses import CLASSES, LABELS, LOSSES, REGRESSION, Loss

OUTPUTS = ("logits", "probabilities", "values")
"""What a network's outputs may be declared as."""


def task_of(loss: Any, task: TaskName | Mapping[str, TaskName] | None, outputs: str | None = None) -> Families | None:
    """Task or family of tasks that a loss, or the declared kind of outputs, implies; a requested one takes precedence.

    Of a dict of losses, or of tasks, one for each target, it is those of each.

    Raises
    ------
    OptionError
        If there is no loss of that name, or they do not go together.
    """
    if isinstance(loss, Mapping) or isinstance(task, Mapping):
        losses = loss if isinstance(loss, Mapping) else dict.fromkeys(task or (), loss)
        tasks = task if isinstance(task, Mapping) else dict.fromkeys(losses, task)
        names = dict.fromkeys((*losses, *tasks))
        return {str(name): _task_of(losses.get(name, "auto"), tasks.get(name), outputs) for name in names}
    return _task_of(loss, task, outputs)


def _task_of(loss: Any, task: TaskName | None, outputs: str | None) -> TaskName | Family | None:
    if outputs is not None and outputs not in OUTPUTS:
        raise OptionError(f"There are no outputs {outputs!r}.", did_you_mean(str(outputs), OUTPUTS))
    if isinstance(loss, str) and loss != "auto" and loss not in LOSSES:
        raise OptionError(f"There is no loss {loss!r}.", did_you_mean(loss, LOSSES))
    takes = known(loss) if callable(loss) else None
    if outputs == "values" and ((task is not None and not is_of_quantities(task)) or loss in (*CLASSES, *LABELS)):
        raise OptionError(
            f"Values are of quantities; {f'the task is {task}' if task else f'the loss {loss!r} is for labels'}.",
            "--outputs logits",
        )
    if task is not None:
        if takes is not None and is_of_quantities(task) != is_of_quantities(takes.family) and takes.family == "classes":
            raise OptionError(f"The loss {name_of(loss)} is for labels; the task is regression.", "--loss mse")
        return task
    if outputs == "values":
        return "quantities"
    if takes is not None:
        return takes.family
    return "regression" if loss in REGRESSION else "choice" if loss in CLASSES else None


def make_loss(
    loss: Any,
    task: Task,
    weights: Tensor | None,
    smoothing: float,
    form: Form | Forms | None = None,
    reduction: str = "mean",
) -> Loss:
    """Loss ``(outputs, target) -> scalar``, by name as `Task.loss` makes it.

    Parameters
    ----------
    loss : str, callable, or dict of them
        Of several heads, one for each, or the same for all.
    task : Task
    weights : Tensor or None
        One for each class; of several heads side by side.
    smoothing : float
        Share of the target spread over all classes.
    form : Form, optional
        How a callable gets its arguments; it is handed outputs and encoded target as they are without one.
    reduction : {"mean", "none"}
        ``"none"`` gives a loss for each number of the target; not for a callable.
    """
    if task.parts:
        forms = form.forms if isinstance(form, Forms) else (None,) * len(task.parts)
        asked = each(loss, task.names, "loss", "auto")
        parts = zip(asked, task.parts, forms, weights_of(task, weights), strict=True)
        return SumOfLosses([_of_head(one, head, of, classes, smoothing) for one, head, of, classes in parts], task)
    assert not isinstance(form, Forms)
    return OwnLoss(loss, form) if callable(loss) else task.loss(loss, weights, smoothing, reduction)


def _of_head(loss: Any, head: Task, form: Form | None, classes: Tensor | None, smoothing: float) -> Loss:
    """Loss of one of several heads."""
    if classes is None or callable(loss) or not head.one_label:
        return make_loss(loss, head, classes, smoothing, form)
    return ClassWeighted(make_loss(loss, head, None, smoothing, form, "none"), classes, mean=True)


def mass_of(loss: Any, task: Task, weights: Tensor | None) -> Callable[[Tensor], Tensor] | None:
    """What a batch counts in the mean over several: the weights of its labels, where the loss divides by them.

    None means its rows. A loss of the user's own is taken for a mean over rows.
    """
    return None if callable(loss) else task.mass(weights)
