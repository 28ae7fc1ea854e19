"""What the outputs of a graph are: labels with their probabilities, or quantities; and the task that answers so."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import numpy as np

from maas_magics.api.errors import ModelError
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import TEXT, Label, kind_of, plain
from maas_magics.core.importers.onnx.labels import Graph, is_softmax, labels_of, named_labels
from maas_magics.core.importers.onnx.trial import Answered
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.binary import Binary
from maas_magics.core.tasks.heads import Heads
from maas_magics.core.tasks.multiclass import Multiclass
from maas_magics.core.tasks.regression import Regression

EXACT = ("float64", "int64", "uint64", "int32", "uint32")
"""Types of numbers that float32 does not hold."""


@dataclass(frozen=True)
class Head:
    """One answer of a graph.

    Attributes
    ----------
    task : Task
        What it is.
    value : str
        The value of the graph that it is made of.
    made : {"scores", "label", "numbers"}
        Whether that value holds probabilities, a label of which the probabilities are made, or quantities.
    expected : ndarray, shape (n, …)
        Decoded answers to the rows that were asked.
    """

    task: Task
    value: str
    made: Literal["scores", "label", "numbers"]
    expected: Array

    @property
    def name(self) -> str:
        """Of the output."""
        return self.value if self.made == "numbers" else self.task.names[0]


def heads_of(model: Any, answered: Sequence[Answered], notify: Callable[[str], None]) -> list[Head]:
    """The answers of a graph.

    Parameters
    ----------
    model : ModelProto
        The graph.
    answered : sequence of Answered
        What it answers to some rows.
    notify : callable
        Gets a sentence for each thing that is left out, or assumed.

    Raises
    ------
    ModelError
        If nothing of it is an answer that is known here.
    """
    graph = Graph(model)
    left = list(answered)
    found: list[Head] = []
    while left:
        one = left.pop(0)
        values = one.values
        if one.keys:
            found.append(_scored(graph, one, None, notify))
            continue
        classes = _classes(graph, one, left)
        if classes is not None:
            scores = next((each for each in left if _are_scores(each, classes)), None)
            if scores is not None:
                left.remove(scores)
            found.append(_scored(graph, scores, (one, classes), notify))
        elif values.dtype == object:
            notify(f"The output {one.name!r} is text, of which the graph does not say the labels; it is left out.")
        elif values.ndim == 2 and values.shape[1] > 1 and is_softmax(graph, one.name) and _sum_to_one(values):
            places = tuple(range(values.shape[1]))
            found.append(Head(_task(one.name, places), one.name, "scores", values.astype(np.float32)))
        elif math.prod(values.shape[1:]):
            found.append(_quantities(one))
    if not found:
        raise ModelError("The graph has no output that is an answer.", "Numbers, or labels with their probabilities.")
    return found


def task_of(heads: Sequence[Head], target: Any) -> Task:
    """The task of some heads, by the names of a target where it has as many.

    Parameters
    ----------
    heads : sequence of Head
        The answers of a graph.
    target : Any
        What the user calls the answers; None for the usual names.
    """
    if len(heads) == 1:
        task = heads[0].task
        listed = tuple(target) if isinstance(target, (list, tuple)) else ()
        called = (target,) if isinstance(target, str) else listed
        usual = ("label",) if task.classes else ("value",) if len(task.names) == 1 else task.names
        return msgspec.structs.replace(task, names=called if len(called) == len(task.names) else usual)
    names = _called([head.name for head in heads])
    return Heads(tuple(names), heads=tuple(head.task for head in heads), loss_weights=(1.0,) * len(heads))


def with_labels(heads: list[Head], labels: Array | None) -> list[Head]:
    """A single head with its labels as they were learnt: graphs write truth values, and other numbers, as int64.

    Parameters
    ----------
    heads : list of Head
        The answers of a graph.
    labels : ndarray or None
        In the order of the classes, shape (classes,); others than the graph's change nothing.
    """
    if labels is None or len(heads) != 1 or labels.shape != (len(heads[0].task.classes),):
        return heads
    kind = kind_of(labels)
    classes = tuple(plain(label, kind) for label in labels.tolist())
    if any(known != label for known, label in zip(heads[0].task.classes, classes, strict=True)):
        return heads
    return [replace(heads[0], task=msgspec.structs.replace(heads[0].task, classes=classes, kind=kind))]


def expected_of(heads: Sequence[Head], task: Task) -> Array:
    """Decoded answers of all heads to the rows that were asked.

    Parameters
    ----------
    heads : sequence of Head
        The answers of a graph.
    task : Task
        Theirs.
    """
    return task.together([head.expected for head in heads]) if isinstance(task, Heads) else heads[0].expected


def _classes(graph: Graph, one: Answered, others: Sequence[Answered]) -> tuple[Label, ...] | None:
    """Labels of an output that is one; None where it is not."""
    values = one.values
    if values.shape[1:] not in ((), (1,)) or values.dtype not in (object, np.int64, np.int32, np.bool_):
        return None
    if values.dtype == np.bool_:
        return (False, True)
    widths = [each.values.shape[1] for each in others if each.values.ndim == 2 and each.values.dtype.kind == "f"]
    found = labels_of(graph, one.name, widths[0] if widths else 0)
    if found is None:
        found = next((each.keys for each in others if each.keys), None)
    if found is None or len(found) < 2 or len(set(found)) < len(found):
        return None
    if {isinstance(label, str) for label in found} != {values.dtype == object}:
        return None
    return tuple(found) if set(values.reshape(-1).tolist()) <= set(found) else None


def _are_scores(one: Answered, classes: tuple[Label, ...]) -> bool:
    if one.keys:
        return set(one.keys) == set(classes)
    return bool(one.values.dtype.kind == "f" and one.values.shape[1:] == (len(classes),))


def _scored(
    graph: Graph,
    scores: Answered | None,
    label: tuple[Answered, tuple[Label, ...]] | None,
    notify: Callable[[str], None],
) -> Head:
    """A label with its probabilities, where the scores are probabilities whose largest is the label's."""
    classes = label[1] if label is not None else ()
    value = ""
    if scores is not None:
        value = scores.name
        if scores.keys:
            node = graph.makers[scores.name]
            value, classes = node.input[0], named_labels(node) or scores.keys
    name = label[0].name if label is not None else value
    task = _task(name, classes)
    if scores is not None:
        order = [scores.keys.index(one) for one in classes] if scores.keys else list(range(len(classes)))
        values = scores.values[:, order].astype(np.float32)
        right = _sum_to_one(values)
        if label is None:
            if right:
                return Head(task, value, "scores", values)
            raise ModelError(
                f"The scores {scores.name!r} of the graph are not probabilities.", "Export the label, too."
            )
        likeliest = np.array(classes, dtype=object)[values.argmax(1)]
        same = likeliest == label[0].values.reshape(-1)
        if right and same.all():
            return Head(task, value, "scores", values)
        why = "are not probabilities" if not right else f"name another label than the graph's in {(~same).sum():,} rows"
        notify(f"The scores {scores.name!r} {why}: the labels are answered, with probabilities of 0 and 1.")
    assert label is not None
    places = {one: place for place, one in enumerate(classes)}
    index = np.array([places[one] for one in label[0].values.reshape(-1).tolist()], dtype=np.int64)
    return Head(task, label[0].name, "label", np.eye(len(classes), dtype=np.float32)[index])


def _task(name: str, classes: tuple[Label, ...]) -> Task:
    kind = TEXT if isinstance(classes[0], str) else "bool" if isinstance(classes[0], bool) else "int64"
    return (Binary if len(classes) == 2 else Multiclass)((name,), tuple(classes), kind=kind)


def _quantities(one: Answered) -> Head:
    values = one.values
    wide = values.dtype.name in EXACT
    row = values.shape[1:]
    flat = row in ((), (1,))
    axes = row if len(row) > 1 else ()
    count = 1 if flat or axes else row[0]
    names = (one.name,) if flat or axes else tuple(f"{one.name}{place}" for place in range(count))
    task = Regression(names, (), (0.0,) * count, (1.0,) * count, flat, axes=axes, wide=wide)
    expected = values.astype(np.float64 if wide else np.float32)
    return Head(task, one.name, "numbers", expected.reshape(len(values)) if flat else expected)


def _sum_to_one(values: Array) -> bool:
    return bool((values >= -1e-5).all() and (np.abs(values.sum(1) - 1) < 1e-3).all())


def _called(names: Sequence[str]) -> list[str]:
    """Names of heads: those of outputs that are words stay, others become words that no output has."""
    taken = {name for name in names if re.fullmatch(r"\w+", name)}
    found = dict.fromkeys(taken, "")
    for name in names:
        if name in taken:
            found[name] = name
            continue
        word = re.sub(r"\W+", "_", name).strip("_") or "answer"
        while word in found.values() or word in taken:
            word += "_"
        found[name] = word
    return [found[name] for name in names]
