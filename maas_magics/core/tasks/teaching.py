"""How far a network's answers are from a teacher's: probabilities, softened by a temperature (Hinton et al. 2015).

The gradient of softened probabilities shrinks with the square of the temperature, by which it is multiplied again.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.losses import TINY, Loss


def of_one_label(task: Task, temperature: float) -> Loss:
    """Divergence of Kullback and Leibler from the teacher's probabilities of the labels, (n, classes)."""

    def divergence(outputs: Tensor, taught: Tensor) -> Tensor:
        logits = _logits(task, outputs, exclusive=task.exclusive).reshape(len(taught), -1)
        if not task.exclusive:  # one output, the logit of the second label
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        soft = (taught.clamp(TINY, 1).log() / temperature).log_softmax(dim=1)
        found = functional.kl_div(
            (logits / temperature).log_softmax(dim=1), soft.to(logits.dtype), reduction="batchmean", log_target=True
        )
        return found * temperature**2

    return divergence


def of_each_label(task: Task, temperature: float) -> Loss:
    """Cross entropy with the teacher's probability of each label, (n, labels)."""

    def entropy(outputs: Tensor, taught: Tensor) -> Tensor:
        logits = _logits(task, outputs, exclusive=False).reshape(taught.shape)
        soft = torch.sigmoid(torch.logit(taught, TINY) / temperature).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits / temperature, soft) * temperature**2

    return entropy


def _logits(task: Task, outputs: Tensor, *, exclusive: bool) -> Tensor:
    """Outputs as logits, where a network answers probabilities."""
    if task.decoding != "identity":
        return outputs
    return outputs.clamp(TINY, 1).log() if exclusive else torch.logit(outputs, TINY)
