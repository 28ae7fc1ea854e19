"""From decoded answers to texts: what is said in recordings, and when."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import PredictRequest
from maas_magics.core.data.arrow import Array
from maas_magics.core.tasks.base import Task


class AnsweringTexts:
    """Answers of a task whose answers are texts; as `maas_magics.core.inference.answering.Answering`.

    Parameters
    ----------
    task : Task
        Which has ``texts`` and ``spans``, as `maas_magics.core.tasks.transcription.Transcription` has.
    """

    def __init__(self, task: Task) -> None:
        self._task: Any = task

    def columns(self, decoded: Array, request: PredictRequest) -> dict[str, Array]:
        """Texts, object (n,), and lists of words or segments."""
        if request.top or request.probabilities:
            raise OptionError("Probabilities are for labels; this model answers texts.", "Drop --top and --proba.")
        found = {"prediction": _objects(self._task.texts(decoded))}
        return {**found, self._task.times: _objects(self._task.spans(decoded))} if self._task.times else found

    def labelled(self, columns: Mapping[str, Array]) -> dict[str, Any]:
        """Columns as they are."""
        return dict(columns)

    def signed(self, decoded: Array, request: PredictRequest) -> dict[str, Array]:
        """Outputs of the signature: texts, and JSON, object (n, 1)."""
        found = {"prediction": _objects(self._task.texts(decoded)).reshape(-1, 1)}
        if not self._task.times:
            return found
        rows = [json.dumps(row, ensure_ascii=False) for row in self._task.spans(decoded)]
        return {**found, self._task.times: _objects(rows).reshape(-1, 1)}


def _objects(values: Sequence[Any]) -> Array:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found
