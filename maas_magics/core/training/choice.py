"""Which network learns some rows where no one names one: by their kind and number, the device, and a budget."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch

from maas_magics.api.errors import MaasError
from maas_magics.api.specs import Specs
from maas_magics.core.architectures import Architecture, architectures
from maas_magics.core.batches.training_rows import TrainingRows
from maas_magics.core.training.candidates import kind_of, lined_up, why_not
from maas_magics.core.training.objective import make_objective
from maas_magics.core.training.resolve import resolve, step_spec_of
from maas_magics.core.training.steps.step import TrainStep
from maas_magics.core.training.steps.step_spec import make_learner

STEPS = 4
"""Steps that are timed; the first one is not counted."""

GROWN = 2_000
"""Rows that a network which learns in a way of its own is timed on."""

ENDS_EARLY = 0.5
"""Share of its epochs that a training takes which ends where no epoch is better, about."""


class Choice(NamedTuple):
    """What was chosen.

    Attributes
    ----------
    name : str
        Of an architecture.
    why : str
        What spoke for it beside the rows and the device; empty where nothing did.
    """

    name: str
    why: str = ""


def choose(found: TrainingRows, specs: Specs, device: torch.device) -> Choice:
    """The network for some rows.

    Without a budget the dearest one that is worth it for so many rows, and that is not too heavy for the device: the
    same each time. With one, the dearest of these that a few steps, timed here, say ends within it; else the cheapest.

    Parameters
    ----------
    found : TrainingRows
        As they were laid out for the usual network of their kind.
    specs : Specs
        Of the request. Hyperparameters, and names of layers, belong to the usual network.
    device : torch.device
        Where it is trained.
    """
    model, budget = specs.model, specs.run.most_seconds
    usual, answers = Choice(found.chosen), found.prepared.answers
    kind = kind_of(found.prepared.processor, answers, found.chosen)
    parts = model.freeze, model.unfreeze, model.probe, model.lora, specs.optimizer.lr_of
    if model.params or any(parts) or answers.parts:
        return usual
    each = {name: architectures.get(name) for name in lined_up(kind) if not why_not(name, specs)}
    if found.stream is not None:
        each = {name: one for name, one in each.items() if not one.learns}  # from all rows at once
    light = budget is None and device.type == "cpu"
    worth = [name for name, one in each.items() if one.suits[kind] <= found.rows and not (light and one.heavy)]
    late = [name for name, one in each.items() if one.suits[kind] > found.rows]
    alike = [name for name in worth if _laid_alike(each[name], found)]
    if budget is None:
        return Choice(alike[-1], _from(late, each, kind)) if alike else usual
    longer = ""
    for name in reversed(alike):
        try:
            seconds = seconds_of(each[name], found, specs, device)
        except MaasError:
            continue  # it does not go with something that was requested
        if seconds <= budget:
            return Choice(name, f"it takes about {in_words(seconds)}{longer}")
        longer = longer or f", {name} about {in_words(seconds)}"
    if not worth:
        return usual
    return Choice(next(iter(each)), f"the cheapest{longer and f', since {longer[2:]} would be needed'}")


def _laid_alike(architecture: Architecture, found: TrainingRows) -> bool:
    """Whether it takes rows as they are laid out."""
    return found.layout in (architecture.layout, architecture.arrays)


def _from(late: list[str], each: dict[str, Architecture], kind: str) -> str:
    """From how many rows on another network is worth it."""
    if not late:
        return ""
    least = min(late, key=lambda name: each[name].suits[kind])
    return f"{least} is worth it from {each[least].suits[kind]:,} rows on"


def seconds_of(architecture: Architecture, found: TrainingRows, specs: Specs, device: torch.device) -> float:
    """About how long a training takes, by a few of its steps; random numbers are as they were after it.

    Parameters
    ----------
    architecture : Architecture
    found : TrainingRows
    specs : Specs
        Of the request.
    device : torch.device
        Where it is trained.

    Raises
    ------
    MaasError
        If it does not go with what was requested.
    """
    prepared, rows = found.prepared, found.rows
    said = resolve(specs, architecture.recipe(rows, prepared.answers), device)
    share = ENDS_EARLY if said.budget.patience and "epochs" in said.usual else 1.0
    epochs = share * said.budget.epochs
    inputs, target = (x.to(device) for x in prepared.train[0]), prepared.train[1].to(device)
    given = tuple(inputs)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        net = architecture.build(prepared.processor.inputs, prepared.answers, specs.model.params)
        initialise = getattr(net, "initialise", None)
        if callable(initialise):
            initialise(*prepared.train[0])
        net.to(device).train()
        if architecture.learns:
            few = min(len(target), GROWN)
            begun = time.perf_counter()
            learn: Any = net.learn
            learn(tuple(x[:few] for x in given), target[:few], None, said.optimizer.lr, specs.optimizer.seed)
            return (time.perf_counter() - begun) * rows / few * epochs
        optimizer, _ = make_learner(step_spec_of(said), net)
        step = TrainStep(net, optimizer, make_objective(said.task, prepared, device).loss)
        size = min(said.budget.batch_size, rows)
        places = torch.arange(size, device=device) % len(target)
        batch, wanted = tuple(x[places] for x in given), target[places]
        taken = []
        for _ in range(STEPS):
            begun = time.perf_counter()
            step(batch, wanted)
            taken.append(time.perf_counter() - begun)
    return min(taken[1:]) * max(1, rows // size) * epochs


def in_words(seconds: float) -> str:
    """A length of time of about so many seconds."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5_400 else f"{seconds / 3600:.1f} h"
