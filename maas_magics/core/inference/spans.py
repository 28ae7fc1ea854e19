"""From decoded answers to words to spans of letters: where entities stand in the texts that were given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import PredictRequest
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import names_of
from maas_magics.core.features.tokens import words_of
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.bio import spans_of


class AnsweringSpans:
    """Spans of letters of texts, by a task with an answer for each word.

    Parameters
    ----------
    task : Task
        Whose first class is no word.
    """

    def __init__(self, task: Task) -> None:
        self._tags = names_of(task.label_array)

    def columns(self, decoded: Array, texts: Sequence[str], request: PredictRequest) -> dict[str, Array]:
        """Spans of each text, an object array (n,) of lists of dicts."""
        if request.top or request.probabilities:
            raise OptionError("Spans have a score, and no other probabilities.", "Drop --top and --proba.")
        found = np.empty(len(texts), dtype=object)
        found[:] = [self._spans(text, row) for text, row in zip(texts, decoded, strict=True)]
        return {"prediction": found}

    def labelled(self, columns: Mapping[str, Array]) -> dict[str, Any]:
        """Columns as they are."""
        return dict(columns)

    def signed(self, decoded: Array, texts: Sequence[str]) -> dict[str, Array]:
        """Outputs of the signature: JSON, object (n, 1)."""
        rows = [
            json.dumps(self._spans(text, row), ensure_ascii=False) for text, row in zip(texts, decoded, strict=True)
        ]
        return {"prediction": np.array(rows, dtype=object).reshape(-1, 1)}

    def _spans(self, text: str, decoded: Array) -> list[dict[str, Any]]:
        """Spans in the order of a text, with the mean probability of their words' tags."""
        words = words_of(text)[: len(decoded)]
        best = decoded[: len(words)].argmax(axis=-1)
        sure = decoded[np.arange(len(words)), best]
        spans = spans_of([self._tags[place] or "O" for place in best])
        return [
            {
                "start": words[first][1],
                "end": words[last - 1][2],
                "label": label,
                "score": round(float(sure[first:last].mean()), 4),
            }
            for first, last, label in spans
        ]
