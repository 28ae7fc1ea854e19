"""ONNX Runtime's tools without their advice, such as to prepare a graph that the exporter has made as it should.

Not a compressor: it registers nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_advice(level: int = logging.ERROR) -> Iterator[None]:
    """Log nothing below a level.

    Parameters
    ----------
    level : int
        Of `logging`.
    """
    root = logging.getLogger()
    before = root.level
    root.setLevel(level)
    try:
        yield
    finally:
        root.setLevel(before)
