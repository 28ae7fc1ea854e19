"""What a tracker gets of a run, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from maas_magics.api.callbacks import Callback


class Run(msgspec.Struct, frozen=True):
    """What a tracker gets of a run before its first event.

    Attributes
    ----------
    model : str
        Name of the model that is trained.
    name : str
        Name of the run, unlike that of any other.
    params : dict of str to Any
        What was requested, in plain values.
    """

    model: str
    name: str
    params: dict[str, Any] = {}


Start = Callable[[Run], Callback]
