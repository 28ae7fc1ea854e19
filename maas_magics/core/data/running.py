"""Statistics of columns, some rows at a time."""

from __future__ import annotations

import numpy as np

from maas_magics.core.data.arrow import Array


class RunningStatistics:
    """Count, mean, spread and extremes of columns, some rows at a time.

    Exact but for rounding, at any level and any size of the values: what is summed are distances from a value of the
    column, divided by a power of two that is about the largest of them. Parts are joined by Chan, Golub and LeVeque,
    "Updating formulae and a pairwise algorithm for computing sample variances" (1979). NaN is missing.

    Attributes
    ----------
    count, missing : ndarray, shape (p,)
    low, high : ndarray, shape (p,)
    deviation : ndarray, shape (p,)
        Root of the sum of squared distances from the mean.
    """

    def __init__(self) -> None:
        self.count: Array = np.zeros(0)
        self.missing: Array = np.zeros(0)
        self._origin: Array = np.zeros(0)
        self._offset: Array = np.zeros(0)
        self.deviation: Array = np.zeros(0)
        self.low: Array = np.zeros(0)
        self.high: Array = np.zeros(0)

    def add(self, values: Array) -> None:
        """Take in rows (n, p)."""
        values = values.astype(np.float64, copy=False)
        if not len(self.count):
            width = values.shape[1]
            self.count, self.missing, self.deviation = (np.zeros(width) for _ in range(3))
            self._origin, self._offset = np.zeros(width), np.zeros(width)
            self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)
        gone = np.isnan(values)
        missing = gone.sum(axis=0)
        count = len(values) - missing
        low = np.where(gone, np.inf, values) if missing.any() else values
        high = np.where(gone, -np.inf, values) if missing.any() else values
        low, high = low.min(axis=0, initial=np.inf), high.max(axis=0, initial=-np.inf)
        origin, offset, deviation = _moments(values, gone if missing.any() else None, count, low, high)
        self.missing = self.missing + missing
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self._merge(count, origin, offset, deviation)

    def merge(self, other: RunningStatistics) -> None:
        """Merge the statistics of other rows."""
        if not len(other.count):
            return
        if not len(self.count):
            vars(self).update(vars(other))
            return
        self.missing = self.missing + other.missing
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        self._merge(other.count, other._origin, other._offset, other.deviation)

    def shift(self, by: Array) -> None:
        """Add a number to all values of each column, (p,)."""
        if len(self.count):
            self._origin, self.low, self.high = self._origin + by, self.low + by, self.high + by

    def _merge(self, count: Array, origin: Array, offset: Array, deviation: Array) -> None:
        total = self.count + count
        share = count / np.maximum(total, 1)
        known = self.count > 0
        self._origin = np.where(known, self._origin, origin)
        offset = (origin - self._origin) + offset
        apart = np.where(known, offset - self._offset, 0.0)
        between = np.abs(apart) * np.sqrt(self.count * share)
        self.deviation = np.hypot(np.hypot(self.deviation, deviation), between)
        self._offset = np.where(known, self._offset + apart * share, offset)
        self.count = total

    @property
    def mean(self) -> Array:
        """Mean of each column, (p,); 0 where all is missing."""
        return self._origin + self._offset

    @property
    def spread(self) -> Array:
        """Standard deviation of each column, (p,)."""
        return np.asarray(self.deviation / np.sqrt(np.maximum(self.count, 1)))

    @property
    def largest(self) -> Array:
        """Largest size of a value of each column, (p,); 0 where there is none."""
        return np.where(self.count > 0, np.maximum(np.abs(self.low), np.abs(self.high)), 0.0)

    def filled(self, fill: Array) -> tuple[Array, Array, Array]:
        """Mean, standard deviation and largest size, each (p,), as if ``fill`` stood for what is missing."""
        whole = RunningStatistics()
        whole.count, whole.deviation = self.count, self.deviation
        whole._origin, whole._offset = self._origin, self._offset
        whole._merge(self.missing, fill, np.zeros_like(fill), np.zeros_like(fill))
        return whole.mean, whole.spread, np.maximum(self.largest, np.where(self.missing > 0, np.abs(fill), 0.0))


def _moments(values: Array, gone: Array | None, count: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """A value amid each column, the mean's distance from it, and the root of the sum of squares around the mean.

    ``gone`` marks what is missing.
    """
    low, high = np.where(count > 0, low, 0.0), np.where(count > 0, high, 0.0)
    origin = np.where(low == high, low, low / 2 + high / 2)
    _, exponent = np.frexp(np.maximum(high / 2 - origin / 2, origin / 2 - low / 2))
    unit = np.ldexp(1.0, np.clip(exponent + 1, -1022, 1023))
    apart = (values - origin) / unit
    if gone is not None:
        apart[gone] = 0.0
    mean = apart.sum(axis=0) / np.maximum(count, 1)
    apart -= mean
    if gone is not None:
        apart[gone] = 0.0
    deviation = np.sqrt(np.square(apart, out=apart).sum(axis=0))
    with np.errstate(over="ignore"):
        return origin, mean * unit, deviation * unit


def figures(values: Array, rows: int = 2**16) -> RunningStatistics:
    """Statistics of rows (n, p) that are in memory."""
    found = RunningStatistics()
    for start in range(0, max(len(values), 1), rows):
        found.add(values[start : start + rows])
    return found
