"""Whether a loss prefers the outputs that are answered as the right labels, or those that are answered as others."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from maas_magics.core.data.answers import Answers, Link
from maas_magics.core.training.own.loss import OwnLoss, drawing_nothing

SIZES = (1.0, 4.0)
"""Logits that are tried; a margin is 1 as a rule."""

SURE = (0.75, 0.95)
"""Probabilities that are tried."""


@torch.no_grad()
def runs_backwards(loss: OwnLoss, answers: Answers, outputs: Tensor, target: Tensor) -> bool:
    """Whether a loss is smaller where every label is answered wrongly than where each is answered rightly.

    Parameters
    ----------
    loss : OwnLoss
    answers : Answers
        Of labels, with what the outputs are taken for.
    outputs : Tensor
        Of some rows, for their shape and type.
    target : Tensor
        Encoded, of those rows.
    """

    def value(tried: Tensor) -> float:
        try:
            with drawing_nothing():
                return float(loss(tried.to(outputs.dtype).reshape(outputs.shape), target))
        except Exception:  # a loss of the user's may refuse what no network answered
            return math.nan

    for link in (answers.decoding, "identity"):  # what a loss takes no logits of may take probabilities
        pairs = [(value(right), value(wrong)) for right, wrong in _extremes(answers, link, target)]
        known = [(good, bad) for good, bad in pairs if abs(good - bad) > 1e-6 * (abs(good) + abs(bad)) < math.inf]
        if known:
            return all(bad < good for good, bad in known)
    return False


def _extremes(answers: Answers, link: Link, target: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Outputs that are answered as each row's label, and those that are answered as any but that, for each size."""
    several = answers.task == "multiclass"
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
