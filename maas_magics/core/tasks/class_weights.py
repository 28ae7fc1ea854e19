"""How much each class counts in the loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.core.tasks.base import Task


def class_weights(asked: Any, answers: Task, target: Tensor, counts: Tensor | None = None) -> Tensor | None:
    """Weight of each class, in the order of the labels.

    Parameters
    ----------
    asked : None, "balanced", dict by label, or sequence
        The option ``--class-weights``; a sequence is in the order of the labels.
    answers : Task
        The fitted target.
    target : Tensor, shape (n,) or (n, outputs)
        Encoded training target.
    counts : Tensor, optional
        Rows of each class, int64 (classes,), where ``target`` is but a sample.

    Raises
    ------
    OptionError
        If the weights do not fit the labels.
    """
    if asked is None:
        return None
    if not (answers.one_label or answers.exclusive):
        raise OptionError(f"Class weights are for labels; the task is {answers.task}.", "Drop --class-weights.")
    labels = answers.labels
    if isinstance(asked, str):
        if asked != "balanced":
            raise OptionError(f"There are no class weights {asked!r}.", "--class-weights balanced, or a dict of labels")
        if counts is None and not len(target):
            told = ", ".join(f"{label!r}: 1.0" for label in labels[:2])
            raise OptionError(
                "A loader's or dataset's labels are not counted beforehand.", f"A dict of weights: {{{told}, …}}"
            )
        if counts is None:
            known = answers.truth(target)
            counts = class_counts(answers.scored(known, known)[1], len(labels))
        return balanced_weights(counts)
    if not isinstance(asked, dict) and len(asked) > len(labels):
        raise OptionError(f"{len(asked)} class weights were given for {len(labels)} labels.", _told(labels))
    given = {str(label): float(weight) for label, weight in _pairs(asked, labels)}
    for label in labels:
        if label not in given:
            raise OptionError(f"The class weights lack the label {label!r}.", _told(labels))
    for label, weight in given.items():
        if label not in labels:
            raise OptionError(f"The class weights name {label!r}, which is not a label.", did_you_mean(label, labels))
        if not 0 <= weight < math.inf:
            raise OptionError(
                f"The weight of {label!r} is {weight:g}; a number of at least 0 was expected.", "Drop it."
            )
    return torch.tensor([given[label] for label in labels])


def _pairs(weights: Any, labels: Sequence[str]) -> Iterable[tuple[Any, Any]]:
    return weights.items() if isinstance(weights, dict) else zip(labels, weights, strict=False)


def _told(labels: Sequence[str]) -> str:
    return f"Labels: {', '.join(labels[:12])}."


def class_counts(target: Tensor, classes: int) -> Tensor:
    """Rows of each class, int64 (classes,), of an encoded target."""
    return torch.bincount(target.reshape(-1).to(torch.int64), minlength=classes)


def balanced_weights(counts: Tensor) -> Tensor:
    """Weight of each class, n / (classes · n_class), as scikit-learn's ``balanced``."""
    return (counts.sum() / (len(counts) * counts.clamp(min=1))).to(torch.float32)
