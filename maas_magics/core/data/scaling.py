"""Figures of the preprocessing, as plain values."""

from __future__ import annotations

from typing import Literal

import msgspec

Layout = Literal["tabular", "flat", "raw", "image"]
"""What the network gets.

``tabular``
    ``numeric`` float32 (n, p) and ``categorical`` int64 codes (n, c).
``flat``
    One float32 (n, p + indicators of every category).
``raw``
    Each array as it is.
``image``
    One float32 array, standardised.
"""


class Scaling(msgspec.Struct, frozen=True):
    """Figures fitted on the training rows.

    Attributes
    ----------
    fill, center, scale : tuple of float
        For each number: what stands in for a missing one, what is taken away, what it is then multiplied by.
    indicators : tuple of int
        Numbers that were missing somewhere, and get a 0/1 companion.
    clip : float
        Standard deviations that scaled numbers are squeezed smoothly into; 0 leaves them as they are.
    origins : tuple of int
        For each column of moments: the microseconds since 1970 that its days are counted from; 1970 where there are
        none. A float of days since then has steps of a third of a microsecond.
    dtype : str
        Of what a network gets of the ``flat`` layout.
    """

    fill: tuple[float, ...] = ()
    center: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    indicators: tuple[int, ...] = ()
    clip: float = 0.0
    origins: tuple[int, ...] = ()
    dtype: str = "float32"
