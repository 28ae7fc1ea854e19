"""From what was requested to what a training goes by. Nothing below its entry reads the request.

`checked` takes a request apart, and refuses an invalid one; `resolve` fills in what the recipe of a network
says where nothing was requested, which is known once the rows are.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import torch

from maas_magics.api.requests import TrainRequest, specs_of
from maas_magics.api.specs import BudgetSpec, Specs
from maas_magics.core.architectures import Recipe, named_base
from maas_magics.core.batches.preparations import completed
from maas_magics.core.losses.heads import parsed
from maas_magics.core.networks.adapters import LoRA
from maas_magics.core.store.models import check_name
from maas_magics.core.training.checks import check_request
from maas_magics.core.training.specs import BudgetFigures, OptimizerFigures, Resolved, TaskFigures
from maas_magics.core.training.steps.precision import computes_bf16
from maas_magics.core.training.steps.step_spec import ChosenOptimizer, StepSpec

F = TypeVar("F", bound=msgspec.Struct)


def checked(request: TrainRequest) -> Specs:
    """The parts of a request, checked.

    Raises
    ------
    MaasError
        For a name, a count, a rate or a model that cannot.
    """
    check_name(request.name)
    check_request(request)
    specs = completed(specs_of(request))
    if isinstance(specs.model.model, str):
        name, params = named_base(specs.model.model, specs.model.params)
        specs = specs.having("model", model=name, params=params)
    if specs.model.lora is not None:
        specs = specs.having("model", lora=str(LoRA.parse(specs.model.lora)))
    return specs.having("task", **parsed(specs.task))


def resolve(specs: Specs, recipe: Recipe, device: torch.device) -> Resolved:
    """What was requested, and a recipe's values for the rest.

    An optimizer that was requested by name gets nothing of what the recipe says of its own.
    """
    asked, budget = specs.optimizer, specs.budget
    own = asked.optimizer is None
    find_lr, find_batch_size = asked.lr == "auto", budget.batch_size == "auto"
    asked = msgspec.structs.replace(
        asked,
        lr=None if find_lr else asked.lr,
        optimizer_params={**(recipe.optimizer_params if own else {}), **asked.optimizer_params},
    )
    budget = msgspec.structs.replace(budget, batch_size=None if find_batch_size else budget.batch_size)
    usual: dict[str, Any] = {
        "optimizer": recipe.optimizer,
        "lr": recipe.lr if own else None,
        "weight_decay": recipe.weight_decay if own else None,
        "schedule": recipe.schedule,
        "precision": "bf16" if recipe.bf16 and computes_bf16(device) else "fp32",
        "epochs": recipe.epochs,
        "patience": recipe.patience,
        "batch_size": recipe.batch_size,
        "monitor": recipe.monitor,
        "label_smoothing": recipe.label_smoothing,
        "ema": _ema(recipe, budget),
    }
    said = {name: value for spec in (specs.task, asked, budget) for name, value in msgspec.structs.asdict(spec).items()}
    left = tuple(name for name in usual if said[name] in (None, ""))
    said |= {name: usual[name] for name in left}

    def filled(kind: type[F]) -> F:
        return kind(**{name: said[name] for name in kind.__struct_fields__})

    return Resolved(
        name=specs.name,
        data=specs.data,
        model=specs.model,
        task=filled(TaskFigures),
        optimizer=filled(OptimizerFigures),
        budget=filled(BudgetFigures),
        run=specs.run,
        find_lr=find_lr,
        find_batch_size=find_batch_size,
        usual=left,
    )


def _ema(recipe: Recipe, budget: BudgetSpec) -> float | None:
    """A recipe's decay of the average for steps of another size, so that it reaches over as many rows."""
    if recipe.ema is None:
        return None
    size = budget.batch_size if isinstance(budget.batch_size, int) else recipe.batch_size
    decay: float = recipe.ema ** (size * budget.accumulate / recipe.batch_size)
    return decay


def step_spec_of(said: Resolved) -> StepSpec:
    """What it says of the steps, for them alone."""
    optimizer, model = said.optimizer, said.model
    return StepSpec(
        optimizer=ChosenOptimizer(
            optimizer.optimizer, optimizer.lr, optimizer.weight_decay, dict(optimizer.optimizer_params)
        ),
        schedule=optimizer.schedule,
        schedule_params=dict(optimizer.schedule_params),
        warmup=optimizer.warmup,
        precision=optimizer.precision,
        accumulate=said.budget.accumulate,
        clip=optimizer.clip,
        ema=optimizer.ema,
        freeze=tuple(model.freeze),
        unfreeze=dict(model.unfreeze),
        lr_of=dict(optimizer.lr_of),
    )
