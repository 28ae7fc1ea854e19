"""What is given becomes rows to learn from: in a way of its own for each kind of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from maas_magics.api.specs import Specs
from maas_magics.core.batches.captioned import captioned_rows, of_pictures, with_painter
from maas_magics.core.batches.language import language_rows, of_language, with_writer
from maas_magics.core.batches.pairs import with_pairs
from maas_magics.core.batches.resolved_target import ResolvedTarget
from maas_magics.core.batches.training_rows import TrainingRows, training_rows

Notify: TypeAlias = Callable[[str], None]
Pause: TypeAlias = Callable[[], None]


@dataclass(frozen=True)
class Preparation:
    """How rows to learn from are made for one kind of training.

    Attributes
    ----------
    suits : callable
        Whether specs are of this kind.
    completed : callable
        Specs with the task and the network that are usual for this kind, where they are of it; others as they are.
        Raises `OptionError` for what goes with this kind alone.
    rows : callable
        The rows, and what is fitted on them, of specs, what the target is, a way to notify, and what is called
        between two chunks of a file.
    """

    suits: Callable[[Specs], bool]
    completed: Callable[[Specs], Specs]
    rows: Callable[[Specs, ResolvedTarget, Notify, Pause], TrainingRows]


PREPARATIONS = (
    Preparation(of_pictures, with_painter, lambda specs, meant, notify, pause: captioned_rows(specs, notify)),
    Preparation(of_language, with_writer, lambda specs, meant, notify, pause: language_rows(specs, notify)),
    Preparation(lambda specs: True, with_pairs, training_rows),
)
"""In the order in which they are asked; tables and arrays are the last."""


def completed(specs: Specs) -> Specs:
    """Specs with what their kind of training has besides.

    Raises
    ------
    OptionError
        For what does not go with that kind.
    """
    for preparation in PREPARATIONS:
        specs = preparation.completed(specs)
    return specs


def prepared_rows(specs: Specs, meant: ResolvedTarget, notify: Notify, pause: Pause) -> TrainingRows:
    """The rows that a training is given, and what is fitted on them.

    Parameters
    ----------
    specs : Specs
    meant : ResolvedTarget
        What the target is.
    notify : callable
        Gets a sentence about everything that is left out.
    pause : callable
        Called between two chunks of a file; may raise to end the reading.

    Raises
    ------
    DataError
        If a model cannot be trained on them.
    """
    kind = next(preparation for preparation in PREPARATIONS if preparation.suits(specs))
    return kind.rows(specs, meant, notify, pause)
