"""From a network that was trained to a version in the store."""

from __future__ import annotations

import math
import time

from torch import nn

from maas_magics.api.errors import Diverged
from maas_magics.api.requests import TrainRequest
from maas_magics.api.results import ModelInfo, TrainedModel
from maas_magics.api.signature import Signature
from maas_magics.core.context import Context, versions
from maas_magics.core.manifest import Manifest
from maas_magics.core.model import Model
from maas_magics.core.publish import publish
from maas_magics.core.training.own.modules import describe
from maas_magics.core.training.plan import History, Plan
from maas_magics.core.training.rows.prepare import Prepared
from maas_magics.core.training.steps.optimizers import Optimizer


def refuse_diverged(history: History, optimizer: Optimizer) -> None:
    """Raise `Diverged` where not even the best epoch has a loss on the held-out rows that is a number."""
    loss = history.best_metrics["loss"]
    if not math.isfinite(loss):
        raise Diverged(
            f"The loss of the held-out rows became {loss} in epoch {history.best_epoch}, at a learning rate of "
            f"{optimizer.lr:g}.",
            f"Try a lower one: --lr {optimizer.first_lr / 10:g}. Check the network's answers in eval mode.",
        )


def conclude(
    request: TrainRequest,
    context: Context,
    net: nn.Module,
    prepared: Prepared,
    plan: Plan,
    history: History,
    *,
    architecture: str,
    declared: bool,
    facts: dict[str, str],
    seconds: float,
    parts: dict[str, float],
) -> TrainedModel:
    """Publish a network, unless it should have become better than it is.

    Parameters
    ----------
    request, context
    net : nn.Module
        On the CPU, with the weights of its best epoch.
    prepared, plan, history
    architecture : str
        Its name, or that of the module's class.
    declared : bool
        Whether the network can be made by that name.
    facts : dict of str to str
        What was chosen.
    seconds : float
        That the training took.
    parts : dict of str to float
        Seconds of the parts of steps, where they were timed.
    """
    parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
    told = {**facts, "monitor": plan.monitor}
    manifest = _manifest(request, prepared, history, architecture, declared, parameters, told, seconds, net)
    watched = history.best_metrics.get(plan.monitor, history.best_metrics["loss"])
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
    answers = prepared.answers
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
