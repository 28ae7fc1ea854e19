"""Writers of runs for experiment trackers: each is a callback, made from a word such as ``tensorboard``.

One file for each tracker, with a ``prepare(place)`` that returns a function from a `Run` to its callback.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.api.requests import TrainRequest
from maas_magics.trackers.run import Start

TRACKERS = ("mlflow", "tensorboard")


PLAIN = (bool, int, float, str)


def make_trackers(words: Iterable[str]) -> list[Start]:
    """Trackers by ``NAME`` or ``NAME=PLACE``, ready to start; nothing is written yet.

    Parameters
    ----------
    words : iterable of str
        ``NAME`` or ``NAME=PLACE``, one for each tracker.

    Raises
    ------
    OptionError
        If there is no such tracker, or its place is not valid.
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
    """What a request names besides its data, as far as it is plain values and not left to the default.

    Parameters
    ----------
    request : TrainRequest
        The request.
    """
    found: dict[str, Any] = {}
    for name in request.__struct_fields__:
        value = getattr(request, name)
        if name in ("name", "data", "source"):
            continue
        if isinstance(value, dict):
            found |= {key: item for key, item in value.items() if isinstance(item, (*PLAIN, tuple, list))}
        elif isinstance(value, PLAIN) and value not in ("", "auto"):
            found[name] = value
    return found
