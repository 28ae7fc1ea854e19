"""Inputs to trace a graph with, and the figures a file is checked by. No exporter: it registers nothing.

Imports no torch, so that a file that needs none is checked in a moment.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from maas_magics.api.signature import NUMPY
from maas_magics.core.data.columns import Array

if TYPE_CHECKING:
    from torch import Tensor

    from maas_magics.core.model import Model

ROWS = 3
"""Rows of the example; a batch of one would be taken for a constant."""

BATCHES = (1, 256)
"""Batch sizes whose latency is measured."""

REPEATS = 7


def example(model: Model) -> tuple[Tensor, ...]:
    """Inputs of the model's graph, `ROWS` rows of zeros and empty text."""
    from maas_magics.core.model import tensors

    raw = [
        np.full((ROWS, *spec.shape[1:]), "", dtype=object)
        if spec.datatype == "BYTES"
        else np.zeros((ROWS, *spec.shape[1:]), dtype=NUMPY[spec.datatype])
        for spec in model.columns.specs
    ]
    return tensors(model.columns, raw)


def ask(run: Callable[[Sequence[Array]], Array], raw: Sequence[Array]) -> Array:
    """Answers of all rows, asked one, two and seven at a time first and the rest by 256: a fixed batch would show."""
    rows = len(raw[0])
    parts, start = [], 0
    for size in (1, 2, 7, *([256] * (rows // 256 + 1))):
        if start >= rows:
            break
        parts.append(run([values[start : start + size] for values in raw]))
        start += size
    return np.concatenate(parts)


def latency(run: Callable[[Sequence[Array]], Array], raw: Sequence[Array]) -> dict[str, float]:
    """Median milliseconds of one call, by batch size; rows are repeated where there are too few."""
    found = {}
    for batch in BATCHES:
        index = np.arange(batch) % len(raw[0])
        part = [values[index] for values in raw]
        run(part)
        times = []
        for _ in range(REPEATS):
            begun = perf_counter()
            run(part)
            times.append(perf_counter() - begun)
        found[str(batch)] = 1000 * float(np.median(times))
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Torch's exporters talk through warnings and logging of how they work inside; an export is no place for it."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
