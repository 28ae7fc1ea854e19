"""What a target turns out to be, once a loss or a module has seen it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from maas_magics.api.errors import ModelError
from maas_magics.api.specs import Specs
from maas_magics.core.batches.own_module import OneByOne
from maas_magics.core.losses.check import Families, OtherTask
from maas_magics.core.losses.make import task_of
from maas_magics.core.networks.outputs import SeveralHeads

T = TypeVar("T")

MOST_TURNS = 4
"""How often a training is begun anew because its loss, or its module, turns out to take something else."""


@dataclass(frozen=True)
class ResolvedTarget:
    """What a target turns out to be.

    Attributes
    ----------
    task : Task, Family, dict of them by head, or None
        What the loss is for.
    raw : bool
        Whether it is learnt as it came, not in units of its standard deviation.
    several : bool
        Whether each column of it is a target of its own, which a head of the module answers.
    """

    task: Families | None = None
    raw: bool = False
    several: bool = False

    def other(self, other: OtherTask) -> ResolvedTarget:
        """With the task that the loss turned out to be for: of several heads, those that were seen."""
        task = other.family
        if isinstance(task, Mapping):
            before = self.task if isinstance(self.task, Mapping) else {}
            task = {**before, **task}
        return ResolvedTarget(task, self.raw or other.raw, self.several)


def decided(specs: Specs, use: Callable[[Specs, ResolvedTarget], T]) -> T:
    """Use specs with the task that their loss turns out to be for, and columns that go to a module one by one."""
    loss = specs.task.loss
    several = isinstance(loss, Mapping) or isinstance(specs.task.task, Mapping)
    meant = ResolvedTarget(task_of(loss, specs.task.task, specs.model.outputs), several=several)
    for _ in range(MOST_TURNS):
        try:
            return use(specs, meant)
        except OtherTask as other:
            meant = meant.other(other)
        except SeveralHeads:
            meant = replace(meant, several=True)
        except OneByOne as made:
            specs = specs.having("model", model=made.net)
    raise ModelError("The loss takes another target each time.", "Say what is learnt: --task")
