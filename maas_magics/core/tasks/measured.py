"""Metrics of torchmetrics, which is imported only when one is requested."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from maas_magics.api.errors import OptionError
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.metrics import Metric


def is_of_torchmetrics(item: Any) -> bool:
    """Whether it is a metric of torchmetrics, or its class; torchmetrics is not imported for the answer."""
    kind = item if inspect.isclass(item) else type(item)
    return any(
        base.__module__.startswith("torchmetrics.") and base.__name__ in ("Metric", "MetricCollection")
        for base in kind.__mro__
    )


def find_class(name: str) -> Any:
    """Class of torchmetrics of that name; None where there is none."""
    import torchmetrics
    import torchmetrics.classification

    kind = getattr(torchmetrics, name, None) or getattr(torchmetrics.classification, name, None)
    return kind if inspect.isclass(kind) else None


def names() -> list[str]:
    """What torchmetrics has."""
    import torchmetrics

    return dir(torchmetrics)


def from_class(kind: Any, task: Task) -> Metric:
    """A class of torchmetrics, made for the task."""
    given = task.torchmetrics_arguments()
    if kind.__name__.startswith(("Binary", "Multiclass", "Multilabel")):  # knows its task already
        given = {name: value for name, value in given.items() if name != "task"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics warns that a name has moved
            return Measured(kind(**given), task)
    except (TypeError, ValueError) as error:
        raise OptionError(f"The metric {kind.__name__!r} does not fit {task.task}: {error}") from None


def copies(item: Any, task: Task) -> dict[str, Metric]:
    """A metric that the user made, or each of a collection of them; copies, so that theirs stay as they are."""
    items = getattr(item, "items", None)
    pairs = items(copy_state=False) if callable(items) else [(type(item).__name__, item)]
    return {name: Measured(metric.clone(), task) for name, metric in pairs}


class Measured:
    """A metric of torchmetrics that is handed what it takes: `Metric` for the rest of the package.

    Parameters
    ----------
    metric : torchmetrics.Metric
        An instance; its state is reset for each use.
    task : Task
        The fitted target.

    Attributes
    ----------
    higher_is_better : bool or None
        As torchmetrics declares; None where it does not.
    """

    def __init__(self, metric: Any, task: Task) -> None:
        self._metric, self._task = metric, task
        self.higher_is_better: bool | None = getattr(metric, "higher_is_better", None)

    def __call__(self, decoded: Tensor, target: Tensor) -> float:
        """The metric of some rows."""
        self._metric.reset()
        self.update(decoded, target)
        return self.result()

    def accumulator(self, make: Any) -> Measured:
        """The same with a count of its own, some rows at a time."""
        return Measured(self._metric.clone(), self._task)

    def update(self, decoded: Tensor, target: Tensor, weights: Tensor | None = None) -> None:
        """Take in some rows, which all count alike."""
        name = type(self._metric).__name__
        with self._told():
            self._metric.to(decoded.device).update(*self._task.for_torchmetrics(decoded, target, name))

    def result(self) -> float:
        """The metric of all rows so far."""
        with self._told():
            return float(self._metric.compute())

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (TypeError, ValueError, RuntimeError) as error:
            raise OptionError(
                f"The metric {type(self._metric).__name__} does not fit {self._task.task}: "
                f"{str(error).strip().splitlines()[0][:200]}",
                "Make it for the task, or give its name and leave that to %train.",
            ) from None
