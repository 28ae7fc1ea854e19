"""From a network that was trained to a version in the store."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from torch import nn

from maas_magics.api.errors import Diverged
from maas_magics.api.results import ModelInfo, TrainedModel
from maas_magics.api.signature import Signature
from maas_magics.core.architectures import architectures
from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.context import Context, versions
from maas_magics.core.model import Model
from maas_magics.core.networks.modules import describe
from maas_magics.core.publish import publish
from maas_magics.core.store.manifest import Manifest
from maas_magics.core.tasks.metric_names import by_name
from maas_magics.core.training.baseline import DIVERGED, better, labels_of_one_row, no_better
from maas_magics.core.training.measure import constant_loss_of
from maas_magics.core.training.plan import Plan, TrainingHistory
from maas_magics.core.training.specs import Resolved
from maas_magics.core.training.steps.optimizers import Optimizer


def refuse_diverged(history: TrainingHistory, optimizer: Optimizer, plan: Plan, prepared: Prepared) -> None:
    """Raise `Diverged` where nothing was learnt but large numbers.

    Either not even the best epoch has a loss on the held-out rows that is a number, or no epoch's training loss was
    near that of the first step or of a constant answer, and the answers are no better than a constant.
    """
    most = _most_loss(history, plan, prepared)
    lowest = min((loss for loss in history.curves["loss"] if math.isfinite(loss)), default=math.inf)
    if math.isfinite(history.best_metrics["loss"]) and lowest > most and not better(history, plan.answers):
        raise Diverged(
            f"The training loss grew from {history.first:.3g} to {lowest:.3g} and more, at a learning rate of "
            f"{optimizer.first_lr:g}: it diverged.",
            f"Try a lower one: --lr {optimizer.first_lr / 10:g}. Check the features for values of very different size.",
        )
    loss = history.best_metrics["loss"]
    if not math.isfinite(loss):
        raise Diverged(
            f"The loss of the held-out rows became {loss} in epoch {history.best_epoch}, at a learning rate of "
            f"{optimizer.lr:g}.",
            f"Try a lower one: --lr {optimizer.first_lr / 10:g}. Check the network's answers in eval mode.",
        )


def _most_loss(history: TrainingHistory, plan: Plan, prepared: Prepared) -> float:
    """Training loss beyond which a training has diverged; infinite where there is nothing to compare it with."""
    usual = _learnt_baseline(plan, prepared)
    if not usual:
        return math.inf
    return DIVERGED * max(usual["loss"], abs(history.first) if math.isfinite(history.first) else 0.0)


def _learnt_baseline(plan: Plan, prepared: Prepared) -> dict[str, float]:
    """Loss of a constant answer to the training rows, where none were held out."""
    target = prepared.train[1]
    return constant_loss_of(plan, plan.answers.truth(target), target) if len(target) else {}


def _doubts(history: TrainingHistory, plan: Plan, prepared: Prepared) -> list[str]:
    """Warnings against the use of a training."""
    found = no_better(history, plan.answers)
    last, most = history.curves["loss"][-1], _most_loss(history, plan, prepared)
    if math.isinf(most) and plan.constant_loss is None:
        most = 1e3 * abs(history.first)
    if not history.diverged and last > most:
        found.append(
            f"The training loss grew from {history.first:.3g} to {last:.3g}: it diverged. The weights of epoch "
            f"{history.best_epoch} are kept; a lower learning rate may bring better ones."
        )
    return found


def conclude(
    said: Resolved,
    context: Context,
    net: nn.Module,
    prepared: Prepared,
    plan: Plan,
    history: TrainingHistory,
    *,
    architecture: str,
    declared: bool,
    summary: dict[str, str],
    parts: dict[str, float],
    rows: int,
    warned: Sequence[str] = (),
) -> TrainedModel:
    """Publish a network, unless it is not as good as ``better_than`` demands.

    Parameters
    ----------
    said, context
    net : nn.Module
        On the CPU, with the weights of its best epoch.
    prepared, plan, history
    architecture : str
        Its name, or that of the module's class.
    declared : bool
        Whether the network can be made by that name.
    summary : dict of str to str
        What was chosen.
    parts : dict of str to float
        Seconds of the parts of steps, where they were timed.
    rows : int
        That it learnt from.
    warned : sequence of str
        Other warnings that were given.
    """
    doubts = _doubts(history, plan, prepared)
    for text in doubts:
        context.notify(text, "warning")
    doubts += [text for text in (*warned, labels_of_one_row(prepared.answers, rows)) if text]
    parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
    told = {**summary, "monitor": plan.monitor}
    manifest = _manifest(said, prepared, plan, history, architecture, declared, parameters, told, net)
    watched = history.best_metrics.get(plan.monitor, history.best_metrics["loss"])
    least = said.budget.better_than
    better = least is None or (watched < least if plan.mode == "min" else watched > least)
    info = manifest.info
    sample = prepared.sample.slice(0, said.run.sample)
    if better:
        info = publish(context, Model(manifest, prepared.processor, net), said.name, sample, said.run.encrypt)
    return TrainedModel(
        info=info,
        best_epoch=history.best_epoch,
        epochs=history.epochs,
        history=history.curves,
        seconds=history.seconds,
        stopped=history.stopped,
        diverged=history.diverged,
        profile=parts,
        notes=tuple(doubts),
        sample=len(sample) if better else 0,
    )


def _manifest(
    said: Resolved,
    prepared: Prepared,
    plan: Plan,
    history: TrainingHistory,
    architecture: str,
    declared: bool,
    parameters: int,
    summary: dict[str, str],
    net: nn.Module,
) -> Manifest:
    answers = prepared.answers
    told = tuple(feature.answer for feature in prepared.processor.features if feature.answer is not None)
    info = ModelInfo(
        name=said.name,
        version=0,
        task=answers.task,
        architecture=architecture,
        target=answers.names,
        vector=answers.of_pairs,
        classes=answers.labels if answers.classes else (),
        head_classes={name: head.labels for name, head in zip(answers.names, answers.parts, strict=False)},
        metrics={name: value for name, value in history.best_metrics.items() if math.isfinite(value)},
        baseline=history.baseline or _learnt_baseline(plan, prepared),
        created=time.time(),
        parameters=parameters,
        signature=Signature(prepared.processor.asked, told or answers.specs),
        lineage={
            "seed": str(plan.seed),
            "data": prepared.digest,
            **({"teacher": said.task.teacher} if said.task.teacher else {}),
            **versions(),
        },
        iterative=bool(answers.runtime),
    )
    curves = {
        name: [value if math.isfinite(value) else None for value in values] for name, values in history.curves.items()
    }
    return Manifest(
        info=info,
        answers=answers,
        params=dict(said.model.params),
        settled=architectures.get(architecture).settled(net, said.model.params) if declared else {},
        declared=declared,
        source="" if declared else describe(net, said.model.source),
        plan=summary,
        history=curves,
        best_epoch=history.best_epoch,
        seconds=history.seconds,
        metrics=by_name(said.task.metrics, plan.monitor, answers),
        runtime=answers.runtime,
    )
