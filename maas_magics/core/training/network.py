"""The network of a training, its rows and its target, made to fit each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from maas_magics.api.errors import OptionError
from maas_magics.api.specs import Specs
from maas_magics.core.architectures import Architecture, Recipe, architectures
from maas_magics.core.batches.changed import with_answers
from maas_magics.core.batches.own_module import fitted, fitted_heads, own_module
from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.batches.training_rows import TrainingRows
from maas_magics.core.losses.heads import is_own
from maas_magics.core.networks.adapters import LoRA, adapt
from maas_magics.core.training.probe import could_be_kept, recipe_of
from maas_magics.core.training.row_checks import check_heads

MODULE = Recipe(optimizer="Adam", lr=1e-3, epochs=20, batch_size=32)
"""How a module of the user's is trained by default."""


@dataclass(frozen=True)
class Built:
    """A network, before its first step.

    Attributes
    ----------
    net : nn.Module
    prepared : Prepared
        Rows and target as the network and the loss take them.
    recipe : Recipe
        How such a network is trained by default.
    """

    net: nn.Module
    prepared: Prepared
    recipe: Recipe


def build(specs: Specs, found: TrainingRows, notify: Callable[[str], None]) -> Built:
    """The network that was requested, or chosen, for some rows.

    Parameters
    ----------
    specs : Specs
    found : TrainingRows
    notify : callable
        Gets a sentence about what is changed for the network.

    Raises
    ------
    MaasError
        If network, rows, target and loss do not go together.
    """
    if not isinstance(specs.model.model, str):
        net, prepared = own_module(specs.model, specs.task, specs.data, found.prepared, found.layout, notify)
        return Built(net, prepared, MODULE)
    architecture, model, prepared = architectures.get(found.chosen), specs.model, found.prepared
    check_heads(found.chosen, architecture, prepared.answers)
    recipe = recipe_of(architecture, found.chosen, model)(found.rows, prepared.answers)
    loss = specs.task.loss
    if recipe.clamp and not is_own(loss):
        prepared = with_answers(prepared, prepared.answers.clamped(found.learnt))
    net = architecture.build(prepared.processor.inputs, prepared.answers, model.params)
    initialise = getattr(net, "initialise", None)
    if callable(initialise):
        initialise(*prepared.train[0])
    if architecture.probe is not None and model.freeze and could_be_kept(net, model):
        notify("The pretrained network is frozen: --probe computes what it makes of each row once.")
    if model.lora is not None:
        adapt(net, LoRA.parse(model.lora))
    prepared = with_answers(prepared, prepared.answers.of_network(net))
    _check_steps(specs, architecture, found.chosen)
    if prepared.answers.parts:
        shapes = tuple((head.outputs,) for head in prepared.answers.parts)
        prepared = fitted_heads(model, specs.task, net, prepared, shapes, [], notify)
    elif callable(loss) or model.outputs is not None:
        prepared = fitted(model, specs.task, net, prepared, [], notify)
    return Built(net, prepared, recipe)


def _check_steps(specs: Specs, architecture: Architecture, name: str) -> None:
    if specs.budget.epochs == 0 and architecture.pretrained is None:
        raise OptionError(f"{name} begins with random weights; 0 epochs keep them.", "--epochs 10")
