"""A curve that stays small however long it grows."""

from __future__ import annotations

import math
from collections.abc import Iterable

Point = tuple[float, float]


def extremes(points: list[Point]) -> list[Point]:
    """Lowest and highest of neighbouring points in the order they came; one non-finite point if all are."""
    finite = [point for point in points if math.isfinite(point[1])]
    if not finite:
        return points[-1:]
    low = min(finite, key=lambda point: point[1])
    high = max(finite, key=lambda point: point[1])
    return [low] if low == high else sorted((low, high))


class Curve:
    """Points of one metric, at most ``bound`` of them, evenly thinned.

    When the bound is reached, every bucket of neighbours keeps its lowest and its highest point, so
    a spike never disappears; later points are thinned to the same density before they are kept.

    Parameters
    ----------
    bound : int
        Most points that are kept; at least 8.
    """

    def __init__(self, bound: int = 2000) -> None:
        self._bound = bound
        self._bucket = 1
        self._kept: list[Point] = []
        self._open: list[Point] = []

    def add(self, x: float, y: float) -> None:
        """Append a point; ``x`` never decreases."""
        self._open.append((x, y))
        if len(self._open) < self._bucket:
            return
        self._kept += extremes(self._open)
        self._open.clear()
        if len(self._kept) > self._bound - 4 - self._bucket:
            self._thin()

    def _thin(self) -> None:
        kept = self._kept
        self._kept = [point for i in range(0, len(kept), 4) for point in extremes(kept[i : i + 4])]
        # Two of a bucket's points are kept, so a bucket of 4 raw points is half as dense as single ones.
        self._bucket = min(max(4, self._bucket * 2), self._bound // 4)

    def cut(self, x: float) -> None:
        """Drop every point beyond ``x``."""
        self._kept = [point for point in self._kept if point[0] <= x]
        self._open = [point for point in self._open if point[0] <= x]

    def extend(self, points: Iterable[Point]) -> None:
        """Append several points."""
        for x, y in points:
            self.add(x, y)

    @property
    def points(self) -> list[Point]:
        """Kept points, then those that are not thinned yet."""
        return self._kept + self._open

    def __len__(self) -> int:
        return len(self._kept) + len(self._open)
