"""How many words, or letters, of what was said are written wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from maas_magics.core.data.arrow import Array
from maas_magics.core.tasks import metrics as whole


class ErrorRate:
    """Insertions, deletions and substitutions for each part that was said, over all rows; 0 is best.

    Texts are compared as they are, capitals and punctuation included.

    Parameters
    ----------
    texts : callable
        From decoded answers to texts.
    parts : callable
        From a text to its words, or its letters.
    """

    metric = staticmethod(whole.accuracy)  # one of the package, so that it is taken of a constant answer as well
    higher_is_better = False

    def __init__(self, texts: Callable[[Array], list[str]], parts: Callable[[str], Sequence[str]]) -> None:
        self._texts, self._parts = texts, parts

    def __call__(self, decoded: Tensor, target: Tensor, weights: Tensor | None = None) -> float:
        """The rate of some rows."""
        wanted = ["".join(map(chr, row[row > 0])).strip() for row in target.numpy()]
        wrong = said = 0
        for text, truth in zip(self._texts(decoded.numpy()), wanted, strict=True):
            right = self._parts(truth)
            wrong, said = wrong + distance(self._parts(text), right), said + len(right)
        return wrong / said if said else float(wrong > 0)


def distance(found: Sequence[str], wanted: Sequence[str]) -> int:
    """Least insertions, deletions and substitutions from one to the other (Levenshtein 1966).

    Parameters
    ----------
    found : sequence of str
        What was written.
    wanted : sequence of str
        What was said.
    """
    known = {part: place for place, part in enumerate({*found, *wanted})}
    right = np.array([known[part] for part in wanted], dtype=np.int64)
    places = np.arange(len(right) + 1)
    row = places.copy()
    for part in found:
        best = np.minimum(row[1:] + 1, row[:-1] + (right != known[part]))
        best = np.concatenate([row[:1] + 1, best])
        row = np.minimum.accumulate(best - places) + places
    return int(row[-1])
