"""Zeros: in large pages, which are quicker to look up, or in small ones, of which only what is written to is taken."""

from __future__ import annotations

import contextlib
import mmap
from math import prod

import numpy as np

from maas_magics.core.data.arrow import Array


def zeros(shape: tuple[int, ...], sparing: bool, dtype: type = np.float32) -> Array:
    """An array of zeros.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    sparing : bool
        Whether only what is written to takes memory.
    dtype : type
        Of its numbers.
    """
    if not sparing:
        return np.zeros(shape, dtype)
    size = max(1, prod(shape) * np.dtype(dtype).itemsize)
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    held = mmap.mmap(-1, size, **private)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # where the kernel knows no other pages
            held.madvise(mmap.MADV_NOHUGEPAGE)  # a huge page would be taken whole for the first token in it
    return np.frombuffer(held, dtype, prod(shape)).reshape(shape)
