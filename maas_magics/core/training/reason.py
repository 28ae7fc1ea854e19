"""Why a network was chosen where no one named one, in a sentence."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec

import torch

from maas_magics.core.features.processor import Processor
from maas_magics.core.tasks.base import Task
from maas_magics.core.training.candidates import lined_up

PLURALS = {"category": "categories", "words": "lists of words"}
"""Of kinds of columns, where that is not with an s."""


def reason(name: str, processor: Processor, answers: Task, rows: int, device: torch.device, limit: str = "") -> str:
    """What was chosen, for what, on what, and what else ``--race`` would try.

    Parameters
    ----------
    name : str
        Of the architecture that was chosen.
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
    alone = next(iter(kinds)) if len(kinds) == 1 and len(processor.features) == 1 else ""
    layout = "words" if answers.of_words else processor.layout
    others = [other for other in lined_up(alone, layout) if other != name]
    others = [other for other in others if other != "trees" or find_spec("sklearn") is not None]
    more = f"; --race tries {', '.join(others)} too" if others else ""
    return f"{name} for {rows:,} rows of {what}, {where}{f', at most {limit}' if limit else ''}{more}"
