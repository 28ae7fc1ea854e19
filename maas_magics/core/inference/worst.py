"""The rows of an evaluation that a model is most wrong about, as pictures and sounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from maas_magics.api.gallery import MOST, Example
from maas_magics.api.tables import format_number
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.modalities import modalities
from maas_magics.core.features.processor import Processor
from maas_magics.core.features.thumbnails import tried
from maas_magics.core.tasks.base import Task


class Worst:
    """Keeps the raw values of the worst rows while rows pass by.

    Parameters
    ----------
    processor : Processor
        The model's columns; without one that can be shown nothing is kept.
    answers : Task
        The model's target.
    """

    def __init__(self, processor: Processor, answers: Task) -> None:
        self._answers, self._seen = answers, 0
        self._found: list[tuple[float, int, str, str, object]] = []
        one_label = answers.decision == "likeliest" and not answers.of_words and answers.one_label
        self._labels = answers.labels if one_label else ()
        fits = not answers.parts and (bool(self._labels) or (answers.numeric and len(answers.names) == 1))
        kinds = [str(type(one).__struct_config__.tag) if one.augments else "" for one in processor.features]
        shows = [modalities.get(kind).show if kind in modalities else None for kind in kinds]
        self._place = next((place for place, show in enumerate(shows) if show is not None), -1) if fits else -1
        self._show = shows[self._place] if self._place >= 0 else None

    def begin(self) -> None:
        """Forget the rows so far: they are read once more."""
        self._seen, self._found = 0, []

    def add(self, raw: Sequence[Array], decoded: Array, known: Array) -> None:
        """Take in rows.

        Parameters
        ----------
        raw : sequence of ndarray, shape (n, …)
            What was encoded of them.
        decoded : ndarray, shape (n, …)
            Answers.
        known : ndarray, shape (n, …)
            True answers.
        """
        first, self._seen = self._seen, self._seen + len(known)
        if self._show is None:
            return
        table = self._answers.table(torch.from_numpy(np.ascontiguousarray(decoded))).numpy()
        values = raw[self._place]
        if self._labels:
            answer, truth = table.argmax(1), known.reshape(-1)
            badness = 1 - table[np.arange(len(table)), truth]
            badness[answer == truth] = -1.0
        else:
            badness = np.abs(table[:, 0].astype(np.float64) - known.reshape(len(known), -1)[:, 0])
        for row in np.argsort(-badness, kind="stable")[:MOST]:
            if not badness[row] > 0:
                continue
            if self._labels:
                title, wanted = self._labels[answer[row]], self._labels[truth[row]]
                note = f"is {wanted}, {table[row, answer[row]]:.0%} sure"
            else:
                title = format_number(float(table[row, 0]))
                note = f"is {format_number(float(known.reshape(len(known), -1)[row, 0]))}"
            value = values[row, 0] if values.dtype == object else values[row]
            self._found.append((float(badness[row]), first + int(row), title, note, value))
        self._found = sorted(self._found, key=lambda one: (-one[0], one[1]))[:MOST]

    def examples(self) -> tuple[Example, ...]:
        """The worst rows, the very worst first."""
        made = []
        for _, row, title, note, value in self._found:
            shown = tried(self._show, value)
            if shown is not None:
                right = False if self._labels else None
                made.append(Example(row=row, title=title, note=note, right=right, image=shown[0], audio=shown[1]))
        return tuple(made)
