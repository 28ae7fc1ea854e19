"""A race: several networks for the same rows, the cheapest first, each for as long as it may still win."""

from __future__ import annotations

import re
from time import perf_counter

import msgspec
import numpy as np

from maas_magics.api.backend import Backend
from maas_magics.api.errors import MaasError, OptionError
from maas_magics.api.signature import NUMPY
from maas_magics.api.sweep import Trial

LEASH = 3.0
"""How many times the seconds of the best so far a network may take while it is worse."""

FLOOR = 10.0
"""Seconds that each may take in any case."""

CALLS = 5
"""Questions that are timed."""

UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}


class Race(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a race.

    Attributes
    ----------
    seconds : float or None
        What all may take together.
    """

    seconds: float | None = None

    def lost(self, trial: Trial, seconds: float, best: Trial | None, mode: str) -> bool:
        """Whether a network that trains has had its time: it is worse than the best, at several times its cost.

        Parameters
        ----------
        trial : Trial
            With its metric so far.
        seconds : float
            That it has trained.
        best : Trial or None
            The best of those that ended.
        mode : {"min", "max"}
            Whether a smaller metric is better.
        """
        if best is None or best.value is None or trial.value is None:
            return False
        ahead = trial.value < best.value if mode == "min" else trial.value > best.value
        return not ahead and seconds > max(FLOOR, LEASH * best.seconds)


def seconds_of(budget: str | float) -> float:
    """Seconds of ``"5min"``, ``"90s"``, ``"1h"``, or a number of them.

    Raises
    ------
    OptionError
        If it is none of these.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*(s|min|h|)\s*", str(budget))
    if found is None or not float(found[1]):
        raise OptionError(f"The budget {budget!r} is not a length of time.", "--budget 5min")
    return float(found[1]) * UNITS[found[2]]


def latency_of(ref: str, backend: Backend) -> float | None:
    """Milliseconds from a question to its answer, for a row of zeros; the least of some. None where none is known.

    Parameters
    ----------
    ref : str
        The model.
    backend : Backend
        Where it answers.
    """
    row = {}
    for spec in backend.models.get(ref).signature.inputs:
        shape = (1, *(1 if size < 0 else size for size in spec.shape[1:]))
        text = spec.datatype == "BYTES"
        row[spec.name] = np.full(shape, "a", dtype=object) if text else np.zeros(shape, NUMPY[spec.datatype])
    found = []
    for _ in range(CALLS):
        begun = perf_counter()
        try:
            backend.infer(ref, row)
        except MaasError:  # such as of a picture, whose file has to be one
            return None
        found.append(1000 * (perf_counter() - begun))
    return min(found)
