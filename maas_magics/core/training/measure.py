"""Metrics of a network on rows that it does not learn from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maas_magics.core.batches.batches import Batches
from maas_magics.core.tasks.accumulators import Accumulator, accumulator_of
from maas_magics.core.tasks.baseline import baseline, constant_loss
from maas_magics.core.tasks.metrics import evaluate
from maas_magics.core.training.plan import Plan
from maas_magics.core.training.steps.out_of_memory import give_back, is_out_of_memory
from maas_magics.core.training.steps.weighting import Weighted

LIMIT = 64 * 2**20
"""Bytes of outputs up to which those of all rows are kept until all are there, so that the loss is taken of all at
once; of more, and of rows that differ in length, it is the mean over batches."""


class FigureAccumulator:
    """Loss and metrics of rows that come a batch at a time.

    Parameters
    ----------
    plan : Plan
    decode : nn.Module
        From outputs to decoded answers.
    """

    def __init__(self, plan: Plan, decode: nn.Module) -> None:
        self._plan, self._decode = plan, decode
        self._rows: list[tuple[Tensor, Tensor]] = []
        self._bytes = 0
        self._metrics: dict[str, Accumulator] | None = None
        self._loss, self._mass = 0.0, 0.0

    def add(self, outputs: Tensor, target: Tensor) -> None:
        """Take in a batch."""
        if self._metrics is None:
            self._rows.append((outputs, target))
            self._bytes += outputs.numel() * outputs.element_size()
            if self._bytes <= LIMIT and outputs.shape[1:] == self._rows[0][0].shape[1:]:
                return
            self._metrics = {name: accumulator_of(metric) for name, metric in self._plan.metrics.items()}
            rows, self._rows = self._rows, []
            for part, wanted in rows:
                self._count(part, wanted, self._metrics)
            return
        self._count(outputs, target, self._metrics)

    def _count(self, outputs: Tensor, target: Tensor, metrics: dict[str, Accumulator]) -> None:
        loss, mass = _loss_of(outputs, target, self._plan)
        if mass:  # the mean of no label is not a number, and counts nothing
            self._loss, self._mass = self._loss + loss * mass, self._mass + mass
        scored = _scored(outputs, target, self._decode, self._plan)
        if len(scored[1]):
            for metric in metrics.values():
                metric.update(*scored)

    def result(self) -> dict[str, float]:
        """Loss and every metric of all rows."""
        if self._metrics is None:
            outputs, targets = zip(*self._rows, strict=True)
            return figures_of(torch.cat(outputs), torch.cat(targets), self._decode, self._plan)
        loss = self._loss / self._mass if self._mass else float("nan")
        return {"loss": loss} | {name: metric.result() for name, metric in self._metrics.items()}


@torch.inference_mode()
def measure(net: nn.Module, batches: Batches, decode: nn.Module, plan: Plan) -> tuple[dict[str, float], Tensor]:
    """Loss and metrics of rows that nothing is learnt from, and their encoded target."""
    net.eval()
    figures, targets = FigureAccumulator(plan, decode), []
    for inputs, target in batches.whole():
        figures.add(outputs_in_parts(net, inputs), target)
        targets.append(target)
    return figures.result(), torch.cat(targets)


def _loss_of(outputs: Tensor, target: Tensor, plan: Plan) -> tuple[float, float]:
    """Loss of a batch, and what it counts in the mean over several."""
    if isinstance(plan.loss, Weighted):
        return float(plan.loss.measured(outputs, target)), float(plan.loss.parted(target)[1].double().sum())
    mass = plan.answers.mass(plan.class_weights) if plan.constant_loss is not None else None
    return float(plan.loss(outputs, target)), float(len(target) if mass is None else mass(target))


def _scored(outputs: Tensor, target: Tensor, decode: nn.Module, plan: Plan) -> tuple[Tensor, Tensor, Tensor | None]:
    """Answers, target and weights as metrics take them."""
    weights = None
    if isinstance(plan.loss, Weighted):
        target, weights = plan.loss.parted(target)
    if outputs.device.type == "mps":  # which has no float64; the decoder is on the CPU then
        outputs, target, weights = outputs.cpu(), target.cpu(), None if weights is None else weights.cpu()
    task = plan.answers
    weights = None if weights is None else task.row_weights(weights)
    return task.scored(task.table(decode(outputs)), task.truth(target), weights)


def outputs_in_parts(net: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Outputs of a network for some rows, half of them at a time where memory is too small for all."""
    try:
        found: Tensor = net(*inputs)
        return found
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or len(inputs[0]) < 2:
            raise
        give_back(error)
    half = len(inputs[0]) // 2
    return torch.cat(
        [outputs_in_parts(net, tuple(x[part] for x in inputs)) for part in (slice(half), slice(half, None))]
    )


def baseline_of(target: Tensor, plan: Plan) -> dict[str, float]:
    """Metrics of a constant answer to rows of an encoded target; the loss too where it is one by name."""
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
    loss = plan.loss.measured if isinstance(plan.loss, Weighted) else plan.loss
    return {"loss": float(loss(outputs, target))} | evaluate(plan.metrics, *_scored(outputs, target, decode, plan))
