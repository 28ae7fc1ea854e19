"""Figures of columns, some rows at a time."""

from __future__ import annotations

import numpy as np

from maas_magics.core.data.columns import Array


class Running:
    """Count, mean, variance and extremes of columns, some rows at a time.

    Exact but for rounding: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances" (1979). NaN is missing.
    """

    def __init__(self) -> None:
        self.count: Array = np.zeros(0)
        self.missing: Array = np.zeros(0)
        self.mean: Array = np.zeros(0)
        self.squares: Array = np.zeros(0)
        self.low: Array = np.zeros(0)
        self.high: Array = np.zeros(0)

    def add(self, values: Array) -> None:
        """Take in rows (n, p)."""
        values = values.astype(np.float64, copy=False)
        if not len(self.count):
            width = values.shape[1]
            self.count, self.missing, self.mean, self.squares = (np.zeros(width) for _ in range(4))
            self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)
        there = ~np.isnan(values)
        count = there.sum(axis=0)
        mean = np.where(there, values, 0.0).sum(axis=0) / np.maximum(count, 1)
        squares = np.square(np.where(there, values - mean, 0.0)).sum(axis=0)
        self.missing = self.missing + len(values) - count
        self.low = np.minimum(self.low, np.where(there, values, np.inf).min(axis=0, initial=np.inf))
        self.high = np.maximum(self.high, np.where(there, values, -np.inf).max(axis=0, initial=-np.inf))
        self._merge(count, mean, squares)

    def _merge(self, count: Array, mean: Array, squares: Array) -> None:
        total = self.count + count
        share = count / np.maximum(total, 1)
        apart = mean - self.mean
        self.squares = self.squares + squares + np.square(apart) * self.count * share
        self.mean = self.mean + apart * share
        self.count = total

    def filled(self, fill: Array) -> tuple[Array, Array, Array]:
        """Mean, standard deviation and largest size, each (p,), as if ``fill`` stood for what is missing."""
        whole = Running()
        whole.count, whole.mean, whole.squares = self.count, self.mean, self.squares
        whole._merge(self.missing, fill, np.zeros_like(fill))
        largest = np.where(self.count > 0, np.maximum(np.abs(self.low), np.abs(self.high)), 0.0)
        spread = np.sqrt(whole.squares / np.maximum(whole.count, 1))
        return whole.mean, spread, np.maximum(largest, np.where(self.missing > 0, np.abs(fill), 0.0))
