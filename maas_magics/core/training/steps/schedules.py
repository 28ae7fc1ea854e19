"""Learning-rate schedules: the factor at a share of the training, 0 ≤ t ≤ 1."""

from __future__ import annotations

import math
from collections.abc import Callable

from maas_magics.api.errors import OptionError, did_you_mean

Schedule = Callable[[float], float]


def constant(t: float) -> float:
    """1 throughout."""
    return 1.0


def cosine(t: float) -> float:
    """From 1 to 0 along half a cosine (Loshchilov and Hutter, 2017)."""
    return 0.5 * (1 + math.cos(math.pi * t))


def linear(t: float) -> float:
    """From 1 to 0 in a straight line."""
    return 1 - t


def one_cycle(t: float) -> float:
    """Up from 1/25 to 1 over the first 30 %, then down to 0, along cosines (Smith and Topin, 2018)."""
    if t < 0.3:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * t / 0.3))
    return 0.5 * (1 + math.cos(math.pi * (t - 0.3) / 0.7))


def coslog4(t: float) -> float:
    """Four cycles of growing length: ½(1 − cos(2π log₂(1 + 15t))) (Holzmüller et al., 2024)."""
    return 0.5 * (1 - math.cos(2 * math.pi * math.log2(1 + 15 * t)))


def flat_cos(t: float) -> float:
    """1 for the first half, then to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * (max(1.0, 2 * t) - 1)))


def warm_cosine(t: float) -> float:
    """Up from 1/25 to 1 over the first 5 %, then down to 1/10 along half a cosine (as Brown et al., 2020)."""
    if t < 0.05:
        return 0.04 + 0.96 * t / 0.05
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (t - 0.05) / 0.95))


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "one-cycle": one_cycle,
    "coslog4": coslog4,
    "flat-cos": flat_cos,
    "warm-cosine": warm_cosine,
}


def schedule(name: str) -> Schedule:
    """Schedule by name.

    Raises
    ------
    OptionError
        If there is none of that name.
    """
    try:
        return SCHEDULES[name]
    except KeyError:
        raise OptionError(f"There is no schedule {name!r}.", did_you_mean(name, SCHEDULES)) from None
