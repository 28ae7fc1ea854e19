"""One training, from a network and its rows to a published version."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any, cast

import msgspec
import torch
from torch import nn

from maas_magics.api.errors import ModelError, OptionError
from maas_magics.api.events import Profiled, RateSearch, Started
from maas_magics.api.results import TrainedModel
from maas_magics.core.architectures import architectures
from maas_magics.core.batches.batches import Batches, InMemory, Resizable
from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.compat.optimizers import without_compiler
from maas_magics.core.context import Context
from maas_magics.core.losses.check import few_rows
from maas_magics.core.losses.meaning import contradiction
from maas_magics.core.networks.modules import ask, settle, title_of
from maas_magics.core.networks.row_mixing import by_padding, mixed
from maas_magics.core.training.assemble import Assembled, assemble
from maas_magics.core.training.checkpoint import Checkpoints
from maas_magics.core.training.choice import Choice
from maas_magics.core.training.compiling.compiled import compiled_for
from maas_magics.core.training.distributed.launch import Work, fit_in_workers
from maas_magics.core.training.fingerprint import fingerprint
from maas_magics.core.training.loop import fit
from maas_magics.core.training.objective import make_objective
from maas_magics.core.training.outcome import conclude, refuse_diverged
from maas_magics.core.training.plan import Plan, TrainingHistory
from maas_magics.core.training.reason import reason
from maas_magics.core.training.shown import shown_of
from maas_magics.core.training.specs import Resolved
from maas_magics.core.training.steps.devices import keep_freed_memory, threads
from maas_magics.core.training.steps.profile import Profiler, advice
from maas_magics.core.training.steps.schedules import constant
from maas_magics.core.training.teacher import KEPT
from maas_magics.core.training.time_limit import TimeLimit
from maas_magics.core.training.tuning.fast import TuningChoice, again, choose
from maas_magics.core.training.tuning.loader_trials import choose_for_loader


class TrainingRun:
    """A training, ready to begin; called once.

    Parameters
    ----------
    said : Resolved
    context
    net : nn.Module
        On its device. One that stands in another order for the training comes back as it was, however it ends.
    prepared
    batches, held : Batches
        Rows to train on, and those that it is measured on.
    device : torch.device
        What was requested; workers go there by themselves.
    architecture : str
        Its name, or that of what makes the module; empty for the name of the module's class.
    declared : bool
        Whether the network can be made by that name.
    whole : callable, optional
        Makes what is published once ``net`` is trained; ``net`` itself where there is none.
    choice : Choice, optional
        Of the network, where no one named one.
    """

    def __init__(
        self,
        said: Resolved,
        context: Context,
        net: nn.Module,
        prepared: Prepared,
        batches: Batches,
        held: Batches | None,
        device: torch.device,
        architecture: str = "",
        declared: bool = False,
        whole: Callable[[], nn.Module] | None = None,
        choice: Choice | None = None,
    ) -> None:
        if said.run.most_seconds is not None:
            limit = TimeLimit(context.stopping, said.run.most_seconds, context.notify)
            context = replace(context, stopping=limit)
        self._context, self._net, self._prepared = context, net, prepared
        self._held, self._device, self._declared = held, device, declared
        self._whole, self._choice_of_network = whole, choice
        self._title = architecture or title_of(net)
        if held is None and "monitor" in said.usual:  # a metric of held-out rows, as its recipe has it
            said = msgspec.structs.replace(said, task=msgspec.structs.replace(said.task, monitor="loss"))
        self._learns = declared and architectures.get(architecture).learns
        self._objective = make_objective(said.task, prepared, device)
        if held is None and self._objective.monitor != "loss":
            monitor = self._objective.monitor
            raise OptionError(f"{monitor} is a metric of held-out rows, and there are none.", "--validation 0.2")
        self._epochs = said.budget.epochs
        self._parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
        self._wide = isinstance(batches, InMemory) and any(x.dim() > 2 for x in batches.inputs)
        self._checkpoints = None
        if context.checkpoints is not None:
            self._checkpoints = Checkpoints(
                context.checkpoints,
                said.run.checkpoint_every,
                wanted=bool(said.run.resume),
                before=context.written,
                encrypted=said.run.encrypt,
            )
        self._before = self._checkpoints.chosen_before() if self._checkpoints is not None else {}
        if said.find_batch_size and "batch_size" in self._before:
            assert isinstance(batches, Resizable)  # the checks let nothing else pass
            batches = batches.sized(self._before["batch_size"])
            said = msgspec.structs.replace(said, find_batch_size=False)
        self._said, self._run, self._batches = said, said.run, batches

    def __call__(self) -> TrainedModel:
        """Fit, choose the best epoch, publish.

        Raises
        ------
        MaasError
            For what does not fit the network, the data or the device, before anything is written; and for what ends a
            training.
        """
        with ExitStack() as undo:
            undo.enter_context(without_compiler())
            made = self._assembled(undo)
            choice = self._choice(made)
            profiler = Profiler(self._device) if self._run.profile else None
            plan = self._plan(made, choice, profiler)
            summary = self._summary(made, choice)
            self._notify(made, plan, summary)
            history = self._shared(made, choice, plan, undo) if self._shares else self._alone(made, choice, plan)
            parts = profiler.result() if profiler is not None else {}
            if profiler is not None:
                told = advice(parts, profiler.steps, self._batches, fast=self._run.fast is not None)
                self._context.emit(Profiled(seconds=parts, steps=profiler.steps, advice=told))
            refuse_diverged(history, made.optimizer, plan, self._prepared)
            self._net.to("cpu").zero_grad(set_to_none=True)
            settle(self._net)
            doubts = self._doubts()
        form = self._prepared.form
        result = conclude(
            self._said,
            self._context,
            self._net if self._whole is None else self._whole().to("cpu").eval(),
            self._prepared,
            plan,
            history,
            architecture=self._title,
            declared=self._declared,
            summary=summary,
            parts=parts,
            rows=self._batches.rows,
            warned=(*self._prepared.notes, *self._prepared.doubts, form.doubt if form is not None else "", *doubts),
        )
        if self._checkpoints is not None:
            self._checkpoints.deliver()
        return result

    def _doubts(self) -> tuple[str, ...]:
        """Notify where the network's outputs at the end contradict what they are taken for."""
        held = self._held.inputs if isinstance(self._held, InMemory) else self._prepared.train[0]
        if self._declared or not held or not len(held[0]):
            return ()
        inputs = tuple(x[: few_rows(held)].cpu() for x in held)
        try:
            outputs = ask(self._net, inputs)
            doubt = contradiction(self._prepared.answers, outputs)
        except ModelError:  # so many rows may not fit into memory; that is not a reason to lose a training
            return ()
        features = self._prepared.processor.features
        padded = {place: feature.padded_with for place, feature in enumerate(features) if feature.ragged}
        found = doubt, mixed(self._net, inputs, outputs), by_padding(self._net, inputs, outputs, padded)
        doubts = tuple(text for text in found if text)
        for text in doubts:
            self._context.notify(text, "warning")
        return doubts

    def _threads(self, rows: int, number: int | None = None) -> AbstractContextManager[int]:
        """A context with the threads that were chosen or requested, or that such batches are best trained on."""
        number = self._run.threads if number is None else number
        return threads(number, self._parameters, rows, self._wide, share=self._run.workers)

    @property
    def _shares(self) -> bool:
        return self._run.workers > 1

    def _assembled(self, undo: ExitStack) -> Assembled:
        objective, cpu = self._objective, self._device.type == "cpu"
        if cpu:
            keep_freed_memory()
        made = assemble(
            self._said,
            self._net,
            self._prepared,
            self._batches,
            torch.device("cpu") if self._shares else self._device,
            mode=objective.mode,
            weights=objective.weights,
            loss=objective.loss,
            notify=lambda text: self._context.notify(text, "warning"),
            stopping=self._context.stopping,
            threads=self._threads,
            undo=undo,
            onednn=self._before.get("onednn"),
            elsewhere=self._shares and not cpu,
        )
        if made.rules.precision == "fp16" and cpu:
            self._context.notify(
                "On a CPU fp16 is slower than fp32 for most layers; bf16 is the one that may be faster.", "warning"
            )
        return made

    def _choice(self, made: Assembled) -> TuningChoice:
        """What was found to be fast, where someone requested that."""
        run, batches, loss = self._run, self._batches, self._objective.loss
        if run.fast is None:
            return TuningChoice(made.regime, run.threads, ())
        asked: Any = {
            "threads": run.threads,
            "precision": made.rules.precision == "fp32",
            "stopping": self._context.stopping,
        }
        with self._threads(made.rows):
            if "threads" in self._before:
                return again(made.regime, self._before, self._device)
            if isinstance(batches, InMemory):
                return choose(made.regime, loss, made.batches, total=self._epochs * made.batches.steps, **asked)
            asked |= {"total": self._epochs * batches.steps, "workers": run.loader_workers}
            return choose_for_loader(made.regime, loss, batches, **asked)

    def _plan(self, made: Assembled, choice: TuningChoice, profiler: Profiler | None) -> Plan:
        objective = self._objective
        return Plan(
            loss=objective.loss,
            answers=self._prepared.answers,
            metrics=objective.metrics,
            monitor=objective.monitor,
            mode=objective.mode,
            epochs=self._epochs,
            patience=self._said.budget.patience,
            schedule=constant,
            seed=self._said.optimizer.seed,
            regime=replace(choice.regime, profiler=profiler),
            constant_loss=objective.constant_loss,
            class_weights=objective.weights,
            smoothing=objective.smoothing,
            learn=cast(Any, self._net).learn if self._learns else None,
            shown=shown_of(self._prepared),
        )

    def _summary(self, made: Assembled, choice: TuningChoice) -> dict[str, str]:
        """What the view shows of it."""
        run, weights, lora = self._run, self._said.data.weights, self._said.model.lora
        answers, precision = self._prepared.answers, choice.regime.precision
        summary = {
            "task": answers.description,
            "architecture": self._title,
            **({"chosen": self._why(self._choice_of_network)} if self._choice_of_network is not None else {}),
            **made.summary,
            **({"weights": weights} if weights else {}),
            **({"lora": str(lora)} if lora is not None else {}),
            **({"teacher": self._teacher} if self._said.task.teacher else {}),
            **({"augment": ", ".join(self._said.data.augment)} if self._said.data.augment else {}),
            "device": str(self._device),
            **({"precision": precision.name} if precision is not None else {}),
            **({"fast": str(choice)} if choice.summary else {}),
        }
        if self._shares:
            summary["workers"] = f"{run.workers} processes{', sharded' if run.shard else ''}"
        return summary

    @property
    def _teacher(self) -> str:
        task = self._said.task
        return f"{task.teacher}, {task.distill_alpha:.0%} of the loss at a temperature of {task.temperature:g}"

    def _why(self, choice: Choice) -> str:
        """Why this network was chosen."""
        seconds = self._run.most_seconds
        return reason(
            choice, self._prepared.processor, self._prepared.answers, self._batches.rows, self._device,
            "" if seconds is None else f"{seconds:g} s",
        )  # fmt: skip

    def _notify(self, made: Assembled, plan: Plan, summary: dict[str, str]) -> None:
        self._context.emit(
            Started(
                title=f"train {self._said.name}",
                epochs=plan.epochs,
                steps_per_epoch=made.batches.steps,
                samples=self._batches.rows,
                parameters=self._parameters,
                monitor=plan.monitor,
                mode=plan.mode,
                summary=summary,
            )
        )
        if made.search is not None:
            search = made.search
            self._context.emit(RateSearch(rates=search.rates, losses=search.losses, chosen=search.chosen))

    def _kept(self, made: Assembled, choice: TuningChoice) -> tuple[dict[str, str], dict[str, Any]]:
        """What a checkpoint must have been made of to be resumed, and what it holds of what was found."""
        marks = fingerprint(
            self._said, self._prepared, self._title, self._parameters, made.size, learns=hasattr(self._net, "learn")
        )
        chosen: dict[str, Any] = {"batch_size": made.rows, "onednn": made.rules.onednn}
        if self._prepared.taught is not None:
            chosen[KEPT] = self._prepared.taught
        return marks, chosen | (choice.kept if self._run.fast is not None else {})

    def _alone(self, made: Assembled, choice: TuningChoice, plan: Plan) -> TrainingHistory:
        """Train in this process."""
        run, context, checkpoints = self._run, self._context, self._checkpoints
        if checkpoints is not None:
            checkpoints.marks, checkpoints.chosen = self._kept(made, choice)
        with self._threads(made.rows, choice.threads):
            if run.compile or (run.compile is None and run.fast is not None):
                total = self._epochs * made.batches.steps
                compiled = compiled_for(choice.regime, made.batches, plan.loss, context.notify, total)
                plan = replace(plan, compiled=compiled)
            try:
                return fit(
                    self._net,
                    made.optimizer,
                    made.batches,
                    self._held,
                    plan,
                    context.emit,
                    context.stopping,
                    checkpoints,
                )
            finally:
                if plan.compiled is not None:
                    plan.compiled.close()

    def _shared(self, made: Assembled, choice: TuningChoice, plan: Plan, undo: ExitStack) -> TrainingHistory:
        """Train in workers, which read the checkpoints, and arrange their networks themselves."""
        batches, held, weights = self._batches, self._held, self._objective.weights
        assert isinstance(batches, InMemory)  # nothing else passes the checks
        assert held is None or isinstance(held, InMemory)
        undo.close()
        marks, chosen = self._kept(made, choice)
        work = Work(
            said=self._said,
            architecture=self._title if self._declared else "",
            net=self._net,
            prepared=self._prepared,
            train=batches.sized(made.rows),
            held=held,
            plan=plan,
            device=self._device.type,
            rules=made.rules,
            weights=None if weights is None else weights.tolist(),
            smoothing=self._objective.smoothing,
            marks=marks,
            chosen=chosen,
        )
        return fit_in_workers(work, self._context)
