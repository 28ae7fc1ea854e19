"""From decoded answers to what is handed out: labels, probabilities, quantities; of each head where there are more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import PredictRequest
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import DECIMAL
from maas_magics.core.inference.tags import AnsweringTags
from maas_magics.core.inference.texts import AnsweringTexts
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.heads import named

MOST_PROBABILITIES = 20
"""Most labels for which every probability is returned without being requested."""


class Answering:
    """Answers of one task.

    Parameters
    ----------
    task : Task
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._labels = task.label_array if task.classes else None
        text = self._labels is not None and self._labels.dtype.kind == "O"
        self._codes = np.arange(len(task.classes), dtype=np.min_scalar_type(len(task.classes)))
        self._named = self._codes if text else self._labels
        """What stands for each label while rows are gathered: itself, or its place where labels are text."""

    def columns(self, decoded: Array, request: PredictRequest) -> dict[str, Array]:
        """Columns of answers for decoded rows; labels of text as their places in the list of labels."""
        task = self.task
        if not task.decision:
            if request.top or request.probabilities:
                raise OptionError(
                    "Probabilities are for labels; this model answers quantities.", "Drop --top and --proba."
                )
            return {"prediction": decoded}
        if task.decision == "each":
            if request.top:
                raise OptionError(
                    "The likeliest labels are for one label a row; this model gives several.", "Use --proba."
                )
            assert self._labels is not None
            holds = (decoded >= 0.5).astype(self._labels.dtype, copy=False)
            return {"prediction": holds} | self._probabilities(decoded, request)
        assert self._named is not None
        if request.top:
            most = min(request.top, len(task.labels))
            order = np.argsort(-decoded, axis=-1, kind="stable")[..., :most]
            found: dict[str, Array] = {}
            for i in range(most):
                found[f"top_{i + 1}"] = self._named[order[..., i]]
                found[f"probability_{i + 1}"] = np.take_along_axis(decoded, order[..., i : i + 1], axis=-1)[..., 0]
            return found
        return {"prediction": self._named[decoded.argmax(axis=-1)]} | self._probabilities(decoded, request)

    def _probabilities(self, decoded: Array, request: PredictRequest) -> dict[str, Array]:
        few = len(self.task.labels) <= MOST_PROBABILITIES
        wanted = few if request.probabilities is None else request.probabilities
        return {"probabilities": decoded} if wanted else {}

    def labelled(self, columns: Mapping[str, Array]) -> dict[str, Any]:
        """Columns of answers, the places of labels as Arrow dictionaries of the labels."""
        if self._named is not self._codes:
            return dict(columns)
        if self.task.kind == DECIMAL:  # Arrow would give all of them as many digits
            assert self._labels is not None
            return {
                n: self._labels[values] if values.dtype == self._codes.dtype else values
                for n, values in columns.items()
            }
        labels = pa.array(self._labels, pa.large_string())
        return {
            name: pa.DictionaryArray.from_arrays(values, labels) if values.dtype == self._codes.dtype else values
            for name, values in columns.items()
        }

    def signed(self, decoded: Array, request: PredictRequest) -> dict[str, Array]:
        """Outputs of the signature: labels of text as objects."""
        found = self.columns(decoded, request)
        if self._named is self._codes and self._labels is not None:
            found["prediction"] = np.array(self.task.labels, dtype=object)[found["prediction"]]
        return found


class AnsweringHeads:
    """Answers of several heads, by their names; as `Answering`.

    Parameters
    ----------
    task : Task
        Of several heads.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._heads = {name: Answering(head) for name, head in zip(task.names, task.parts, strict=True)}
        self._of = {named(name, output): name for name in task.names for output in ("prediction", "probabilities")}

    def columns(self, decoded: Array, request: PredictRequest) -> dict[str, Array]:
        """Columns of answers of every head."""
        if request.top:
            raise OptionError("The likeliest labels are for a model of one target.", "Use --proba.")
        return self._each(decoded, request, signed=False)

    def signed(self, decoded: Array, request: PredictRequest) -> dict[str, Array]:
        """Outputs of the signature."""
        return self._each(decoded, request, signed=True)

    def _each(self, decoded: Array, request: PredictRequest, *, signed: bool) -> dict[str, Array]:
        plain = PredictRequest(model=request.model, data=None)
        found: dict[str, Array] = {}
        for (name, head), part in zip(self._heads.items(), self.task.answers_of(decoded), strict=True):
            asked = request if head.task.decision else plain
            made = head.signed(part, asked) if signed else head.columns(part, asked)
            found |= {named(name, output): values for output, values in made.items()}
        return found

    def labelled(self, columns: Mapping[str, Array]) -> dict[str, Any]:
        """Columns of answers, labels of text as Arrow dictionaries."""
        found: dict[str, Any] = {}
        for column, values in columns.items():
            head = self._heads[self._of[column]]
            found |= head.labelled({column: values}) if column in self._heads else {column: values}
        return found


def answering_of(task: Task) -> Answering | AnsweringHeads | AnsweringTags | AnsweringTexts:
    """What hands out the answers of a task."""
    if task.of_words:
        return AnsweringTags(task)
    if task.writes:
        return AnsweringTexts(task)
    return AnsweringHeads(task) if task.parts else Answering(task)
