"""From decoded answers to words to what is handed out: a list of tags a row, as long as the row has words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import PredictRequest
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import names_of
from maas_magics.core.tasks.base import Task


class AnsweringTags:
    """Answers of a task with one for each word; as `maas_magics.core.inference.answering.Answering`.

    Parameters
    ----------
    task : Task
        Whose first class is no word.
    """

    def __init__(self, task: Task) -> None:
        self._tags = np.array(names_of(task.label_array), dtype=object)

    def columns(self, decoded: Array, request: PredictRequest) -> dict[str, Array]:
        """Places of tags in the list of classes, (n, words), and their probabilities where they are requested."""
        if request.top:
            raise OptionError("The likeliest labels are for one label a row; this model tags words.", "Use --proba.")
        found = {"prediction": decoded.argmax(axis=-1)}
        return {**found, "probabilities": decoded} if request.probabilities else found

    def labelled(self, columns: Mapping[str, Array]) -> dict[str, Any]:
        """Columns of lists, as long as each row has words: of tags, and of the probabilities of all tags."""
        words = columns["prediction"] > 0
        found: dict[str, Any] = {}
        for name, values in columns.items():
            told = self._tags[values] if name == "prediction" else values[..., 1:]
            found[name] = _lists([row[there].tolist() for row, there in zip(told, words, strict=True)])
        return found

    def signed(self, decoded: Array, request: PredictRequest) -> dict[str, Array]:
        """Outputs of the signature: tags as objects, and empty texts behind the end of a row."""
        found = self.columns(decoded, request)
        found["prediction"] = self._tags[found["prediction"]]
        return found


def _lists(rows: Sequence[Any]) -> Array:
    found = np.empty(len(rows), dtype=object)
    found[:] = rows
    return found
