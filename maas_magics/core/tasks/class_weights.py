"""How much each class counts in the loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
        The option ``--class-weights``; a sequence is in the order of the labels. Of several heads,
        "balanced", or one of these for each by its name.
    answers : Task
        The fitted target.
    target : Tensor, shape (n,) or (n, outputs)
        Encoded training target.
    counts : Tensor, optional
        Rows of each class, int64 (classes,), where ``target`` is but a sample; of several heads side by side.

    Returns
    -------
    Tensor or None, float32 (classes,)
        Of several heads side by side, see `weights_of`; the mean over the training rows of a head is then 1.

    Raises
    ------
    OptionError
        If the weights do not fit the labels.
    """
    if asked is None:
        return None
    if answers.parts:
        return _of_heads(asked, answers, target, counts)
    if not (answers.one_label or answers.exclusive):
        raise OptionError(
            f"Class weights are for one label a row; the task is {answers.task}.", "Drop --class-weights."
        )
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
    given = {str(label): weight for label, weight in _pairs(asked, labels)}
    odd = next((weight for weight in given.values() if not isinstance(weight, (int, float))), None)
    if odd is not None:
        raise OptionError(f"A class weight is a number, not {odd!r}.", _told(labels))
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
    return torch.tensor([given[label] for label in labels], dtype=torch.float32)


def weights_of(task: Task, weights: Tensor | None) -> list[Tensor | None]:
    """Class weights of each head, where there are several; of a head without labels there are none.

    Parameters
    ----------
    task : Task
        The fitted target.
    weights : Tensor or None
        What `class_weights` found.
    """
    if weights is None:
        return [None] * len(task.parts)
    found = torch.split(weights, list(map(_labels, task.parts)))
    return [part if len(part) else None for part in found]


def counts_of(task: Task, counts: Tensor | None) -> list[Tensor | None]:
    """Rows of each class, by head; None of a head that has not one label a row.

    Parameters
    ----------
    task : Task
        The fitted target.
    counts : Tensor or None
        Of all heads side by side.
    """
    if counts is None:
        return [None] * len(task.parts)
    found = torch.split(counts, [len(head.classes) if head.one_label else 0 for head in task.parts])
    return [part if len(part) else None for part in found]


def balanced_heads(answers: Task, asked: Any) -> dict[str, Any]:
    """Class weights of several heads whose labels count in balance, where nothing else is requested for one.

    Parameters
    ----------
    answers : Task
        The fitted target of all heads.
    asked : mapping or None
        The option ``--class-weights``.

    Raises
    ------
    OptionError
        If no target has labels.
    """
    labelled = [name for name, head in zip(answers.names, answers.parts, strict=True) if _labels(head)]
    if not labelled:
        raise OptionError("Rows are balanced by their label; no target has any.", "Drop --balance.")
    return dict.fromkeys(labelled, "balanced") | dict(asked or {})


def _labels(head: Task) -> int:
    return len(head.classes) if head.one_label or head.exclusive else 0


def _of_heads(asked: Any, answers: Task, target: Tensor, counts: Tensor | None) -> Tensor:
    labelled = [name for name, head in zip(answers.names, answers.parts, strict=True) if _labels(head)]
    if not labelled:
        raise OptionError("Class weights are for labels; no target has any.", "Drop --class-weights.")
    if not isinstance(asked, (str, Mapping)):
        raise OptionError(
            f"Class weights of several targets are given for each by its name, not as {type(asked).__name__}.",
            f'"balanced", or {{{labelled[0]!r}: "balanced"}}',
        )
    if isinstance(asked, Mapping):
        strange = next((name for name in asked if name not in labelled), None)
        if strange is not None:
            what = "has no labels" if strange in answers.names else "is not a target"
            raise OptionError(
                f"The class weights name {strange!r}, which {what}.",
                f"Weights for each target of labels: {{{labelled[0]!r}: …}}; those are {', '.join(labelled)}.",
            )
    found = []
    parts = zip(answers.names, answers.parts, answers.targets_of(target), counts_of(answers, counts), strict=True)
    for name, head, wanted, rows in parts:
        given = asked if isinstance(asked, str) else asked.get(name)
        if not _labels(head) or given is None:
            found.append(torch.ones(_labels(head)))
            continue
        try:
            weights = class_weights(given, head, wanted, rows)
        except OptionError as error:
            raise OptionError(f"The target {name!r}: {error.message}", error.hint) from None
        assert weights is not None
        if rows is None and len(wanted):
            known = head.truth(wanted)
            rows = class_counts(head.scored(known, known)[1], len(weights))
        found.append(weights if rows is None else weights * rows.sum() / (weights * rows).sum().clamp(min=1e-12))
    return torch.cat(found)


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
