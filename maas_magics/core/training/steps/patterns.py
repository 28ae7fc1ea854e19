"""Parameters of a network by patterns over their names."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import nn

from maas_magics.api.errors import OptionError, did_you_mean


def matching(net: nn.Module, pattern: str, option: str) -> list[nn.Parameter]:
    """Parameters whose name a pattern matches; a tied one has several names.

    Parameters
    ----------
    net : nn.Module
    pattern : str
        As in `fnmatch`, case-sensitive: ``encoder.*``, ``*.bias``.
    option : str
        Named in the error where it matches nothing.

    Raises
    ------
    OptionError
        If it matches nothing; the hint names patterns that nearly do.
    """
    named = list(net.named_parameters(remove_duplicate=False))
    found = {id(parameter): parameter for name, parameter in named if fnmatchcase(name, pattern)}
    if not found:
        raise OptionError(
            f"{option}: no parameter of the network matches {pattern!r}.",
            did_you_mean(pattern, _offered([name for name, _ in named], pattern)),
        )
    return list(found.values())


def _offered(names: list[str], pattern: str) -> list[str]:
    """Names, and patterns for everything below each part of them; the outermost parts where there are many."""
    below = {".".join(name.split(".")[:depth]) + ".*" for name in names for depth in range(1, name.count(".") + 1)}
    return [*below, *(name for name in names if "*" not in pattern or "." not in name)]


def rates_of(net: nn.Module, rates: Mapping[str, float]) -> dict[nn.Parameter, float]:
    """Learning rate of each parameter that a pattern names; of several patterns the last one counts."""
    found: dict[nn.Parameter, float] = {}
    for pattern, rate in rates.items():
        found |= dict.fromkeys(matching(net, pattern, "--lr-of"), rate)
    return found
