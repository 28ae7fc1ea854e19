"""Several training steps as one graph of tensor operators: forward, loss, backward and update, again and again."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, functionalize

from maas_magics.api.errors import IncompatibleVersion
from maas_magics.core.compat.compiled import load_operators, operators_graph
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.training.steps.optimizers import Optimizer, views_like
from maas_magics.core.training.steps.random_numbers import random_state, restore_random
from maas_magics.core.training.steps.step import loss_on


class Untraceable(Exception):
    """Why a step cannot be one graph, as the end of a sentence."""


@dataclass(frozen=True)
class Rule:
    """How an optimizer updates weights, as arithmetic of tensors and of numbers that change from step to step.

    Attributes
    ----------
    moments : tuple of str
        Names of the tensors that the optimizer keeps for each weight.
    row : callable
        From a parameter group and the number of this step, counted from 1, to the numbers of the step.
    update : callable
        ``(weights, gradient, moments, numbers) -> (weights, moments)``.
    """

    moments: tuple[str, ...]
    row: Callable[[dict[str, Any], float], list[float]]
    update: Callable[[Tensor, Tensor, list[Tensor], list[Tensor]], tuple[Tensor, list[Tensor]]]


def rule_of(inner: torch.optim.Optimizer) -> Rule:
    """The rule of Adam, AdamW or SGD as ``torch.optim`` documents it.

    Raises
    ------
    Untraceable
        For another optimizer, or a variant that has no rule here.
    """
    kind = type(inner)
    groups = inner.param_groups
    if any(len(group["params"]) != 1 for group in groups):
        raise Untraceable(f"{kind.__name__} does not work on all weights at once")
    if any(group.get(name) for group in groups for name in ("amsgrad", "maximize", "differentiable", "capturable")):
        raise Untraceable(f"this variant of {kind.__name__} has no compiled form")
    decays = any(group["weight_decay"] for group in groups) if "weight_decay" in groups[0] else False
    if kind in (torch.optim.Adam, torch.optim.AdamW):
        return _adam(decays, bool(groups[0]["decoupled_weight_decay"]))
    if kind is torch.optim.SGD:
        moving = {bool(group["momentum"]) for group in groups}
        nesterov = {bool(group["nesterov"]) for group in groups}
        if len(moving) == 1 and len(nesterov) == 1:
            return _sgd(decays, moving.pop(), nesterov.pop())
    raise Untraceable(f"{kind.__name__} has no compiled form; Adam, AdamW and SGD have")


def _adam(decays: bool, decoupled: bool) -> Rule:
    def row(group: dict[str, Any], step: float) -> list[float]:
        beta1, beta2 = group["betas"]
        size = group["lr"] / (1 - beta1**step)
        decay = group["weight_decay"] * (group["lr"] if decoupled else 1)
        return [1 - beta1, beta2, 1 - beta2, size, math.sqrt(1 - beta2**step), group["eps"], decay]

    def update(
        weights: Tensor, gradient: Tensor, moments: list[Tensor], numbers: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        mean, square = moments
        take, keep, fresh, size, correction, eps, decay = numbers
        if decays and decoupled:
            weights = weights * (1 - decay)
        elif decays:
            gradient = gradient + decay * weights
        mean = mean + (gradient - mean) * take
        square = square * keep + gradient * gradient * fresh
        return weights - size * mean / (square.sqrt() / correction + eps), [mean, square]

    return Rule(("exp_avg", "exp_avg_sq"), row, update)


def _sgd(decays: bool, moving: bool, nesterov: bool) -> Rule:
    def row(group: dict[str, Any], step: float) -> list[float]:
        return [group["lr"], group["momentum"], 1 - group["dampening"], group["weight_decay"]]

    def update(
        weights: Tensor, gradient: Tensor, moments: list[Tensor], numbers: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        lr, momentum, take, decay = numbers
        if decays:
            gradient = gradient + decay * weights
        if moving:
            velocity = moments[0] * momentum + gradient * take
            gradient, moments = (gradient + velocity * momentum if nesterov else velocity), [velocity]
        return weights - lr * gradient, moments

    return Rule(("momentum_buffer",) if moving else (), row, update)


@dataclass(frozen=True)
class StepGroup:
    """A graph of several steps, and what it works on.

    Its inputs are, in this order: the weights of each parameter group, its moments, the numbers of the steps
    ``(steps, groups, numbers)``, the inputs and the target of all batches concatenated, and what the network reads
    besides. Weights, moments and buffers are changed in place; the answer is the loss of each step.

    Attributes
    ----------
    graph : GraphModule
    steps, rows : int
        Steps, and rows of each.
    rule : Rule
    others : tuple of Tensor
        Buffers, and parameters that do not learn.
    draws : bool
        Whether it draws random numbers, as dropout does.
    """

    graph: torch.fx.GraphModule
    steps: int
    rows: int
    rule: Rule
    others: tuple[Tensor, ...]
    draws: bool


def trace(
    net: nn.Module,
    optimizer: Optimizer,
    loss_of: Loss,
    inputs: tuple[Tensor, ...],
    target: Tensor,
    steps: int,
    autocast: Any = None,
) -> StepGroup:
    """Graph of ``steps`` training steps.

    Parameters
    ----------
    net : nn.Module
        In training mode; is left as it is, as are all random numbers.
    optimizer : Optimizer
        One that has done a step, so that its state is there.
    loss_of : Loss
    inputs, target : Tensor
        ``steps`` batches of equal size, concatenated.
    steps : int
    autocast : context manager, optional
        Around the forward pass.

    Raises
    ------
    Untraceable
        If the network decides by values, draws random numbers outside torch, or the optimizer has no rule.
    """
    rule = rule_of(optimizer.inner)
    weights, moments = state_of(optimizer, rule)
    places = _places(net, weights)
    learning = {name for names in places for name, _ in names}
    rest = {n: t.detach() for n, t in (*net.named_parameters(), *net.named_buffers()) if n not in learning}
    rows, count = len(target) // steps, len(inputs)
    numbers = torch.ones(steps, len(weights), len(rule.row(optimizer.inner.param_groups[0], 1)), device=target.device)

    def group(*given: Tensor) -> tuple[Tensor]:
        flats, state = list(given[: len(weights)]), list(given[len(weights) : len(weights) + len(moments)])
        table, *data = given[len(flats) + len(state) : len(flats) + len(state) + 2 + count]
        others = dict(zip(rest, given[len(flats) + len(state) + 2 + count :], strict=True))
        losses, first, first_state = [], list(flats), list(state)
        for k in range(steps):
            with torch.enable_grad():
                leaves = [flat.detach().requires_grad_() for flat in flats]
                parameters = {
                    name: view
                    for leaf, named in zip(leaves, places, strict=True)
                    for (name, _), view in zip(named, views_like(leaf, [p for _, p in named]), strict=True)
                }
                batch = [part[k * rows : (k + 1) * rows] for part in data]
                loss = loss_on(
                    lambda *x, own=parameters: functional_call(net, {**own, **others}, x),
                    loss_of,
                    tuple(batch[:-1]),
                    batch[-1],
                    ensemble=hasattr(net, "members"),
                    autocast=autocast or nullcontext(),
                    widen=autocast is not None,
                )
                gradients = torch.autograd.grad(loss, leaves)
            losses.append(loss.detach())
            for i, gradient in enumerate(gradients):
                own = slice(i * len(rule.moments), (i + 1) * len(rule.moments))
                flats[i], state[own] = rule.update(flats[i].detach(), gradient, state[own], list(table[k, i].unbind()))
        for old, new in zip((*first, *first_state), (*flats, *state), strict=True):
            old.copy_(new)
        return (torch.stack(losses),)

    example = [*weights, *moments, numbers, *inputs, target, *rest.values()]
    try:
        decompositions = load_operators()
    except IncompatibleVersion as error:
        raise Untraceable(error.message.rstrip(".")) from None
    before = random_state()
    try:
        # The backward pass is resolved first: what makes a graph functional cannot look through autograd.
        with torch.no_grad():
            found = operators_graph(group, example)
            found = operators_graph(functionalize(found, remove="mutations"), example, decompositions)
    except Exception as error:  # whatever the network, the loss or torch raises
        raise Untraceable(f"{_first(error)}") from None
    finally:
        drew = _drew_outside(before)
        restore_random(before)
    if drew:
        raise Untraceable(f"the network draws random numbers of {drew}, which a graph would repeat")
    draws = any(torch.Tag.nondeterministic_seeded in getattr(n.target, "tags", ()) for n in found.graph.nodes)
    return StepGroup(found, steps, rows, rule, tuple(rest.values()), draws)


def state_of(optimizer: Optimizer, rule: Rule) -> tuple[list[Tensor], list[Tensor]]:
    """Weights of each parameter group, and its moments in turn.

    Raises
    ------
    Untraceable
        If there is no state yet, or some weights are still frozen.
    """
    inner = optimizer.inner
    weights = [group["params"][0].detach() for group in inner.param_groups]
    try:
        moments = [inner.state[g["params"][0]][name] for g in inner.param_groups for name in rule.moments]
    except KeyError:
        raise Untraceable("some weights have not learnt yet") from None
    return weights, moments


def _places(net: nn.Module, weights: list[Tensor]) -> list[list[tuple[str, Tensor]]]:
    """Names and parameters that lie in each flat tensor, in their order there."""
    homes = {flat.untyped_storage().data_ptr(): place for place, flat in enumerate(weights)}
    found: list[list[tuple[str, Tensor]]] = [[] for _ in weights]
    for name, parameter in net.named_parameters():
        place = homes.get(parameter.untyped_storage().data_ptr())
        if place is not None:
            found[place].append((name, parameter.detach()))
    for flat, members in zip(weights, found, strict=True):
        members.sort(key=lambda member: member[1].storage_offset())
        if sum(member.numel() for _, member in members) != flat.numel():
            raise Untraceable("the optimizer does not work on all weights at once")
    return found


def _drew_outside(before: dict[str, Any]) -> str:
    """What drew random numbers besides torch."""
    _, keys, position, *_ = before["numpy"]
    state: Any = np.random.get_state()
    if position != state[2] or not np.array_equal(keys, state[1]):
        return "numpy"
    return "" if random.getstate() == before["python"] else "Python"


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
