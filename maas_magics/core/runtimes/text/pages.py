"""Memory that is taken from the system page by page, where it is written to."""

from __future__ import annotations

import contextlib
import mmap
from math import prod

import numpy as np

from maas_magics.core.data.arrow import Array


def zeros(shape: tuple[int, ...], dtype: type = np.float32) -> Array:
    """An array of zeros of which only what is written to takes memory.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    dtype : type
        Of its numbers.
    """
    size = max(1, prod(shape) * np.dtype(dtype).itemsize)
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    held = mmap.mmap(-1, size, **private)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # where the kernel knows no other pages
            held.madvise(mmap.MADV_NOHUGEPAGE)  # a huge page would be taken whole for the first token in it
    return np.frombuffer(held, dtype, prod(shape)).reshape(shape)
