"""Private parts of skl2onnx 1.20 and XGBoost 3.2 that a conversion needs changed for its time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

_LOCK = threading.Lock()

IMPUTER = "SklearnSimpleImputer"


@contextmanager
def converting(estimator: Any) -> Iterator[None]:
    """Have skl2onnx write truth values as the whole numbers that protobuf 7 wants, and XGBoost's columns by number.

    Private are ``_container`` and ``_registration`` of skl2onnx. Seen in skl2onnx 1.20; else what they mend is refused.

    Parameters
    ----------
    estimator : Any
        What is converted: its boosters, wherever they are in it, have no names of columns meanwhile.
    """
    from skl2onnx.common import _container
    from skl2onnx.common._registration import RegisteredConverter, _converter_pool

    with _LOCK:
        plain, impute = _container.make_node, _converter_pool[IMPUTER]
        boosters = [one.get_booster() for one in inner(estimator) if hasattr(one, "get_booster")]
        named = [(booster, booster.feature_names) for booster in boosters]

        def made(kind: str, inputs: Any, outputs: Any, **attributes: Any) -> Any:
            return plain(kind, inputs, outputs, **{name: _whole(value) for name, value in attributes.items()})

        _container.make_node = made
        _converter_pool[IMPUTER] = RegisteredConverter(partial(_imputed, impute), impute.get_allowed_options())
        try:
            for booster in boosters:
                booster.feature_names = None
            yield
        finally:
            _container.make_node = plain
            _converter_pool[IMPUTER] = impute
            for booster, names in named:
                booster.feature_names = names


def _imputed(usual: Callable[..., None], scope: Any, operator: Any, container: Any) -> None:
    """Write how missing numbers are filled; of 64 bits, for which ONNX Runtime has no Imputer, by plain operators."""
    import onnx
    from skl2onnx.common.data_types import DoubleTensorType
    from skl2onnx.operator_converters.common import concatenate_variables

    known = operator.raw_operator
    wide = isinstance(operator.inputs[0].type, DoubleTensorType)
    if not wide or known.missing_values is not np.nan or np.isnan(known.statistics_).any():
        usual(scope, operator, container)
        return
    values = concatenate_variables(scope, operator.inputs, container)
    fills, missing = scope.get_unique_variable_name("fills"), scope.get_unique_variable_name("missing")
    container.add_initializer(fills, onnx.TensorProto.DOUBLE, [1, known.statistics_.size], known.statistics_.tolist())
    container.add_node("IsNaN", values, missing, op_version=13)
    container.add_node("Where", [missing, fills, values], operator.outputs[0].full_name, op_version=9)


def _whole(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [int(one) if isinstance(one, (bool, np.bool_)) else one for one in value]


def inner(estimator: Any) -> Iterator[Any]:
    """An estimator, and those that it is made of.

    Parameters
    ----------
    estimator : Any
        Fitted or not.
    """
    yield from _inner(estimator, set())


def _inner(thing: Any, seen: set[int]) -> Iterator[Any]:
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
