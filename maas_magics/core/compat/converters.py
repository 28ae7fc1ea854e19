"""Private parts of skl2onnx 1.20 and XGBoost 3.2 that a conversion needs changed for its time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_LOCK = threading.Lock()


@contextmanager
def converting(estimator: Any) -> Iterator[None]:
    """Have skl2onnx write truth values as the whole numbers that protobuf 7 wants, and XGBoost's columns by number.

    Parameters
    ----------
    estimator : Any
        What is converted: its boosters, wherever they are in it, have no names of columns meanwhile.
    """
    from skl2onnx.common import _container

    with _LOCK:
        plain = _container.make_node
        boosters = [one.get_booster() for one in _inner(estimator, set()) if hasattr(one, "get_booster")]
        named = [(booster, booster.feature_names) for booster in boosters]

        def made(kind: str, inputs: Any, outputs: Any, **attributes: Any) -> Any:
            return plain(kind, inputs, outputs, **{name: _whole(value) for name, value in attributes.items()})

        _container.make_node = made
        try:
            for booster in boosters:
                booster.feature_names = None
            yield
        finally:
            _container.make_node = plain
            for booster, names in named:
                booster.feature_names = names


def _whole(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [int(one) if isinstance(one, (bool, np.bool_)) else one for one in value]


def _inner(thing: Any, seen: set[int]) -> Iterator[Any]:
    """An estimator, and those that it is made of."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, (list, tuple)):
        for one in thing:
            yield from _inner(one, seen)
    elif hasattr(thing, "get_params"):
        yield thing
        for name in ("steps", "transformers_", "estimators_", "estimator_", "best_estimator_", "named_estimators_"):
            yield from _inner(getattr(thing, name, None), seen)
        yield from _inner(list(getattr(thing, "__dict__", {}).values()), seen)
