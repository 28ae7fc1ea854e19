"""Answers that tell less than a model knows, against who would train one of their own on them.

A student learns most from probabilities with all their digits. ``round=2`` keeps two decimals of a probability, and two
digits of a quantity; ``top=1`` keeps the probability of the likeliest label, and answers 0 for the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from maas_magics.api.errors import OptionError
from maas_magics.core.data.arrow import Array
from maas_magics.core.runtimes import Session
from maas_magics.core.tasks.base import Task

EXAMPLE = "--harden round=2,top=1"


class Harden(msgspec.Struct, frozen=True):
    """What is kept of answers.

    Attributes
    ----------
    round : int
        Decimals of probabilities, and digits of quantities; all where it is 0.
    top : int
        Labels whose probabilities are kept; all where it is 0.
    """

    round: int = 0
    top: int = 0

    def applied(self, values: Array, task: Task) -> Array:
        """The answers with what is kept of them.

        Parameters
        ----------
        values : ndarray, shape (n, …)
            Probabilities, labels on the last axis; or quantities.
        task : Task
            What they answer.
        """
        found = values
        if self.top and task.decision and task.decision != "each" and self.top < values.shape[-1]:
            least = np.argsort(-values, axis=-1, kind="stable")[..., self.top :]
            found = values.copy()
            np.put_along_axis(found, least, 0, axis=-1)
        if self.round and task.decision:
            return np.round(found, self.round)
        return _digits(found, self.round) if self.round else found


def read_harden(said: str) -> Harden | None:
    """What ``round=2,top=1`` says; None where it says nothing.

    Parameters
    ----------
    said : str
        As it was typed.

    Raises
    ------
    OptionError
        If it says something else.
    """
    found: dict[str, int] = {}
    for part in filter(None, said.replace(" ", "").split(",")):
        name, _, value = part.partition("=")
        if name not in ("round", "top") or not value.isdecimal() or not 0 < int(value) < 16:
            raise OptionError(f"{part[:40]!r} hardens nothing: round=1 to 15 or top=1 to 15 was expected.", EXAMPLE)
        found[name] = int(value)
    return Harden(**found) if found else None


def check_hardened(task: Task, ref: str) -> None:
    """Raise `OptionError` for a model whose answers are not one set of probabilities or quantities.

    Parameters
    ----------
    task : Task
        What the model answers.
    ref : str
        What an error calls the model.
    """
    if task.parts or task.of_words or task.writes:
        raise OptionError(
            f"{ref} answers several targets, words or texts, which --harden leaves as they are.",
            "Serve it without --harden.",
        )


class HardenedSession:
    """A model that is open, whose answers tell less.

    Parameters
    ----------
    session : Session
        The model.
    task : Task
        What it answers.
    harden : Harden
        What is kept.
    """

    def __init__(self, session: Session, task: Task, harden: Harden) -> None:
        self._session, self._task, self._harden = session, task, harden

    def run(self, inputs: Sequence[Array]) -> dict[str, Array]:
        """Outputs by name; labels as they are."""
        return {
            name: self._harden.applied(values, self._task) if values.dtype.kind == "f" else values
            for name, values in self._session.run(inputs).items()
        }


def _digits(values: Array, digits: int) -> Array:
    """Numbers with so many digits that count."""
    with np.errstate(divide="ignore", invalid="ignore"):
        places = np.where(np.isfinite(values) & (values != 0), np.floor(np.log10(np.abs(values))), 0)
    scale = 10.0 ** (digits - 1 - places)
    return (np.round(values * scale) / scale).astype(values.dtype)
