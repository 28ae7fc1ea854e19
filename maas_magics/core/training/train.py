"""The task behind `%train`: request in, published version out."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from maas_magics.api.errors import DataError, ModelError, OptionError
from maas_magics.api.requests import TrainRequest, is_named_split, specs_of
from maas_magics.api.results import TrainedModel
from maas_magics.api.specs import DataSpec, Specs
from maas_magics.core.architectures import Recipe, architectures
from maas_magics.core.context import Context
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import is_text
from maas_magics.core.data.target_values import Beside
from maas_magics.core.features.base import Layout
from maas_magics.core.losses.check import Families, OtherTask
from maas_magics.core.losses.ignored import ignored_by
from maas_magics.core.losses.make import task_of
from maas_magics.core.networks.blame import as_ours
from maas_magics.core.networks.outputs import SeveralHeads
from maas_magics.core.tasks.several import heads_of
from maas_magics.core.tracing import tracing_waits, training_lock, yield_lock
from maas_magics.core.training.baseline import labels_of_one_row
from maas_magics.core.training.batches import loaders
from maas_magics.core.training.batches.batches import Batches, InMemory, rows_at_once
from maas_magics.core.training.batches.changed import with_answers
from maas_magics.core.training.batches.inputs import chosen_of
from maas_magics.core.training.batches.lazy import Lazy
from maas_magics.core.training.batches.own_module import OneByOne, fitted, own_module
from maas_magics.core.training.batches.prepare import (
    Prepared,
    Rows,
    as_array,
    layout_of,
    one_by_name,
    prepare,
    read,
    standardises,
)
from maas_magics.core.training.batches.sampler import balanced_order
from maas_magics.core.training.batches.streaming import Stream, streamed_source
from maas_magics.core.training.checks import check_labels, check_workers
from maas_magics.core.training.counting import Counting
from maas_magics.core.training.resolve import checked, resolve
from maas_magics.core.training.run import Run
from maas_magics.core.training.steps.devices import find_device
from maas_magics.core.training.steps.out_of_memory import error_of, is_out_of_memory
from maas_magics.core.training.steps.random_numbers import own_random

T = TypeVar("T")

MOST_TURNS = 4
"""How often a training is begun anew because its loss, or its module, turns out to take something else."""

MODULE = Recipe(optimizer="Adam", lr=1e-3, epochs=20, batch_size=32)
"""How a module of the user's is trained where nothing else is said."""


def train(request: TrainRequest, context: Context) -> TrainedModel:
    """Fit, choose the best epoch, publish.

    Raises
    ------
    MaasError
        For a request that makes no sense, before anything is written.
    """
    specs = checked(request)
    cuda = list(range(torch.cuda.device_count()))
    others = own_random() if specs.run.resume else nullcontext()
    with training_lock(), torch.random.fork_rng(devices=cuda), others:
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
    return _decided(specs, lambda specs, meant: _train_for(specs, context, device, meant))


@dataclass(frozen=True)
class Meant:
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

    def other(self, other: OtherTask) -> Meant:
        """With the task that the loss turned out to be for: of several heads, those that were seen."""
        task = other.family
        if isinstance(task, Mapping):
            before = self.task if isinstance(self.task, Mapping) else {}
            task = {**before, **task}
        return Meant(task, self.raw or other.raw, self.several)


def _decided(specs: Specs, use: Callable[[Specs, Meant], T]) -> T:
    """Use specs with the task that their loss turns out to be for, and columns that go to a module one by one."""
    loss = specs.task.loss
    meant = Meant(task_of(loss, specs.task.task, specs.model.outputs), several=isinstance(loss, Mapping))
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


def _train_for(specs: Specs, context: Context, device: torch.device, meant: Meant) -> TrainedModel:
    data, model, run, seed = specs.data, specs.model, specs.run, specs.optimizer.seed
    named = isinstance(model.model, str)
    if loaders.is_loader(data.data):
        if not named:
            if data.balance:
                raise OptionError(
                    "A loader draws its own rows.", "Drop --balance; give it a torch.utils.data.WeightedRandomSampler."
                )
            with loaders.prepared_loader(specs, meant.task, device, context.tell) as made:
                net, prepared, recipe, batches, held = made
                check_labels(specs.task, prepared.answers)
                return Run(resolve(specs, recipe), context, net, prepared, batches, held, device)()
        rows_of = loaders.materialised(data, run.loader_workers, seed)
        if isinstance(rows_of["data"], dict):
            raise DataError("An architecture by name takes items (x, y).", "--model NET takes several inputs.")
        specs = specs.having("data", **rows_of).having("run", loader_workers=None)
        data = specs.data
    found = _prepared(specs, meant, context.tell, lambda: _pause(context))
    prepared = found.prepared
    rows = found.rows
    if named:
        if prepared.answers.parts:
            raise OptionError(
                "An architecture by name answers one target, or several of one kind; several losses are for a module "
                "that answers each.",
                "--model NET, or one loss.",
            )
        architecture = architectures.get(found.chosen)
        recipe = architecture.recipe(rows, prepared.answers)
        loss = specs.task.loss
        if recipe.clamp and not callable(loss):
            prepared = with_answers(prepared, prepared.answers.clamped(found.learnt))
        net = architecture.build(prepared.processor.inputs, prepared.answers, model.params)
        initialise = getattr(net, "initialise", None)
        if callable(initialise):
            initialise(*prepared.train[0])
        if callable(loss) or model.outputs is not None:
            prepared = fitted(model, specs.task, net, prepared, [], context.tell)
    else:
        recipe = MODULE
        net, prepared = own_module(model, specs.task, data, prepared, found.layout, context.tell)
    said = resolve(specs, recipe)
    size, finds = said.budget.batch_size, said.find_batch_size
    if finds and isinstance(found.stream, Lazy):
        raise OptionError("A size of batches is found on rows that are encoded at once.", "--batch-size 64")
    if doubt := labels_of_one_row(prepared.answers, rows):
        context.tell(doubt, "warning")
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
    with _batches(found, prepared, size, here, context, draw, counting) as (batches, held):
        prepared = counting.counted(prepared)
        check_labels(specs.task, prepared.answers)
        return Run(said, context, net, prepared, batches, held, device, found.chosen, named)()


@dataclass(frozen=True)
class _Found:
    """Name and layout of the architecture, and what is fitted on the training rows.

    ``learnt`` holds their targets as they came, or the extremes of them where the rows are streamed.
    """

    chosen: str
    layout: Layout
    rows: int
    learnt: Array
    prepared: Prepared
    stream: Stream | Lazy | None = None


def _pause(context: Context) -> None:
    """Between two chunks of a file: end if somebody wants that, and let others trace."""
    context.go_on()
    if tracing_waits():
        yield_lock()


def _prepared(
    specs: Specs,
    meant: Meant,
    tell: Callable[[str], None],
    pause: Callable[[], None] = lambda: None,
) -> _Found:
    data, model, loss, seed = specs.data, specs.model.model, specs.task.loss, specs.optimizer.seed
    if data.inputs and (isinstance(model, str) or data.stream):
        what = "rows that are read from disk" if data.stream else "an architecture by name"
        raise OptionError(f"--inputs names arguments of a module's forward; {what} have one input.", "Drop --inputs.")
    several = meant.several or bool(heads_of(_target_of(data)))
    if several and data.stream:
        raise OptionError("Rows that are read from disk have one target.", "Drop --stream.")
    source = None if data.inputs or several else streamed_source(data, tell)
    if source is not None:
        task = meant.task
        assert not isinstance(task, Mapping)  # a dict of losses is of several targets
        if specs.run.loader_workers is not None:
            raise loaders.no_loader_workers()
        stream = Stream(data, model, loss, seed, source, task, tell, pause)
        return _Found(stream.chosen, stream.layout, stream.rows, stream.extremes, stream.prepared, stream)
    beside = Beside(ignored=lambda: ignored_by(loss))
    train_rows, validation, names, array = read(data, seed, meant.task, tell, beside, meant.several)
    if len(names) > 1 and not isinstance(model, str) and is_text(train_rows.target):
        raise SeveralHeads  # texts among several columns are labels of one, which no single target of several is
    if data.inputs:
        array, train_rows = True, chosen_of(train_rows, data.inputs)
        validation = None if validation is None else chosen_of(validation, data.inputs)
    if one_by_name(model, data.data, train_rows.table) and not _has_gaps(train_rows, validation):
        array, train_rows = True, as_array(train_rows)
        validation = None if validation is None else as_array(validation)
    chosen, layout = layout_of(model, train_rows.table, array)

    def standardise(head: str) -> bool:
        own = loss.get(head, "auto") if isinstance(loss, Mapping) else loss
        return not meant.raw and standardises(own, isinstance(model, str), layout == "raw")

    prepared = prepare(
        train_rows,
        validation,
        names,
        layout=layout,
        scale=data.preprocess == "auto",
        task=meant.task,
        standardise=standardise,
        tell=tell,
        asked_target=_target_of(data),
        labels=is_named_split(data.validation),
        beside=beside,
    )
    lazy = None
    if specs.run.loader_workers is not None and not prepared.processor.lazy:
        raise loaders.no_loader_workers()
    if prepared.processor.lazy:
        lazy = Lazy(train_rows, validation, specs.run.loader_workers or 0, seed)
    return _Found(chosen, layout, len(train_rows), train_rows.target, prepared, lazy)


def _has_gaps(train: Rows, held: Rows | None) -> bool:
    return any(rows is not None and rows.table.column(0).null_count for rows in (train, held))


def _target_of(said: DataSpec) -> Any:
    pair = isinstance(said.data, tuple) and len(said.data) == 2
    return said.data[1] if said.target is None and pair else said.target


@contextmanager
def _batches(
    found: _Found,
    prepared: Prepared,
    size: int,
    device: torch.device,
    context: Context,
    draw: Callable[[torch.Generator], Tensor] | None,
    counting: Counting,
) -> Iterator[tuple[Batches, Batches | None]]:
    if found.stream is not None:
        with found.stream.written(prepared, context.store.work, size, device, counting) as batches:
            yield batches
        return
    (inputs, target), held, (weights, others) = prepared.train, None, prepared.weights or (None, None)
    train = inputs, counting.joined(target, weights)
    if prepared.validation is not None:
        inputs, target = prepared.validation
        held = _in_memory((inputs, counting.joined(target, others, held=True)), size, device)
    yield _in_memory(train, size, device, draw), held


def module_and_rows(request: TrainRequest) -> tuple[nn.Module, tuple[Tensor, ...], tuple[str, ...]]:
    """The module of a request as its training begins, a few rows that it takes, and the names of its arrays.

    For a place that trains it elsewhere: what is fitted on the rows is fitted there once more.
    """

    def made(specs: Specs, meant: Meant) -> tuple[nn.Module, Prepared, Layout]:
        torch.manual_seed(specs.optimizer.seed)
        found = _prepared(specs, meant, lambda text: None)
        prepared, layout = found.prepared, found.layout
        if prepared.answers.parts:
            raise ModelError("A module of several heads trains where it is.", "%connect kernel trains it here.")
        return *own_module(specs.model, specs.task, specs.data, prepared, layout, lambda text: None), layout

    with training_lock(), torch.random.fork_rng(devices=[]):
        net, prepared, layout = _decided(specs_of(request), made)
    arrays = tuple(prepared.processor.names) if layout == "raw" else ()
    return net, tuple(values[:8] for values in prepared.train[0]), arrays


def _in_memory(
    rows: Any, size: int, device: torch.device, draw: Callable[[torch.Generator], Tensor] | None = None
) -> InMemory:
    inputs, target = rows
    inputs = tuple(x.to(device) for x in inputs)
    return InMemory(inputs, target.to(device), size, measure=rows_at_once(inputs), draw=draw)
