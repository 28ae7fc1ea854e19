"""The task behind `%train`: request in, published version out."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from maas_magics.api.errors import OptionError
from maas_magics.api.events import Profiled, RateSearch, Started
from maas_magics.api.requests import TrainRequest
from maas_magics.api.results import TrainedModel
from maas_magics.core import turns
from maas_magics.core.architectures import Recipe, architectures
from maas_magics.core.context import Context
from maas_magics.core.data.answers import within
from maas_magics.core.data.columns import Array
from maas_magics.core.data.scaling import Layout
from maas_magics.core.model import features_of
from maas_magics.core.store import check_name
from maas_magics.core.training.assemble import assemble
from maas_magics.core.training.checkpoint import Checkpoints
from maas_magics.core.training.checks import check_request, check_workers
from maas_magics.core.training.compiling.compiled import compiled_for
from maas_magics.core.training.loop import fit
from maas_magics.core.training.objective import make_objective
from maas_magics.core.training.outcome import conclude, refuse_diverged
from maas_magics.core.training.own.modules import fit_in, make_module, title_of
from maas_magics.core.training.plan import Plan
from maas_magics.core.training.rows import loaders
from maas_magics.core.training.rows.batches import Batches, InMemory, rows_at_once
from maas_magics.core.training.rows.blocks import Blocks
from maas_magics.core.training.rows.prepare import Prepared, layout_of, prepare, read, with_answers
from maas_magics.core.training.rows.sampler import balanced_order
from maas_magics.core.training.rows.streaming import Stream, streamed_source
from maas_magics.core.training.steps.devices import find_device, keep_freed_memory, threads
from maas_magics.core.training.steps.losses import task_of
from maas_magics.core.training.steps.out_of_memory import error_of, is_out_of_memory
from maas_magics.core.training.steps.profile import Profiler, advice
from maas_magics.core.training.steps.random_numbers import own_random
from maas_magics.core.training.steps.schedules import constant
from maas_magics.core.training.trials.fast import again, choose
from maas_magics.core.training.trials.loader_trials import choose_for_loader
from maas_magics.core.training.workers.launch import Work, fit_in_workers

MODULE = Recipe(optimizer="Adam", lr=1e-3, epochs=20, batch_size=32)
"""How a module of the user's is trained where nothing else is said."""


def train(request: TrainRequest, context: Context) -> TrainedModel:
    """Fit, choose the best epoch, publish.

    Raises
    ------
    MaasError
        For a request that makes no sense, before anything is written.
    """
    check_name(request.name)
    check_request(request)
    cuda = list(range(torch.cuda.device_count()))
    others = own_random() if request.resume else nullcontext()
    with turns.training(), torch.random.fork_rng(devices=cuda), others:
        torch.manual_seed(request.seed)
        try:
            return _train(request, context)
        except BaseException as error:
            _release(error)
            if is_out_of_memory(error):
                raise error_of(error) from None
            raise


def _release(error: BaseException | None) -> None:
    """Empty the frames that an error came through, so that no tensor lives as long as the error does."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _train(request: TrainRequest, context: Context) -> TrainedModel:
    device = find_device(request.device)
    task = task_of(request.loss, request.task)
    named = isinstance(request.model, str)
    if loaders.is_loader(request.data):
        if not named:
            if request.balance:
                raise OptionError(
                    "A loader draws its own rows.", "Drop --balance; give it a torch.utils.data.WeightedRandomSampler."
                )
            with loaders.prepared_loader(request, task, device) as made:
                return _run(request, context, *made, device)
        request = loaders.materialise(request)
    found = _prepared(request, task, context.tell, lambda: _pause(context))
    prepared = found.prepared
    rows, task = found.rows, prepared.answers.task
    if named:
        architecture = architectures.get(found.chosen)
        recipe = architecture.recipe(rows, task)
        if recipe.clamp and task == "regression":
            prepared = with_answers(prepared, within(prepared.answers, found.learnt))
        features = features_of(prepared.preprocess.columns, prepared.transform)
        net = architecture.build(features, prepared.answers.outputs, task, request.params)
        initialise = getattr(net, "initialise", None)
        if callable(initialise):
            initialise(*prepared.train[0])
    else:
        recipe = MODULE
        net, prepared = _own_module(request, prepared, found.layout)
    size = request.batch_size if isinstance(request.batch_size, int) else recipe.batch_size
    if request.workers > 1 and found.stream is not None:
        raise OptionError("Rows that are read from disk go to one process.", "--workers 1")
    check_workers(request, device, rows if request.batch_size == "auto" else min(size, rows))
    here = device if request.workers == 1 else torch.device("cpu")
    net.to(here)
    draw = None
    if request.balance:
        if found.stream is not None:
            raise OptionError("Rows that are read from disk come in an order of their own.", "--class-weights balanced")
        draw = balanced_order(prepared.answers, prepared.train[1])
    with _batches(found, prepared, size, here, context, draw) as (batches, held):
        return _run(
            request, context, net, prepared, recipe, batches, held, device, architecture=found.chosen, declared=named
        )


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
    stream: Stream | None = None


def _pause(context: Context) -> None:
    """Between two chunks of a file: end if somebody wants that, and let others trace."""
    context.go_on()
    if turns.wanted():
        turns.give_way()


def _prepared(
    request: TrainRequest, task: Any, tell: Callable[[str], None], pause: Callable[[], None] = lambda: None
) -> _Found:
    source = streamed_source(request, tell)
    if source is not None:
        stream = Stream(request, source, task, tell, pause)
        return _Found(stream.chosen, stream.layout, stream.rows, stream.extremes, stream.prepared, stream)
    train_rows, validation, names, array = read(request, task, tell)
    chosen, layout = layout_of(request, train_rows.table, array)
    prepared = prepare(
        train_rows,
        validation,
        names,
        layout=layout,
        scale=request.preprocess == "auto",
        task=task,
        standardise=not array or isinstance(request.model, str),
        tell=tell,
    )
    return _Found(chosen, layout, len(train_rows), train_rows.target, prepared)


@contextmanager
def _batches(
    found: _Found,
    prepared: Prepared,
    size: int,
    device: torch.device,
    context: Context,
    draw: Callable[[torch.Generator], Tensor] | None,
) -> Iterator[tuple[Batches, Batches | None]]:
    if found.stream is not None:
        with found.stream.written(prepared, context.store.work, size, device) as batches:
            yield batches
        return
    held = _in_memory(prepared.validation, size, device) if prepared.validation is not None else None
    yield _in_memory(prepared.train, size, device, draw), held


def _own_module(request: TrainRequest, prepared: Prepared, layout: Any) -> tuple[nn.Module, Prepared]:
    """The user's module, its lazy layers made, and the target as its outputs ask for it."""
    if request.params:
        raise OptionError("Hyperparameters are for architectures by name; this one is a module.", "Drop --set.")
    first = prepared.train[0][0]
    net = make_module(request.model, first[0].numel(), prepared.answers.outputs)
    few = tuple(values[:2] for values in prepared.train[0])
    flat = prepared.transform.names if layout == "flat" else []
    answers = fit_in(net, few, prepared.answers, flat, callable(request.loss))
    return net, with_answers(prepared, answers)


def module_and_rows(request: TrainRequest) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The module of a request as its training begins, and a few rows that it takes.

    For a place that trains it elsewhere: what is fitted on the rows is fitted there once more.
    """
    with turns.training(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        found = _prepared(request, task_of(request.loss, request.task), lambda text: None)
        net, prepared = _own_module(request, found.prepared, found.layout)
    return net, tuple(values[:8] for values in prepared.train[0])


def _in_memory(
    rows: Any, size: int, device: torch.device, draw: Callable[[torch.Generator], Tensor] | None = None
) -> InMemory:
    inputs, target = rows
    inputs = tuple(x.to(device) for x in inputs)
    return InMemory(inputs, target.to(device), size, measure=rows_at_once(inputs), draw=draw)


def _run(*given: Any, **more: Any) -> TrainedModel:
    """As `_trained`; a network that stands in another order for the training comes back as it was, however it ends."""
    with ExitStack() as undo:
        return _trained(*given, undo=undo, **more)


def _trained(
    request: TrainRequest,
    context: Context,
    net: nn.Module,
    prepared: Prepared,
    recipe: Recipe,
    batches: Batches,
    held: Batches | None,
    device: torch.device,
    *,
    undo: ExitStack,
    architecture: str = "",
    declared: bool = False,
) -> TrainedModel:
    architecture = architecture or title_of(net)
    here = device if request.workers == 1 else torch.device("cpu")
    objective = make_objective(request, recipe, prepared, device)
    epochs = request.epochs if request.epochs is not None else recipe.epochs
    checkpoints = None
    if context.checkpoints is not None:
        checkpoints = Checkpoints(context.checkpoints, request.checkpoint_every, wanted=bool(request.resume))
    before = checkpoints.chosen_before() if checkpoints is not None else {}
    if request.batch_size == "auto" and "batch_size" in before:
        assert isinstance(batches, (InMemory, Blocks))  # the checks let nothing else pass
        batches = batches.sized(before["batch_size"])
        request = msgspec.structs.replace(request, batch_size=batches.batch_size)
    if device.type == "cpu":
        keep_freed_memory()
    made = assemble(
        request,
        recipe,
        net,
        prepared,
        batches,
        here,
        epochs=epochs,
        mode=objective.mode,
        weights=objective.weights,
        loss=objective.loss,
        tell=lambda text: context.tell(text, "warning"),
        stopping=context.stopping,
        undo=undo,
        onednn=before.get("onednn"),
        elsewhere=here.type != device.type,
    )
    if request.precision == "fp16" and device.type == "cpu":
        context.tell(
            "On a CPU fp16 is slower than fp32 for most layers; bf16 is the one that may be faster.", "warning"
        )
    parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
    wide = isinstance(batches, InMemory) and any(x.dim() > 2 for x in batches.inputs)
    regime, cpu = made.regime, request.threads
    total = epochs * made.batches.steps
    chosen: dict[str, Any] = {"batch_size": made.rows, "onednn": made.rules.onednn}
    found: tuple[str, ...] = ()
    if request.fast is not None:
        asked: Any = {"threads": cpu, "precision": request.precision == "fp32", "stopping": context.stopping}
        with threads(cpu, parameters, made.rows, wide):
            if "threads" in before:
                choice = again(regime, before, device)
            elif isinstance(batches, InMemory):
                choice = choose(regime, objective.loss, made.batches, total=total, **asked)
            else:
                asked |= {"total": epochs * batches.steps, "workers": request.loader_workers}
                choice = choose_for_loader(regime, objective.loss, batches, **asked)
        regime, cpu, found = choice.regime, choice.threads, choice.facts
        chosen |= choice.kept
    profiler = Profiler(device) if request.profile else None
    regime = replace(regime, profiler=profiler)
    plan = Plan(
        loss=objective.loss,
        answers=prepared.answers,
        metrics=objective.metrics,
        monitor=objective.monitor,
        mode=objective.mode,
        epochs=epochs,
        patience=request.patience if request.patience is not None else recipe.patience,
        schedule=constant,
        seed=request.seed,
        regime=regime,
    )
    task = prepared.answers.task
    facts = {
        "task": task + (f", {len(prepared.answers.classes)} classes" if task == "multiclass" else ""),
        "architecture": architecture,
        **made.facts,
        "device": str(device),
        **({"precision": regime.precision.name} if regime.precision is not None else {}),
        **({"fast": ", ".join(found)} if found else {}),
    }
    if request.workers > 1:
        facts["workers"] = f"{request.workers} processes{', sharded' if request.shard else ''}"
    context.emit(
        Started(
            title=f"train {request.name}",
            epochs=plan.epochs,
            steps_per_epoch=made.batches.steps,
            samples=batches.rows,
            parameters=parameters,
            monitor=plan.monitor,
            mode=plan.mode,
            facts=facts,
        )
    )
    if made.search is not None:
        search = made.search
        context.emit(RateSearch(rates=search.rates, losses=search.losses, chosen=search.chosen))
    marks = {
        "seed": str(request.seed),
        "table": prepared.digest,
        "network": f"{architecture}, {parameters} parameters",
        "optimizer": type(made.optimizer.inner).__name__,
        "batch size": made.size,
    }
    if checkpoints is not None:
        checkpoints.marks, checkpoints.chosen = marks, chosen
    begun = time.perf_counter()
    if request.workers > 1:
        assert isinstance(batches, InMemory)  # nothing else passes the checks
        assert held is None or isinstance(held, InMemory)
        undo.close()
        work = Work(
            request=request,
            architecture=architecture if declared else "",
            net=net,
            prepared=prepared,
            train=batches.sized(made.rows),
            held=held,
            plan=plan,
            device=device.type,
            rules=made.rules,
            weights=None if objective.weights is None else objective.weights.tolist(),
            smoothing=objective.smoothing,
            marks=marks,
            chosen=chosen,
        )
        checkpoints = None  # the workers read them
        history = fit_in_workers(work, context)
    else:
        with threads(cpu, parameters, made.rows, wide):
            if request.compile or (request.compile is None and request.fast is not None):
                plan = replace(plan, compiled=compiled_for(regime, made.batches, plan.loss, context.tell, total))
            try:
                history = fit(
                    net, made.optimizer, made.batches, held, plan, context.emit, context.stopping, checkpoints
                )
            finally:
                if plan.compiled is not None:
                    plan.compiled.close()
    seconds = time.perf_counter() - begun
    parts = profiler.result() if profiler is not None else {}
    if profiler is not None:
        told = advice(parts, profiler.steps, batches, fast=request.fast is not None)
        context.emit(Profiled(seconds=parts, steps=profiler.steps, advice=told))
    refuse_diverged(history, made.optimizer)
    net.to("cpu").zero_grad(set_to_none=True)
    undo.close()
    return conclude(
        request,
        context,
        net,
        prepared,
        plan,
        history,
        architecture=architecture,
        declared=declared,
        facts=facts,
        seconds=seconds,
        parts=parts,
    )
