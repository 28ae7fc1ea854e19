"""torch's compiler, which nothing here needs: importing it takes a second of the first training of a process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from torch.optim import Optimizer

KEPT_OFF = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
"""Methods of an optimizer that torch keeps its compiler off, for which it imports it at their first call."""

MARK = "__dynamo_disable"
"""Where torch keeps what it calls in their place."""


@contextmanager
def without_compiler() -> Iterator[None]:
    """Within it torch's optimizers do not import torch's compiler, unless it has been imported.

    With a torch that goes another way about it nothing changes but the time. Other trainings may begin and end
    meanwhile: one of them imports it then.
    """
    marked = []
    if "torch._dynamo" not in sys.modules:
        for name in KEPT_OFF:
            plain = getattr(getattr(Optimizer, name), "__wrapped__", None)
            if plain is not None and not hasattr(plain, MARK):
                setattr(plain, MARK, plain)
                marked.append(plain)
    try:
        yield
    finally:
        for plain in marked:
            delattr(plain, MARK)
