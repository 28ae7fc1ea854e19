"""The task behind `%train`: request in, published version out."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import TrainRequest
from maas_magics.api.results import TrainedModel
from maas_magics.api.specs import Specs
from maas_magics.core.architectures import architectures
from maas_magics.core.batches import loaders
from maas_magics.core.batches.preparations import prepared_rows
from maas_magics.core.batches.resolved_target import ResolvedTarget, decided
from maas_magics.core.batches.sampler import balanced_order
from maas_magics.core.batches.training_rows import TrainingRows, training_rows
from maas_magics.core.context import Context
from maas_magics.core.data.media import shuffled
from maas_magics.core.networks.adapters import merged
from maas_magics.core.networks.blame import as_ours
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.class_weights import balanced_heads
from maas_magics.core.tracing import tracing_waits, training_lock, yield_lock
from maas_magics.core.training.baseline import labels_of_one_row
from maas_magics.core.training.checkpoint import Checkpoints
from maas_magics.core.training.choice import Choice, choose
from maas_magics.core.training.counting import Counting
from maas_magics.core.training.fingerprint import architecture_of
from maas_magics.core.training.network import build
from maas_magics.core.training.probe import behind, parted
from maas_magics.core.training.resolve import checked, resolve
from maas_magics.core.training.row_checks import check_labels, check_rows
from maas_magics.core.training.run import TrainingRun
from maas_magics.core.training.steps.devices import find_device
from maas_magics.core.training.steps.out_of_memory import error_of, is_out_of_memory
from maas_magics.core.training.steps.random_numbers import own_random
from maas_magics.core.training.teacher import knows_little, named_teacher, no_rows, taught_by

T = TypeVar("T")


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
    specs = named_teacher(_as_begun(specs, context), context)
    return decided(specs, lambda specs, meant: _train_for(specs, context, device, meant))


def _as_begun(specs: Specs, context: Context) -> Specs:
    """Specs with what a training that continues has begun with: its architecture where no one names one, and its seal.

    What is usual may have become another one since; what was encrypted stays so.
    """
    if context.checkpoints is None:
        return specs
    checkpoints = Checkpoints(context.checkpoints)
    if specs.run.resume and checkpoints.sealed:
        specs = specs.having("run", encrypt=True)
    if specs.model.model != "auto":
        return specs
    begun = architecture_of(checkpoints.marks_before())
    return specs.having("model", model=begun) if begun in architectures else specs


def _train_for(specs: Specs, context: Context, device: torch.device, meant: ResolvedTarget) -> TrainedModel:
    named = isinstance(specs.model.model, str)
    if loaders.is_loader(specs.data.data) and not named:
        return _from_loader(specs, context, device, meant)
    if loaders.is_loader(specs.data.data):
        specs = loaders.in_memory(specs)
    found, choice = prepared_rows(specs, meant, context.notify, lambda: _pause(context)), None
    if specs.model.model == "auto":
        found, choice = _chosen(found, specs, meant, device)
    built = build(specs, found, context.notify)
    net, prepared, rows = built.net, built.prepared, found.rows
    specs = _of_no_steps(_balanced_in_loss(specs, prepared.answers, context.notify))
    said = resolve(specs, built.recipe, device)
    size, run = said.budget.batch_size, specs.run
    for doubt in filter(None, (labels_of_one_row(prepared.answers, rows), *prepared.doubts)):
        context.notify(doubt, "warning")
    check_rows(said, specs, found, device)
    if specs.task.teacher is not None:
        taught = taught_by(specs.task.teacher, found.whole, prepared.answers, context, lambda: _pause(context))
        prepared = replace(prepared, taught=taught)
        if odd := knows_little(specs.task.teacher, taught, prepared.train[1], prepared.answers):
            context.notify(odd, "warning")
    here = device if run.workers == 1 else torch.device("cpu")
    net.to(here)
    draw = balanced_order(prepared.answers, prepared.train[1]) if specs.data.balance else None
    counting = Counting.of(specs.data.weights, specs.task.class_weights, prepared)
    with found.batches(prepared, size, here, context.store.work, draw, counting) as (batches, held):
        prepared = counting.counted(prepared)
        check_labels(specs.task, prepared.answers)
        begun = partial(TrainingRun, device=device, architecture=found.chosen, declared=named, choice=choice)
        if specs.model.probe:
            precision, parts = specs.optimizer.precision, parted(net, prepared.answers)
            part = behind(
                parts, prepared, batches, held, size, device, context, precision=precision, number=run.threads
            )
            return begun(said, context, part.net, part.prepared, part.batches, part.held, whole=lambda: net)()
        whole = None if specs.model.lora is None else partial(merged, net)
        return begun(said, context, net, prepared, batches, held, whole=whole)()


def _from_loader(specs: Specs, context: Context, device: torch.device, meant: ResolvedTarget) -> TrainedModel:
    """A module of the user's on batches of a loader, which draws its own rows."""
    if specs.task.teacher is not None:
        raise no_rows()
    if specs.data.balance:
        raise OptionError(
            "A loader draws its own rows.", "Drop --balance; give it a torch.utils.data.WeightedRandomSampler."
        )
    with loaders.prepared_loader(specs, meant.task, device, context.notify) as made:
        net, prepared, recipe, batches, held = made
        check_labels(specs.task, prepared.answers)
        return TrainingRun(resolve(specs, recipe, device), context, net, prepared, batches, held, device)()


def _of_no_steps(specs: Specs) -> Specs:
    """Specs whose learning rate is constant where there is no epoch: of no steps, none has an end."""
    if specs.budget.epochs != 0:
        return specs
    return specs.having("optimizer", schedule="constant", warmup=0.0)


def _balanced_in_loss(specs: Specs, answers: Task, notify: Callable[[str], None]) -> Specs:
    """Specs with weights of the labels of several targets, whose rows cannot all be drawn in balance."""
    if not (specs.data.balance and answers.parts):
        return specs
    notify("Rows of several targets cannot be drawn in balance; the labels of each count so in its loss.")
    weights = balanced_heads(answers, specs.task.class_weights)
    return specs.having("task", class_weights=weights).having("data", balance=False)


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
