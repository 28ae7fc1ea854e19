"""The target: what the answers are, how they become numbers to learn, and how outputs become answers again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.api.requests import Task
from maas_magics.api.signature import DATATYPES, Datatype, TensorSpec
from maas_magics.core.data.arrow import Array, dates
from maas_magics.core.data.labels import (
    DECIMAL,
    TEXT,
    Label,
    is_decimal,
    is_text,
    key,
    kind_of,
    kind_of_holding,
    names_of,
    plain,
    typed,
)
from maas_magics.core.data.running import Running, figures

Link = Literal["", "identity", "sigmoid", "softmax", "exp"]
"""What turns outputs into answers; empty for what the task has: a sigmoid, a softmax, nothing for quantities."""

Family = Literal["quantities", "labels", "classes", "choice"]
"""What a loss is for, where the task hangs on the target as well: numbers; yes or no, once or several times; one of
several classes, each with an output; or one label, of two with one output."""

MOST_CLASSES = 20
"""Whole numbers with more different values than this are quantities, not labels."""


class Answers(msgspec.Struct, frozen=True):
    """The fitted target.

    Attributes
    ----------
    task : Task
    names : tuple of str
        Column names; ``("y",)`` for an unnamed array.
    classes : tuple of Label
        Labels in the order of the probabilities; empty for regression, (False, True) for a multilabel task.
    center, scale : tuple of float
        Regression: mean and standard deviation of each training target, or 0 and 1.
    flat : bool
        Whether a regression target is one number a row rather than a row of numbers.
    low, high : tuple of float
        Regression: range that predictions are kept in; empty for none.
    link : Link
        How outputs become answers: what the loss takes them for.
    shape : tuple of int or None
        Regression: numbers of a row's answer, where the network gives other ones than the target has, as quantiles.
    kind : str
        What the labels are; see `maas_magics.core.data.labels`.
    usual : tuple of float
        Mean of each quantity, or share of each label, in the training rows; empty where they were not counted.
    """

    task: Task
    names: tuple[str, ...]
    classes: tuple[Label, ...] = ()
    center: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    flat: bool = True
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    link: Link = ""
    shape: tuple[int, ...] | None = None
    kind: str = ""
    usual: tuple[float, ...] = ()

    @property
    def decoding(self) -> Link:
        """How outputs become answers."""
        usual: dict[Task, Link] = {"regression": "identity", "multiclass": "softmax"}
        return self.link or usual.get(self.task, "sigmoid")

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one row's answer of a regression."""
        return self.shape if self.shape is not None else () if self.flat else (len(self.center),)

    @property
    def outputs(self) -> int:
        """How many numbers the network puts out for a row."""
        if self.task == "binary":
            return 1
        return (
            len(self.classes)
            if self.task == "multiclass"
            else len(self.names)
            if self.task == "multilabel"
            else len(self.center)
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the probabilities' columns."""
        return self.names if self.task == "multilabel" else names_of(self.label_array)

    @property
    def standardised(self) -> bool:
        """Whether quantities are learnt in other units than they are told in."""
        return any(self.center) or any(scale != 1 for scale in self.scale)

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Outputs of an exported model. Quantities that are scaled back have more digits than float32 holds."""
        if self.task == "regression":
            datatype: Datatype = "FP64" if self.standardised else "FP32"
            return (TensorSpec("prediction", datatype, (-1, *self.row)),)
        probabilities = TensorSpec("probabilities", "FP32", (-1, len(self.labels)))
        several = (len(self.names),) if self.task == "multilabel" else ()
        return TensorSpec("prediction", DATATYPES[self.label_array.dtype.name], (-1, *several)), probabilities

    @property
    def label_array(self) -> Array:
        """Labels as they came, as an array that a class index picks from."""
        return typed(self.classes, self.kind)

    def encode(self, values: Array) -> Array:
        """Target of some rows as the loss takes it.

        Parameters
        ----------
        values : ndarray, shape (n,) or (n, k)

        Returns
        -------
        ndarray
            int64 (n,) for one label of several, else float32 (n, outputs); regression targets standardised.

        Raises
        ------
        DataError
            For a label the model was not trained on, or a missing value.
        """
        if self.task == "regression":
            with np.errstate(over="ignore"):  # a quantity past float32 is infinitely far off, which its loss tells
                standard = (self.quantities(values) - np.array(self.center)) / np.array(self.scale)
                return np.asarray(standard, dtype=np.float32)
        if self.task == "multilabel":
            return floats(values, self.names).astype(np.float32)
        known = {key(label, self.kind): i for i, label in enumerate(self.label_array.tolist())}
        given = values.tolist()
        try:
            places = {label: known[key(label, self.kind)] for label in set(given)}
        except KeyError as error:
            raise DataError(
                f"The target holds {error.args[0]!r}, a label the model was not trained on.",
                f"It knows: {', '.join(map(repr, self.classes[:12]))}.",
            ) from None
        index = np.array([places[label] for label in given], dtype=np.int64)
        return index.astype(np.float32)[:, None] if self.task == "binary" else index

    def quantities(self, values: Array) -> Array:
        """Quantities of some rows in their own units, float64 (n, k)."""
        return floats(values, self.names).reshape(len(values), -1)


def fit_answers(values: Array, names: Sequence[str], task: Task | Family | None, standardise: bool) -> Answers:
    """Understand a target.

    Parameters
    ----------
    values : ndarray, shape (n,) or (n, k)
        Without missing values.
    names : sequence of str
    task : Task, Family or None
        Inferred when it is no task: text, booleans and whole numbers of at most 20 different values are labels, other
        numbers quantities; several columns are labels where each holds nothing but 0 and 1.
    standardise : bool
        Whether a regression target is learnt in units of its standard deviation.

    Raises
    ------
    DataError
        If there is one class or one value only, or the task does not fit the values.
    """
    asked, task = task, infer_task(values, task)
    flat = values.ndim == 1
    if not flat and len(names) < values.shape[1]:
        names = [f"{names[0]}{i}" for i in range(values.shape[1])]
    if task == "regression":
        numbers = floats(values, names).reshape(len(values), -1)
        if (numbers == numbers[0]).all():
            raise DataError(
                f"The target {', '.join(map(repr, names))} has the value {numbers[0, 0]:g} in every row.",
                "Give rows in which it varies.",
            )
        return scaled(Answers(task, tuple(names), flat=flat), figures(numbers), standardise)
    if task == "multilabel":
        if flat or not set(np.unique(floats(values, names)).tolist()) <= {0.0, 1.0}:
            raise DataError("A multilabel target is several columns of 0 and 1.", "Name them: --target a,b,c")
        shares = tuple(floats(values, names).mean(axis=0).tolist())
        return Answers(task, tuple(names), (False, True), flat=False, kind=kind_of_holding(values), usual=shares)
    if not flat:
        raise DataError(
            f"A {task} target is one column of labels; this one has {values.shape[1]}.", "--task multilabel"
        )
    kind, counts = kind_of(values), Counter(values.tolist())
    if kind == TEXT and not asked and len(counts) > MOST_CLASSES:
        _refuse_dates(names[0], list(counts))
    classes = tuple(plain(label, kind) for label in sorted(counts))
    if len(classes) < 2:
        raise DataError(
            f"The target {names[0]!r} has one class only: {classes[0]!r}.", "Give rows of at least two classes."
        )
    if task == "binary" and len(classes) > 2:
        raise DataError(f"The target {names[0]!r} has {len(classes)} classes, not two.", "--task multiclass")
    return Answers(task, tuple(names), classes, kind=kind, usual=shares_of(counts[label] for label in sorted(counts)))


def respelled(answers: Answers, spelled: Mapping[str, str]) -> Answers:
    """The same answers, with decimals as they came: ``spelled`` by how they are written with the digits of others."""
    if answers.kind != DECIMAL or not spelled:
        return answers
    return msgspec.structs.replace(answers, classes=tuple(spelled.get(str(label), label) for label in answers.classes))


def shares_of(counts: Iterable[int]) -> tuple[float, ...]:
    """How large a part of the rows each label has."""
    numbers = list(counts)
    return tuple(number / sum(numbers) for number in numbers)


def _refuse_dates(name: str, texts: list[str]) -> None:
    if dates(pa.chunked_array([pa.array(texts, pa.string())])) is not None:
        raise DataError(
            f"The target {name!r} holds {len(texts):,} different dates, which are neither labels nor quantities.",
            "Turn them into numbers, such as days since the first, or --task multiclass takes each for a label.",
        )


def scaled(answers: Answers, found: Running, standardise: bool) -> Answers:
    """The answers with the figures of the training targets, quantities."""
    usual = tuple(found.mean.tolist())
    center, scale = found.mean, np.where(found.spread > 0, found.spread, 1.0)
    if not standardise:
        center, scale = np.zeros_like(center), np.ones_like(scale)
    return msgspec.structs.replace(answers, center=tuple(center.tolist()), scale=tuple(scale.tolist()), usual=usual)


def within(answers: Answers, values: Array) -> Answers:
    """The same answers, with predicted quantities kept in the range of ``values``, the training targets."""
    numbers = answers.quantities(values)
    return msgspec.structs.replace(
        answers, low=tuple(numbers.min(axis=0).tolist()), high=tuple(numbers.max(axis=0).tolist())
    )


def infer_task(values: Array, asked: Task | Family | None = None) -> Task:
    """Task that a target's values speak for, as far as it was not asked for; see `fit_answers`."""
    values = values.astype(np.float64) if is_decimal(values) else values
    match asked:
        case "binary" | "multiclass" | "multilabel" | "regression":
            return asked
        case "quantities":
            return "regression"
        case "labels" | "classes" | "choice":
            return _labels_of(values, asked)
    kind = values.dtype.kind
    if values.ndim > 1:
        return "multilabel" if kind in "biuf" and set(np.unique(values[:10_000]).tolist()) <= {0, 1} else "regression"
    if is_text(values) or kind == "b":
        return "binary" if len(set(values.tolist())) <= 2 else "multiclass"
    different = np.unique(values)
    if kind == "f" and not np.all(different == np.floor(different)):
        return "regression"
    if len(different) <= 2:
        return "binary" if kind in "iu" or set(different.tolist()) <= {0.0, 1.0} else "regression"
    few = len(different) <= MOST_CLASSES and len(different) * 2 <= len(values)
    return "multiclass" if few else "regression"


def _labels_of(values: Array, family: Family) -> Task:
    """Task of a loss for labels. Shares between 0 and 1 stand for labels that are not certain, and are quantities."""
    if values.ndim > 1:
        return "regression" if family == "classes" else infer_task(values)
    different = np.unique(values.astype(str) if values.dtype.kind == "O" else values)
    if values.dtype.kind == "f" and not np.all(different == np.floor(different)):
        return "regression"
    return "binary" if family == "labels" or (family == "choice" and len(different) <= 2) else "multiclass"


def floats(values: Array, names: Sequence[str]) -> Array:
    """Quantities of the columns ``names`` as float64; raises `DataError` for text."""
    try:
        return values.astype(np.float64)
    except (ValueError, TypeError):
        raise DataError(
            f"The target {', '.join(names)!r} holds text, which is no quantity.", "--task multiclass learns labels."
        ) from None
