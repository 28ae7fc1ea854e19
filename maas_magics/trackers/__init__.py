"""Writers of runs for the trackers that people have: each is a callback, made from a word such as ``tensorboard``.

One file for each tracker, with a ``prepare(place)`` that answers a function from a `Run` to its callback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from maas_magics.api.callbacks import Callback
from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.api.requests import TrainRequest

TRACKERS = ("mlflow", "tensorboard")


class Run(msgspec.Struct, frozen=True):
    """What a tracker is told of a run before its first event.

    Attributes
    ----------
    model : str
        Name of the model that is trained.
    name : str
        Name of the run, unlike that of any other.
    params : dict of str to Any
        What was asked for, in plain values.
    """

    model: str
    name: str
    params: dict[str, Any] = {}


PLAIN = (bool, int, float, str, tuple, list)

Start = Callable[[Run], Callback]


def make_trackers(words: Iterable[str]) -> list[Start]:
    """Trackers by ``NAME`` or ``NAME=PLACE``, ready to start; nothing is written yet.

    Raises
    ------
    OptionError
        If there is no such tracker, or its place cannot be meant.
    MissingDependency
        If its package is not installed.
    """
    found: list[Start] = []
    for word in words:
        name, equals, place = word.partition("=")
        if name not in TRACKERS:
            raise OptionError(f"There is no tracker {name!r}.", did_you_mean(name, TRACKERS))
        if equals and not place:
            raise OptionError(f"No place follows {word!r}.", f"--track {name}, or --track {name}=PLACE")
        if name == "mlflow":
            from maas_magics.trackers.mlflow import prepare
        else:
            from maas_magics.trackers.tensorboard import prepare
        found.append(prepare(place))
    return found


def asked(request: TrainRequest) -> dict[str, Any]:
    """What a request asks for besides its data, as far as it is plain values and not left to the default."""
    found: dict[str, Any] = {}
    for name in request.__struct_fields__:
        value = getattr(request, name)
        if name in ("name", "data", "source"):
            continue
        if isinstance(value, dict):
            found |= {
                key: item for key, item in value.items() if isinstance(item, (bool, int, float, str, tuple, list))
            }
        elif isinstance(value, (bool, int, float, str)) and value not in ("", "auto"):
            found[name] = value
    return found
