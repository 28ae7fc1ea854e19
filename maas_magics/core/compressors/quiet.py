"""ONNX Runtime's tools without their advice, such as to prepare a graph that the exporter has made as it should.

Not a compressor: it registers nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_advice(level: int = logging.ERROR) -> Iterator[None]:
    """Log nothing below a level, and leave Python's logging as it was: some of these tools set it up when imported.

    Parameters
    ----------
    level : int
        Of `logging`.
    """
    root = logging.getLogger()
    before, handlers = root.level, list(root.handlers)
    root.setLevel(level)
    try:
        yield
    finally:
        root.setLevel(before)
        for handler in [each for each in root.handlers if each not in handlers]:
            root.removeHandler(handler)
