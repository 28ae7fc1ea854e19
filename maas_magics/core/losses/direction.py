"""What outputs a loss of labels prefers: those that are answered as the right ones or as others, logits or shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from maas_magics.core.losses.own import OwnLoss
from maas_magics.core.networks.modules import preserve_rng
from maas_magics.core.tasks.base import Link, Task

SIZES = (1.0, 4.0)
"""Logits that are tried; a margin is 1 as a rule."""

SURE = (0.75, 0.95)
"""Probabilities that are tried."""


ON_THE_WAY = (0.5, 0.75, 0.95, 0.999)
"""Probabilities of the right labels, each better than the one before."""

BEYOND = (0.25, 1.0, 3.0)
"""How far past 0 and 1 outputs are tried."""

OF_LOGITS = {"sigmoid", "logsigmoid", "softplus", "softmax", "log_softmax", "logsumexp"}
"""Functions that a loss calls which takes logits."""


@torch.no_grad()
def takes_probabilities(
    loss: OwnLoss, answers: Task, outputs: Tensor, target: Tensor, bounded: Callable[[], bool]
) -> bool:
    """Whether a loss of the user's own takes outputs for the probabilities themselves.

    It is least at 0 and 1, or would be less past them, and the network goes no further.

    Parameters
    ----------
    loss, answers, outputs, target
        As `runs_backwards` takes them.
    bounded : callable
        Whether the network returns probabilities for any input.
    """
    several = answers.exclusive
    mark = functional.one_hot(target, len(answers.classes)).double() if several else target.double()
    shares = []
    for sure in ON_THE_WAY:
        part = sure * mark + (1 - sure) * (1 - mark)
        shares.append(_value(loss, part / part.sum(dim=1, keepdim=True) if several else part, outputs, target))
    if not all(after < before for before, after in pairwise(shares)):
        return False
    if not several:
        past = [_value(loss, mark + far * (2 * mark - 1), outputs, target) for far in BEYOND]
        if all(not value <= shares[-1] for value in past):  # none, past 1, is as good as infinite
            return True
    return bounded()


def _value(loss: OwnLoss, tried: Tensor, outputs: Tensor, target: Tensor) -> float:
    """Loss at some outputs; NaN where it has none."""
    try:
        with preserve_rng():
            return float(loss(tried.to(outputs.dtype).reshape(outputs.shape), target))
    except Exception:  # a loss of the user's may refuse what no network answered
        return math.nan


@torch.no_grad()
def runs_backwards(loss: OwnLoss, answers: Task, outputs: Tensor, target: Tensor) -> bool:
    """Whether a loss is smaller where every label is answered wrongly than where each is answered rightly.

    Parameters
    ----------
    loss : OwnLoss
    answers : Task
        Of labels, with what the outputs are taken for.
    outputs : Tensor
        Of some rows, for their shape and type.
    target : Tensor
        Encoded, of those rows.
    """

    def value(tried: Tensor) -> float:
        return _value(loss, tried, outputs, target)

    for link in (answers.decoding, "identity"):  # what a loss takes no logits of may take probabilities
        pairs = [(value(right), value(wrong)) for right, wrong in _extremes(answers, link, target)]
        known = [(good, bad) for good, bad in pairs if abs(good - bad) > 1e-6 * (abs(good) + abs(bad)) < math.inf]
        if known:
            return all(bad < good for good, bad in known)
    return False


def _extremes(answers: Task, link: Link, target: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Outputs that are answered as each row's label, and those that are answered as any but that, for each size."""
    several = answers.exclusive
    mark = functional.one_hot(target, len(answers.classes)).double() if several else target.double()
    if link in ("softmax", "sigmoid"):
        return [(size * (2 * mark - 1), size * (1 - 2 * mark)) for size in SIZES]
    made = []
    for sure in SURE:
        pair = [sure * part + (1 - sure) * (1 - part) for part in (mark, 1 - mark)]
        if several:
            pair = [shares / shares.sum(dim=1, keepdim=True) for shares in pair]
        made.append((pair[0], pair[1]))
    return [(right.log(), wrong.log()) for right, wrong in made] if link == "exp" else made
