"""Figures of a request that make no sense, told before any work is done."""

from __future__ import annotations

import math

from torch import nn

from maas_magics.api.errors import MaasError, OptionError
from maas_magics.api.requests import TrainRequest


def check_request(request: TrainRequest) -> None:
    """Raise for a count, a rate or a model that cannot be meant.

    Raises
    ------
    OptionError
    """
    for name, least in (("epochs", 1), ("batch_size", 1), ("patience", 0), ("threads", 1)):
        value = getattr(request, name)
        if value is not None and value < least:
            raise OptionError(
                f"{name.replace('_', ' ')} is {value}; at least {least} was expected.",
                f"--{name.replace('_', '-')} {least}",
            )
    for name in ("lr", "weight_decay", "label_smoothing"):
        value = getattr(request, name)
        if value is not None and not 0 <= value < math.inf:
            raise OptionError(
                f"{name.replace('_', ' ')} is {value:g}; a number of at least 0 was expected.",
                f"--{name.replace('_', '-')} 0.01",
            )
    if request.label_smoothing is not None and request.label_smoothing > 1:
        raise OptionError(
            f"label smoothing is {request.label_smoothing:g}; a share of at most 1 was expected.",
            "--label-smoothing 0.1",
        )
    if request.stream not in (None, True, False):
        raise OptionError(f"stream is {request.stream!r}; True, False or None was expected.", "stream=True")
    if not isinstance(request.model, (str, nn.Module)) and not callable(request.model):
        raise MaasError(
            f"The model is of type {type(request.model).__name__}.", "Give an architecture's name or an nn.Module."
        )
