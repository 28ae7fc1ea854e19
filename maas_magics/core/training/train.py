"""The task behind `%train`: request in, published version out."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.api.errors import Diverged, OptionError
from maas_magics.api.events import Profiled, RateSearch, Started
from maas_magics.api.requests import TrainRequest
from maas_magics.api.results import ModelInfo, TrainedModel
from maas_magics.api.signature import Signature
from maas_magics.core import turns
from maas_magics.core.architectures import Recipe, architectures
from maas_magics.core.context import Context, versions
from maas_magics.core.data.answers import Answers, within
from maas_magics.core.data.columns import Array
from maas_magics.core.data.scaling import Layout
from maas_magics.core.manifest import Manifest
from maas_magics.core.model import Model, features_of
from maas_magics.core.publish import publish
from maas_magics.core.store import check_name
from maas_magics.core.training import loaders
from maas_magics.core.training.assemble import assemble, chosen_optimizer
from maas_magics.core.training.batches import Batches, InMemory, rows_at_once
from maas_magics.core.training.checkpoint import Checkpoints, own_random
from maas_magics.core.training.checks import check_request, check_workers
from maas_magics.core.training.compiled import compiled_for
from maas_magics.core.training.devices import find_device, keep_freed_memory, threads
from maas_magics.core.training.fast import choose
from maas_magics.core.training.loop import fit
from maas_magics.core.training.losses import make_loss, task_of
from maas_magics.core.training.metrics import make_metrics
from maas_magics.core.training.modules import describe, fit_in, make_module, title_of
from maas_magics.core.training.plan import History, Plan, mode_of
from maas_magics.core.training.prepare import Prepared, layout_of, prepare, read, with_answers
from maas_magics.core.training.profile import Profiler, advice
from maas_magics.core.training.sampler import balanced_order
from maas_magics.core.training.schedules import constant
from maas_magics.core.training.streaming import Stream, streamed_source
from maas_magics.core.training.weights import class_weights
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
            return _run(request, context, *loaders.prepare_loader(request, task, device), device)
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
    size = request.batch_size or recipe.batch_size
    if request.workers > 1 and found.stream is not None:
        raise OptionError("Rows that are read from disk go to one process.", "--workers 1")
    check_workers(request, device, min(size, rows))
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


def _run(
    request: TrainRequest,
    context: Context,
    net: nn.Module,
    prepared: Prepared,
    recipe: Recipe,
    batches: Batches,
    held: Batches | None,
    device: torch.device,
    *,
    architecture: str = "",
    declared: bool = False,
) -> TrainedModel:
    answers = prepared.answers
    architecture = architecture or title_of(net)
    metrics = make_metrics(request.metrics, answers)
    monitor = request.monitor or recipe.monitor
    if monitor != "loss" and monitor not in metrics:
        metrics |= make_metrics((monitor,), answers)
    if request.label_smoothing and answers.task == "regression":
        raise OptionError("Label smoothing is for labels; the task is regression.", "Drop --label-smoothing.")
    if callable(request.loss) and (request.label_smoothing or request.class_weights is not None):
        raise OptionError(
            "A loss of your own is taken as it is, without class weights or label smoothing.", "Put them into the loss."
        )
    smoothing = recipe.label_smoothing if request.label_smoothing is None else request.label_smoothing
    weights = class_weights(request.class_weights, answers, prepared.train[1], prepared.counts)
    weights = weights.to(device) if weights is not None else None
    epochs = request.epochs if request.epochs is not None else recipe.epochs
    mode = mode_of(monitor, getattr(metrics.get(monitor), "higher_is_better", None))
    loss = make_loss(request.loss, answers, weights, smoothing)
    if device.type == "cpu":
        keep_freed_memory()
    made = assemble(
        request,
        recipe,
        net,
        prepared,
        batches,
        device if request.workers == 1 else torch.device("cpu"),
        epochs=epochs,
        mode=mode,
        weights=weights,
        loss=loss,
    )
    optimizer = made.optimizer
    if request.precision == "fp16" and device.type == "cpu":
        context.tell(
            "On a CPU fp16 is slower than fp32 for most layers; bf16 is the one that may be faster.", "warning"
        )
    parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
    wide = isinstance(batches, InMemory) and any(x.dim() > 2 for x in batches.inputs)
    regime, cpu = made.regime, request.threads
    found: tuple[str, ...] = ()
    total = epochs * made.batches.steps
    with threads(cpu, parameters, getattr(batches, "batch_size", 32), wide):
        if request.fast is not None:
            choice = choose(
                regime,
                loss,
                made.batches,
                total=total,
                threads=cpu,
                precision=request.precision == "fp32",
                stopping=context.stopping,
            )
            regime, cpu, found = choice.regime, choice.threads, choice.facts
    profiler = Profiler(device) if request.profile else None
    regime = replace(regime, profiler=profiler)
    plan = Plan(
        loss=loss,
        answers=answers,
        metrics=metrics,
        monitor=monitor,
        mode=mode,
        epochs=epochs,
        patience=request.patience if request.patience is not None else recipe.patience,
        schedule=constant,
        seed=request.seed,
        regime=regime,
    )
    facts = {
        "task": answers.task + (f", {len(answers.classes)} classes" if answers.task == "multiclass" else ""),
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
            monitor=monitor,
            mode=plan.mode,
            facts=facts,
        )
    )
    if made.search is not None:
        found_at = made.search
        context.emit(RateSearch(rates=found_at.rates, losses=found_at.losses, chosen=found_at.chosen))
    marks = {
        "seed": str(request.seed),
        "table": prepared.digest,
        "network": f"{architecture}, {parameters} parameters",
        "optimizer": type(optimizer.inner).__name__,
        "batch size": facts["batch size"],
    }
    checkpoints = None
    if context.checkpoints is not None:
        checkpoints = Checkpoints(context.checkpoints, request.checkpoint_every, marks, bool(request.resume))
    begun = time.perf_counter()
    if request.workers > 1:
        assert isinstance(batches, InMemory)  # nothing else passes the checks
        assert held is None or isinstance(held, InMemory)
        made.restore()
        work = Work(
            request=request,
            architecture=architecture if declared else "",
            net=net,
            prepared=prepared,
            train=batches,
            held=held,
            plan=plan,
            device=device.type,
            schedule=request.schedule or recipe.schedule,
            optimizer=chosen_optimizer(request, recipe),
            weights=None if weights is None else weights.tolist(),
            smoothing=smoothing,
            marks=marks,
        )
        history = fit_in_workers(work, context)
    else:
        with threads(cpu, parameters, getattr(batches, "batch_size", 32), wide):
            if request.compile or (request.compile is None and request.fast is not None):
                plan = replace(plan, compiled=compiled_for(regime, made.batches, loss, context.tell, total))
            try:
                history = fit(net, optimizer, made.batches, held, plan, context.emit, context.stopping, checkpoints)
            finally:
                if plan.compiled is not None:
                    plan.compiled.close()
    seconds = time.perf_counter() - begun
    parts = profiler.result() if profiler is not None else {}
    if profiler is not None:
        told = advice(parts, profiler.steps, batches, fast=request.fast is not None)
        context.emit(Profiled(seconds=parts, steps=profiler.steps, advice=told))
    if not math.isfinite(history.best_metrics["loss"]):
        raise Diverged(
            f"The loss of the held-out rows became {history.best_metrics['loss']} in epoch {history.best_epoch}, at a "
            f"learning rate of {optimizer.lr:g}.",
            f"Try a lower one: --lr {optimizer.first_lr / 10:g}. Check the network's answers in eval mode.",
        )
    net.to("cpu").zero_grad(set_to_none=True)
    made.restore()
    plan_told = {**facts, "monitor": monitor}
    manifest = _manifest(request, prepared, history, architecture, declared, parameters, plan_told, seconds, net)
    watched = history.best_metrics.get(monitor, history.best_metrics["loss"])
    better = request.better_than is None or (
        watched < request.better_than if plan.mode == "min" else watched > request.better_than
    )
    info = manifest.info
    if better:
        info = publish(context, Model(manifest, prepared.preprocess, net), request.name, prepared.sample)
    return TrainedModel(
        info=info,
        best_epoch=history.best_epoch,
        epochs=history.epochs,
        history=history.curves,
        seconds=seconds,
        stopped=history.stopped,
        diverged=history.diverged,
        profile=parts,
    )


def _manifest(
    request: TrainRequest,
    prepared: Prepared,
    history: History,
    architecture: str,
    declared: bool,
    parameters: int,
    facts: dict[str, str],
    seconds: float,
    net: nn.Module,
) -> Manifest:
    answers: Answers = prepared.answers
    info = ModelInfo(
        name=request.name,
        version=0,
        task=answers.task,
        architecture=architecture,
        target=answers.names,
        classes=answers.labels if answers.classes else (),
        metrics={name: value for name, value in history.best_metrics.items() if math.isfinite(value)},
        created=time.time(),
        parameters=parameters,
        signature=Signature(prepared.preprocess.columns.specs, answers.specs),
        lineage={"seed": str(request.seed), "data": prepared.digest, **versions()},
    )
    curves = {
        name: [value if math.isfinite(value) else None for value in values] for name, values in history.curves.items()
    }
    return Manifest(
        info=info,
        answers=answers,
        params=dict(request.params),
        declared=declared,
        source="" if declared else describe(net, request.source),
        plan=facts,
        history=curves,
        best_epoch=history.best_epoch,
        seconds=seconds,
    )
