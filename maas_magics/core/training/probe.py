"""Training of what is behind a pretrained part that stays as it is: the part is asked once for each row."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import nn

from maas_magics.api.errors import OptionError
from maas_magics.api.events import Progress
from maas_magics.api.specs import ModelSpec
from maas_magics.core.architectures import Architecture, Recipe
from maas_magics.core.batches.batches import Batches
from maas_magics.core.batches.behind import KEPT, Computed, Fixed, kept, kept_uneven
from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.context import Context
from maas_magics.core.memory import in_words
from maas_magics.core.networks.parted import Parted
from maas_magics.core.tasks.base import Task
from maas_magics.core.training.checks import not_pretrained
from maas_magics.core.training.steps.devices import threads
from maas_magics.core.training.steps.precision import DTYPES, computes_bf16

FEW = 8
"""Rows that steps are tried on before the training."""


def recipe_of(architecture: Architecture, name: str, model: ModelSpec) -> Callable[[int, Task], Recipe]:
    """How a network is best trained: whole, what is behind its pretrained part, or adapters in that part.

    Raises
    ------
    OptionError
        If it has no such part.
    """
    if not model.probe and model.lora is None:
        return architecture.recipe
    found = architecture.probe if model.probe else architecture.lora
    if found is None:
        raise not_pretrained("--probe" if model.probe else "--lora", name)
    return found


def could_be_kept(net: nn.Module, model: ModelSpec) -> bool:
    """Whether all of a network's pretrained parts are frozen for good, as after ``--freeze "encoders.*"``.

    Parameters
    ----------
    net : nn.Module
        Its modules name what has pretrained weights ``pretrained``.
    model : ModelSpec
        What is frozen.
    """
    parts = [part for one in net.modules() if isinstance(part := getattr(one, "pretrained", None), nn.Module)]
    pretrained = {id(parameter) for part in parts for parameter in part.parameters()}
    names = [name for name, parameter in net.named_parameters() if id(parameter) in pretrained]
    frozen = all(any(fnmatchcase(name, pattern) for pattern in model.freeze) for name in names)
    return bool(names) and frozen and not model.unfreeze


def parted(net: nn.Module, answers: Task) -> Parted:
    """The part of a network that stays as it is, and the one behind it.

    Raises
    ------
    OptionError
        If it does not fall into such parts.
    """
    found: Callable[[], Parted] | None = getattr(net, "parted", None)
    if found is None:
        raise OptionError(
            f"--probe trains what is behind a pretrained network; for the task {answers.task} there is nothing.",
            "--lora r=8, or drop --probe.",
        )
    return found()


@dataclass(frozen=True)
class Behind:
    """What is trained behind a part that stays as it is.

    Attributes
    ----------
    net : nn.Module
    prepared : Prepared
        With rows as that part makes them.
    batches, held : Batches
    """

    net: nn.Module
    prepared: Prepared
    batches: Batches
    held: Batches | None


def behind(
    parted: Parted,
    prepared: Prepared,
    batches: Any,
    held: Any,
    size: int,
    device: torch.device,
    context: Context,
    *,
    precision: str | None,
    number: int | None,
) -> Behind:
    """Rows as the fixed part of a network makes them, and the network behind it.

    Parameters
    ----------
    parted : Parted
        On its device.
    prepared : Prepared
    batches, held : Batches
        Of training rows and held-out ones.
    size : int
        Rows of a batch.
    device : torch.device
    context : Context
    precision : str or None
        Arithmetic of the fixed part; bf16 where the device has instructions for it when None.
    number : int or None
        CPU threads.
    """
    name = precision or ("bf16" if computes_bf16(device) else "fp32")
    lower = DTYPES.get(name)
    fixed = Fixed(parted.fixed, nullcontext if lower is None else lambda: torch.autocast(device.type, lower))
    parts = [batches] if held is None else [batches, held]
    whole, done = sum(part.rows for part in parts), 0

    def progress(rows: int) -> None:
        nonlocal done
        done += rows
        context.check_stop()
        context.emit(Progress(done=done, total=whole))

    parameters = sum(p.numel() for p in parted.fixed.parameters())
    made: list[Batches] = []
    total = 0
    keep = partial(kept_uneven, padding=parted.padding) if parted.padding else kept
    with threads(number, parameters, size, wide=True):
        for part in parts:
            found, taken = keep(part, fixed, size, device, KEPT - total, progress)
            total += taken
            made.append(found or Computed(part, fixed))
        first = made[0]
        if isinstance(first, Computed):
            few = fixed(tuple(x[:FEW].to(device) for x in prepared.train[0]))
        else:
            few = tuple(x[:FEW] for x in next(first.whole())[0])
    context.notify(_told(made, whole, total, name))
    prepared = replace(prepared, train=(tuple(x.cpu() for x in few), prepared.train[1]))
    return Behind(parted.behind, prepared, made[0], made[1] if held is not None else None)


def _told(made: list[Batches], rows: int, total: int, precision: str) -> str:
    if any(isinstance(part, Computed) for part in made):
        return (
            f"What the pretrained network makes of {rows:,} rows takes more than the {in_words(KEPT)} that are kept: "
            "it is computed in each epoch."
        )
    told = f"What the pretrained network makes of {rows:,} rows is computed once, in {precision}, and kept"
    return f"{told}: {in_words(total)}."
