"""What a sweep searches, in plain values."""

from __future__ import annotations

from typing import Any

import msgspec

from maas_magics.api.requests import TrainRequest

FIELDS = (
    "lr",
    "weight_decay",
    "batch_size",
    "optimizer",
    "schedule",
    "epochs",
    "patience",
    "label_smoothing",
    "class_weights",
    "loss",
    "model",
)
"""Fields of a `TrainRequest` that a sweep may set; any other name is a hyperparameter of the architecture."""


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers between two ends, both of them possible.

    Attributes
    ----------
    low, high : float
    whole : bool
        Whole numbers only.
    log : bool
        Evenly spread in the logarithm.
    step : float or None
        Distance between possible numbers, from ``low`` on.
    """

    low: float
    high: float
    whole: bool = False
    log: bool = False
    step: float | None = None


class Choices(msgspec.Struct, frozen=True):
    """Some values of any kind.

    Attributes
    ----------
    values : tuple
    """

    values: tuple[Any, ...]


Parameter = Range | Choices
Space = dict[str, Parameter]


def with_values(request: TrainRequest, values: dict[str, Any]) -> TrainRequest:
    """A request with the values of one trial: fields are set, the rest goes to the architecture.

    Parameters
    ----------
    request : TrainRequest
        What all trials share.
    values : dict of str to Any
        Values of the trial, by the name of an option or of a hyperparameter.
    """
    fields = {name: value for name, value in values.items() if name in FIELDS}
    params = {name: value for name, value in values.items() if name not in FIELDS}
    return msgspec.structs.replace(request, params={**request.params, **params}, **fields)
