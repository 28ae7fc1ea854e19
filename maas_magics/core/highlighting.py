"""Answers of entities as texts with marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from maas_magics.api.highlight import MOST, Highlighted, Mark
from maas_magics.api.results import ModelInfo
from maas_magics.core.data.sources import Source
from maas_magics.core.tasks.bio import spans_of


def highlighted(source: Source, columns: Mapping[str, Any], info: ModelInfo) -> Highlighted | None:
    """The first texts of a source with the entities that a model found in them; None for answers of other kinds.

    Parameters
    ----------
    source : Source
        Rows in memory.
    columns : mapping of str to Any
        Answers to all of them.
    info : ModelInfo
        The model.
    """
    answers, inputs = columns.get("prediction"), info.signature.inputs
    if source.rows is None or len(inputs) != 1 or inputs[0].datatype != "BYTES":
        return None
    if not isinstance(answers, np.ndarray) or not all(isinstance(row, list) for row in answers[:MOST]):
        return None
    table = next(iter(source.chunks(MOST)))
    name = inputs[0].name if inputs[0].name in table.column_names else table.column_names[0]
    rows = table.column(name).to_pylist()[:MOST]
    of_words = inputs[0].shape[1:] == (-1,)
    found = [_of_words(*row) if of_words else _of_text(*row) for row in zip(rows, answers[:MOST], strict=True)]
    return Highlighted(
        texts=tuple(text for text, _ in found), marks=tuple(marks for _, marks in found), rows=len(answers)
    )


def _of_text(text: str | None, spans: list[dict[str, Any]]) -> tuple[str, tuple[Mark, ...]]:
    return text or "", tuple(Mark(one["start"], one["end"], one["label"]) for one in spans)


def _of_words(words: list[str] | None, tags: list[str]) -> tuple[str, tuple[Mark, ...]]:
    """Words with spaces between them, and marks of their spans."""
    words = [word or "" for word in words or ()]
    starts = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()
    marks = tuple(Mark(starts[first], starts[last] - 1, label) for first, last, label in spans_of(tags))
    return " ".join(words), marks
