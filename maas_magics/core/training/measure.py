"""Figures of a network on rows that it does not learn from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maas_magics.core.batches.batches import Batches
from maas_magics.core.tasks.baseline import baseline, constant_loss
from maas_magics.core.tasks.metrics import evaluate
from maas_magics.core.training.plan import Plan
from maas_magics.core.training.steps.out_of_memory import give_back, is_out_of_memory
from maas_magics.core.training.steps.weighting import Weighted


@torch.inference_mode()
def answer(net: nn.Module, batches: Batches) -> tuple[Tensor, Tensor]:
    """Outputs and encoded target of every row, in order."""
    net.eval()
    outputs, targets = [], []
    for inputs, target in batches.whole():
        outputs.append(_outputs(net, inputs))
        targets.append(target)
    return torch.cat(outputs), torch.cat(targets)


def _outputs(net: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """What a network answers to some rows, half of them at a time where memory is too small for all."""
    try:
        found: Tensor = net(*inputs)
        return found
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or len(inputs[0]) < 2:
            raise
        give_back(error)
    half = len(inputs[0]) // 2
    return torch.cat([_outputs(net, tuple(x[part] for x in inputs)) for part in (slice(half), slice(half, None))])


def baseline_of(target: Tensor, plan: Plan) -> dict[str, float]:
    """Figures of a constant answer to rows of an encoded target; the loss too where it is one by name."""
    with torch.inference_mode():
        target = target.cpu()
        plain, weights = plan.loss.parted(target) if isinstance(plan.loss, Weighted) else (target, None)
        known = plan.answers.truth(plain)
        weights = None if weights is None else plan.answers.row_weights(weights)
        _, known, weights = plan.answers.scored(known, known, weights)
        return constant_loss_of(plan, known, target) | baseline(plan.metrics, plan.answers, known, weights)


def constant_loss_of(plan: Plan, known: Tensor, target: Tensor) -> dict[str, float]:
    """Loss of a constant answer, of a loss by name that can be had on the CPU."""
    if plan.constant_loss is None or not len(target):
        return {}
    said = constant_loss(plan.constant_loss, plan.answers, known, target, plan.class_weights, plan.smoothing)
    return {"loss": said}


def figures_of(outputs: Tensor, target: Tensor, decode: nn.Module, plan: Plan) -> dict[str, float]:
    """Loss and every metric of some outputs."""
    weights = None
    if isinstance(plan.loss, Weighted):
        figures = {"loss": float(plan.loss.measured(outputs, target))}
        target, weights = plan.loss.parted(target)
    else:
        figures = {"loss": float(plan.loss(outputs, target))}
    if outputs.device.type == "mps":  # which has no float64; the decoder is on the CPU then
        outputs, target, weights = outputs.cpu(), target.cpu(), None if weights is None else weights.cpu()
    task = plan.answers
    weights = None if weights is None else task.row_weights(weights)
    return figures | evaluate(plan.metrics, *task.scored(task.table(decode(outputs)), task.truth(target), weights))
