"""The task behind `%train`: request in, published version out."""

from __future__ import annotations

import traceback
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.requests import TrainRequest
from maas_magics.api.results import TrainedModel
from maas_magics.api.specs import Specs
from maas_magics.core.architectures import Recipe, architectures
from maas_magics.core.batches import loaders
from maas_magics.core.batches.captioned import captioned_rows, of_pictures
from maas_magics.core.batches.changed import with_answers
from maas_magics.core.batches.language import language_rows, of_language
from maas_magics.core.batches.lazy import Lazy
from maas_magics.core.batches.own_module import fitted, fitted_heads, own_module
from maas_magics.core.batches.resolved_target import ResolvedTarget, decided
from maas_magics.core.batches.sampler import balanced_order
from maas_magics.core.batches.training_rows import TrainingRows, training_rows
from maas_magics.core.context import Context
from maas_magics.core.data.media import shuffled
from maas_magics.core.losses.heads import is_own
from maas_magics.core.networks.adapters import LoRA, adapt, merged
from maas_magics.core.networks.blame import as_ours
from maas_magics.core.tasks.class_weights import balanced_heads
from maas_magics.core.tracing import tracing_waits, training_lock, yield_lock
from maas_magics.core.training.baseline import labels_of_one_row
from maas_magics.core.training.checkpoint import Checkpoints
from maas_magics.core.training.checks import check_heads, check_labels, check_learns, check_workers
from maas_magics.core.training.choice import Choice, choose
from maas_magics.core.training.counting import Counting
from maas_magics.core.training.fingerprint import architecture_of
from maas_magics.core.training.probe import behind, could_be_kept, parted, recipe_of
from maas_magics.core.training.resolve import checked, resolve
from maas_magics.core.training.run import TrainingRun
from maas_magics.core.training.steps.devices import find_device
from maas_magics.core.training.steps.out_of_memory import error_of, is_out_of_memory
from maas_magics.core.training.steps.random_numbers import own_random

T = TypeVar("T")


MODULE = Recipe(optimizer="Adam", lr=1e-3, epochs=20, batch_size=32)
"""How a module of the user's is trained by default."""


def train(request: TrainRequest, context: Context) -> TrainedModel:
    """Fit, choose the best epoch, publish.

    Raises
    ------
    MaasError
        For an invalid request, before anything is written.
    """
    specs = checked(request)
    cuda = list(range(torch.cuda.device_count()))
    others = own_random() if specs.run.resume else nullcontext()
    with training_lock(), torch.random.fork_rng(devices=cuda), others, shuffled():
        torch.manual_seed(specs.optimizer.seed)
        try:
            return _train(specs, context)
        except BaseException as error:
            ours = as_ours(error, "The training fails") if isinstance(error, Exception) else None
            _release(error)
            if is_out_of_memory(error):
                raise error_of(error) from None
            if ours is None or ours is error:
                raise
            raise ours from error


def _release(error: BaseException | None) -> None:
    """Empty the frames that an error came through, so that no tensor lives as long as the error does."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _train(specs: Specs, context: Context) -> TrainedModel:
    device = find_device(specs.run.device)
    specs = _as_begun(specs, context)
    return decided(specs, lambda specs, meant: _train_for(specs, context, device, meant))


def _as_begun(specs: Specs, context: Context) -> Specs:
    """Specs with the architecture that a training which continues has begun with, where no one names one.

    What is usual may have become another one since.
    """
    if specs.model.model != "auto" or context.checkpoints is None:
        return specs
    begun = architecture_of(Checkpoints(context.checkpoints).marks_before())
    return specs.having("model", model=begun) if begun in architectures else specs


def _train_for(specs: Specs, context: Context, device: torch.device, meant: ResolvedTarget) -> TrainedModel:
    data, model, run, seed = specs.data, specs.model, specs.run, specs.optimizer.seed
    named = isinstance(model.model, str)
    if loaders.is_loader(data.data):
        if not named:
            if data.balance:
                raise OptionError(
                    "A loader draws its own rows.", "Drop --balance; give it a torch.utils.data.WeightedRandomSampler."
                )
            with loaders.prepared_loader(specs, meant.task, device, context.notify) as made:
                net, prepared, recipe, batches, held = made
                check_labels(specs.task, prepared.answers)
                return TrainingRun(resolve(specs, recipe, device), context, net, prepared, batches, held, device)()
        rows_of = loaders.materialised(data, run.loader_workers, seed)
        if isinstance(rows_of["data"], dict):
            raise DataError("An architecture by name takes items (x, y).", "--model NET takes several inputs.")
        specs = specs.having("data", **rows_of).having("run", loader_workers=None)
        data = specs.data
    if of_language(specs):
        found = language_rows(specs, context.notify)
    elif of_pictures(specs):
        found = captioned_rows(specs, context.notify)
    else:
        found = training_rows(specs, meant, context.notify, lambda: _pause(context))
    choice = None
    if model.model == "auto":
        found, choice = _chosen(found, specs, meant, device)
    prepared = found.prepared
    rows = found.rows
    if named:
        architecture = architectures.get(found.chosen)
        check_heads(found.chosen, architecture, prepared.answers)
        recipe = recipe_of(architecture, found.chosen, model)(rows, prepared.answers)
        loss = specs.task.loss
        if recipe.clamp and not is_own(loss):
            prepared = with_answers(prepared, prepared.answers.clamped(found.learnt))
        net = architecture.build(prepared.processor.inputs, prepared.answers, model.params)
        initialise = getattr(net, "initialise", None)
        if callable(initialise):
            initialise(*prepared.train[0])
        if architecture.probe is not None and model.freeze and could_be_kept(net, model):
            context.notify("The pretrained network is frozen: --probe computes what it makes of each row once.")
        if model.lora is not None:
            adapt(net, LoRA.parse(model.lora))
        prepared = with_answers(prepared, prepared.answers.of_network(net))
        if specs.budget.epochs == 0:
            if architecture.pretrained is None:
                raise OptionError(f"{found.chosen} begins with random weights; 0 epochs keep them.", "--epochs 10")
            specs = specs.having("optimizer", schedule="constant", warmup=0.0)  # of no steps, none has an end
        if prepared.answers.parts:
            shapes = tuple((head.outputs,) for head in prepared.answers.parts)
            prepared = fitted_heads(model, specs.task, net, prepared, shapes, [], context.notify)
        elif callable(loss) or model.outputs is not None:
            prepared = fitted(model, specs.task, net, prepared, [], context.notify)
    else:
        recipe = MODULE
        net, prepared = own_module(model, specs.task, data, prepared, found.layout, context.notify)
    if data.balance and prepared.answers.parts:
        weights = balanced_heads(prepared.answers, specs.task.class_weights)
        specs = specs.having("task", class_weights=weights).having("data", balance=False)
        data = specs.data
        context.notify("Rows of several targets cannot be drawn in balance; the labels of each count so in its loss.")
    said = resolve(specs, recipe, device)
    size, finds = said.budget.batch_size, said.find_batch_size
    if finds and isinstance(found.stream, Lazy):
        raise OptionError("A size of batches is found on rows that are encoded at once.", "--batch-size 64")
    for doubt in filter(None, (labels_of_one_row(prepared.answers, rows), *prepared.doubts)):
        context.notify(doubt, "warning")
    if named and architectures.get(found.chosen).learns:
        check_learns(specs, rows if finds else min(size, rows), rows, in_memory=found.stream is None)
    if run.workers > 1 and found.stream is not None:
        raise OptionError(found.stream.why_one_process, "--workers 1")
    check_workers(run.workers, device, rows if finds else min(size, rows), found=finds)
    here = device if run.workers == 1 else torch.device("cpu")
    net.to(here)
    draw = None
    if data.balance:
        if found.stream is not None:
            raise OptionError(found.stream.why_in_order, "--class-weights balanced")
        draw = balanced_order(prepared.answers, prepared.train[1])
    counting = Counting.of(data.weights, specs.task.class_weights, prepared)
    with found.batches(prepared, size, here, context.store.work, draw, counting) as (batches, held):
        prepared = counting.counted(prepared)
        check_labels(specs.task, prepared.answers)
        begun = partial(TrainingRun, device=device, architecture=found.chosen, declared=named, choice=choice)
        if model.probe:
            precision, parts = specs.optimizer.precision, parted(net, prepared.answers)
            part = behind(
                parts, prepared, batches, held, size, device, context, precision=precision, number=run.threads
            )
            return begun(said, context, part.net, part.prepared, part.batches, part.held, whole=lambda: net)()
        whole = None if model.lora is None else partial(merged, net)
        return begun(said, context, net, prepared, batches, held, whole=whole)()


def _chosen(
    found: TrainingRows, specs: Specs, meant: ResolvedTarget, device: torch.device
) -> tuple[TrainingRows, Choice]:
    """Rows for the network that is chosen for them."""
    choice = choose(found, specs, device)
    if found.layout not in (architectures.get(choice.name).layout, architectures.get(choice.name).arrays):
        found = training_rows(specs.having("model", model=choice.name), meant, lambda text: None)
    return replace(found, chosen=choice.name), choice


def _pause(context: Context) -> None:
    """Between two chunks of a file: end if someone wants that, and let others trace."""
    context.check_stop()
    if tracing_waits():
        yield_lock()
