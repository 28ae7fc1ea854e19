"""Modules whose output for a row depends on the other rows of its batch, as ``x - x.mean(0)`` lets it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from maas_magics.core.networks.modules import preserve_rng

APART, ROUNDING = 1e-2, 1e-4
"""Share of the answers' spread, and of their size, that a row's answer moves by rounding at most."""

BEHIND = 4
"""Places that are padded for a trial."""

TRIED = 4
"""Rows that are run alone."""


def mixed(net: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> str:
    """A sentence about a module whose output for a row alone differs from that among others; else empty.

    Parameters
    ----------
    net : nn.Module
        In eval mode.
    inputs : tuple of Tensor
        Some rows; few are enough.
    outputs : Tensor
        What it answered to them together.
    """
    rows = len(inputs[0])
    if rows < 2:
        return ""
    try:
        with preserve_rng(), torch.no_grad():
            together = outputs.detach().double().reshape(rows, -1)
            alone = _few(net, inputs, rows)
    except Exception:  # it may take no other number of rows, which is reported elsewhere
        return ""
    if not all(bool(torch.isfinite(x).all()) for x in (together, *alone.values())):
        return ""
    spread = max(_spread(x) for x in (together, *alone.values()))
    kinds = {p.dtype for p in net.parameters() if p.is_floating_point()} | {torch.float32}
    rounding = max(ROUNDING, *(8 * torch.finfo(kind).eps for kind in kinds))
    least = APART * spread + rounding * float(together.abs().max())
    off = max(float((part - together[list(at)]).abs().max()) for at, part in alone.items())
    if off <= least or _draws(net, inputs, together, least):
        return ""
    return (
        f"The network's answer to a row depends on the other rows of its batch: without them, it was off by "
        f"up to {off:.2g}. Rows are predicted in parts, and on a service together with others. Take means, sums "
        "and softmaxes over a row's own axes, not over axis 0."
    )


def by_padding(net: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor, padded: Mapping[int, float]) -> str:
    """A sentence about a module whose output for a row depends on what is behind its end; else empty.

    Parameters
    ----------
    net : nn.Module
        In eval mode.
    inputs : tuple of Tensor
        Some rows; few are enough.
    outputs : Tensor
        What it answered to them.
    padded : mapping of int to float
        Places of the inputs that are padded, and with what.
    """
    if not padded:
        return ""
    longer = tuple(
        torch.nn.functional.pad(x, (0, BEHIND), value=padded[place]) if place in padded else x
        for place, x in enumerate(inputs)
    )
    try:
        with preserve_rng(), torch.no_grad():
            before = outputs.detach().double().reshape(len(inputs[0]), -1)
            after = _answers(net, longer, len(inputs[0]))
    except Exception:  # it may take no longer rows, which is reported elsewhere
        return ""
    if before.shape != after.shape or not bool(torch.isfinite(after).all()):
        return ""
    least = APART * max(_spread(before), _spread(after)) + ROUNDING * float(before.abs().max())
    off = float((before - after).abs().max())
    if off <= least or _draws(net, inputs, before, least):
        return ""
    return (
        f"The network's answer to a row depends on the padding behind it, and so on the longest row of its batch: "
        f"{BEHIND} places more moved answers by up to {off:.2g}. Leave padding out of means and sums: "
        "mask = ids != 0."
    )


def _draws(net: nn.Module, inputs: tuple[Tensor, ...], together: Tensor, least: float) -> bool:
    """Whether a module's outputs for the same rows differ the next time, as one that draws random numbers does."""
    try:
        with preserve_rng(), torch.no_grad():
            again = _answers(net, inputs, len(together))
    except Exception:  # it may answer some times only
        return True
    return not bool(torch.isfinite(again).all()) or float((together - again).abs().max()) > least


def _few(net: nn.Module, inputs: tuple[Tensor, ...], rows: int) -> dict[tuple[int, ...], Tensor]:
    """Answers of single rows, and of pairs of them."""
    places = sorted({int(place) for place in torch.linspace(0, rows - 1, TRIED)})
    found: dict[tuple[int, ...], Tensor] = {}
    for at in [*((place,) for place in places), (rows - 1, 0), (0, rows // 2)]:
        try:
            found[at] = _answers(net, tuple(x[list(at)] for x in inputs), len(at))
        except Exception:  # it may take no single row
            if len(at) > 1:
                raise
    return found


def _answers(net: nn.Module, inputs: tuple[Tensor, ...], rows: int) -> Tensor:
    return torch.as_tensor(net(*(x.clone() for x in inputs))).detach().double().reshape(rows, -1)


def _spread(answers: Tensor) -> float:
    return float((answers - answers.mean(0)).abs().max())
