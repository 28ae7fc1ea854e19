"""How numbers are imputed and scaled, and how that is fitted from their statistics."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from maas_magics.core.data.arrow import Array
from maas_magics.core.data.running import RunningStatistics

CLIP = 10.0
"""Standard deviations that scaled numbers stay within."""

ROUNDING = 4 * float(np.finfo(np.float64).eps)
"""Numbers whose standard deviation is at most this share of the largest of them vary by rounding alone."""

SMALLEST = float(np.finfo(np.float64).tiny)
"""Standard deviation below which float64 has fewer digits, and no number to divide by it with."""


class Scaling(msgspec.Struct, frozen=True):
    """Statistics of some numbers, fitted on the training rows.

    Attributes
    ----------
    fill, center, scale : tuple of float
        For each number: what stands in for a missing one, what is taken away, what it is then multiplied by.
    indicators : tuple of int
        Numbers that were missing somewhere, and get a 0/1 companion.
    """

    fill: tuple[float, ...] = ()
    center: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    indicators: tuple[int, ...] = ()


def fitted(found: RunningStatistics, sample: Array, scale: bool, least: Array | None = None) -> Scaling:
    """How numbers are filled with their medians, and standardised.

    Parameters
    ----------
    found : RunningStatistics
        Statistics of all training rows.
    sample : ndarray, shape (n, p)
        The training rows, or a sample of them; medians are theirs.
    scale : bool
        Whether numbers are standardised.
    least : ndarray, shape (p,), optional
        Standard deviation up to which each number is taken not to vary; `ROUNDING` of the largest where it is left out.
        Numbers that do not vary become 0.
    """
    fill = _medians(sample, found.missing > 0)
    indicators = tuple(np.flatnonzero(found.missing > 0).tolist())
    if not scale:
        return Scaling(tuple(fill.tolist()), (0.0,) * len(fill), (1.0,) * len(fill), indicators)
    center, spread, largest = found.filled(fill)
    flat = (spread <= (ROUNDING * largest if least is None else least)) | (spread < SMALLEST)
    factor = np.where(flat, 0.0, 1 / np.where(flat, 1.0, spread))
    return Scaling(tuple(fill.tolist()), tuple(center.tolist()), tuple(factor.tolist()), indicators)


def _medians(sample: Array, missing: Array) -> Array:
    """Median of each number, (p,); 0 where none is there."""
    found = np.zeros(sample.shape[1])
    if not len(sample):
        return found
    whole = np.flatnonzero(~missing)
    if len(whole):
        part = sample[:, whole] if len(whole) < sample.shape[1] else sample
        found[whole] = np.median(part.astype(np.float64, copy=False), axis=0)
    for at in np.flatnonzero(missing):
        there = sample[:, at][~np.isnan(sample[:, at])]
        found[at] = np.median(there.astype(np.float64, copy=False)) if len(there) else 0.0
    return found


def tell_flat(name: str, scaling: Scaling, found: RunningStatistics, notify: Callable[[str], None]) -> None:
    """Say which numbers of a column differ by too little to be scaled, and so became 0."""
    width = len(scaling.scale)
    flat = np.flatnonzero((np.array(scaling.scale) == 0) & (found.low < found.high))
    if not len(flat):
        return
    which = f"Column {name!r}" if width == 1 else f"{len(flat):,} of the {width:,} numbers of {name!r}"
    least, most = float(found.low[flat[0]]), float(found.high[flat[0]])
    tiny = max(abs(least), abs(most)) < SMALLEST / ROUNDING
    what = "Multiply it by 1e300" if tiny else "Take away what its values share"
    shown = f"{least:.6g} to {most:.6g}" if f"{least:.6g}" != f"{most:.6g}" else f"{least!r} to {most!r}"
    notify(
        f"{which} differ{'s' if width == 1 else ''} by too little for float64 ({shown}), "
        f"and count{'s' if width == 1 else ''} as one value. {what}, before it is trained on."
    )
