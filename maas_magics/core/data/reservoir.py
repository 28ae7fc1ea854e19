"""Draws of single rows that are the same at each reading, and samples of bounded size made by them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from maas_magics.core.data.arrow import Array

_STEP = np.uint64(0x9E3779B97F4A7C15)


def draws(start: int, rows: int, seed: int, stream: int) -> Array:
    """A number in [0, 1) for each of some rows, from the row's place and the seed alone.

    SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) as a hash.

    Parameters
    ----------
    start : int
        Place of the first row.
    rows : int
    seed : int
    stream : int
        Draws of different streams have nothing to do with one another.

    Returns
    -------
    ndarray of float64, shape (rows,)
        One draw for each row.
    """
    key = _mixed(_mixed(np.array([seed % 2**64], dtype=np.uint64)) + np.uint64(stream))
    mixed = _mixed(key + np.arange(start, start + rows, dtype=np.uint64) * _STEP)
    return np.asarray((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mixed(values: Array) -> Array:
    values = values + _STEP
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


class Reservoir:
    """A uniform sample without replacement: the rows of the smallest draws, in the order they came.

    Which rows these are does not depend on how many come at a time; with no more than requested, it is all.

    Parameters
    ----------
    rows : int
        Most rows of the sample; twice as many are held at most.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._tables: list[pa.Table] = []
        self._draws: list[Array] = []
        self._limit = np.inf

    def add(self, table: pa.Table, drawn: Array) -> None:
        """Take in rows and their draws."""
        low = drawn < self._limit
        if not low.any():
            return
        self._tables.append(table.filter(pa.array(low)))
        self._draws.append(drawn[low])
        if sum(map(len, self._draws)) > 2 * self.rows:
            self._prune()

    def _prune(self) -> None:
        drawn = np.concatenate(self._draws)
        kept = np.sort(np.argpartition(drawn, self.rows - 1)[: self.rows])
        self._tables = [pa.concat_tables(self._tables).take(pa.array(kept)).combine_chunks()]
        self._draws = [drawn[kept]]
        self._limit = float(drawn[kept].max())

    def table(self) -> pa.Table | None:
        """The sample; None if no row came."""
        if sum(map(len, self._draws)) > self.rows:
            self._prune()
        return pa.concat_tables(self._tables).combine_chunks() if self._tables else None
