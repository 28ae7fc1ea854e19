"""Why a network was chosen where no one named one, in a sentence."""

from __future__ import annotations

from collections import Counter

import torch

from maas_magics.core.features.processor import Processor
from maas_magics.core.tasks.base import Task
from maas_magics.core.training.candidates import kind_of, lined_up
from maas_magics.core.training.choice import Choice

PLURALS = {"category": "categories", "words": "lists of words"}
"""Of kinds of columns, where that is not with an s."""


def reason(
    choice: Choice, processor: Processor, answers: Task, rows: int, device: torch.device, limit: str = ""
) -> str:
    """What was chosen, for what, on what, why, and what else ``--race`` would try.

    Parameters
    ----------
    choice : Choice
        The architecture that was chosen.
    processor : Processor
        The columns.
    answers : Task
        What is learnt.
    rows : int
        Training rows.
    device : torch.device
        Where it is trained.
    limit : str
        Seconds that it may take; empty for any.
    """
    kinds = Counter(str(type(feature).__struct_config__.tag) for feature in processor.features)
    what = ", ".join(
        f"{count} {kind if count == 1 else PLURALS.get(kind, f'{kind}s')}" for kind, count in kinds.most_common(4)
    )
    threads = torch.get_num_threads()
    where = f"{threads} thread{'s' * (threads != 1)}" if device.type == "cpu" else device.type
    others = [other for other in lined_up(kind_of(processor, answers, choice.name)) if other != choice.name]
    more = f"; --race tries {', '.join(others)} too" if others else ""
    why = f": {choice.why}" if choice.why else ""
    return f"{choice.name} for {rows:,} rows of {what}, {where}{f', at most {limit}' if limit else ''}{why}{more}"
