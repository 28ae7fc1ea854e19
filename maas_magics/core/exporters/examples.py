"""Inputs to trace a graph with, and the rows that an export is checked on. Not an exporter: it registers nothing.

Imports no torch, so that a file that needs none is checked in a moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from maas_magics.api.signature import NUMPY, TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.base import LENGTH

if TYPE_CHECKING:
    from torch import Tensor

    from maas_magics.core.features.processor import Processor
    from maas_magics.core.model import Model

ROWS = 3
"""Rows of the example; a batch of one would be taken for a constant."""

BATCHES = (1, 256)
"""Batch sizes whose latency is measured."""

SECONDS = 0.1
"""CPU seconds that the measuring of one engine may take."""

ONCE = 0.45
"""CPU seconds within which a large batch is called once, if not more often."""

REPEATS = 7
"""Calls of a batch that are timed."""

MANY = 99
"""The same of one row, where they take no more than a third of the time."""

DRAWN = 300
"""Rows drawn where none were kept."""

DRAWN_BYTES = 24 * 2**20
"""Bytes of the rows that are drawn, where a row is large; `LEAST` rows in any case."""

BATCH_BYTES = 16 * 2**20
"""Bytes of the rows that are answered at once, where a row is large: what a network makes of them is far larger."""

LEAST = 16
"""Rows that are drawn at least."""


def example(model: Model) -> tuple[Tensor, ...]:
    """Inputs of the model's graph, `ROWS` rows of zeros and empty text, or of whatever texts and files hold."""
    from maas_magics.core.features.module import entered

    return entered(model.processor, [feature.example(ROWS) for feature in model.processor.features])


def drawn(model: Model) -> list[Array]:
    """Raw rows drawn at random, where none were kept with the model: numbers about as those it was trained on."""
    return drawn_for(model.processor)


def drawn_for(processor: Processor) -> list[Array]:
    """Raw rows drawn at random, of some columns."""
    random = np.random.default_rng(0)
    row = sum(_bytes(feature.entry) for feature in processor.features)
    rows = max(LEAST, min(DRAWN, DRAWN_BYTES // row))
    return [feature.drawn(rows, random) for feature in processor.features]


def coded(processor: Processor) -> tuple[TensorSpec, ...]:
    """What a file takes that has no operators for texts: codes in place of categories."""
    return tuple(
        msgspec.structs.replace(spec, datatype="INT64", meaning="codes of the texts; missing: 0")
        if spec.datatype == "BYTES"
        else spec
        for spec in processor.entries
    )


def singles(processor: Processor) -> tuple[TensorSpec, ...]:
    """The same of a file that takes all numbers in 32 bits."""
    return tuple(
        msgspec.structs.replace(spec, datatype="FP32") if feature.joins == "numbers" else spec
        for feature, spec in zip(processor.features, coded(processor), strict=True)
    )


def _bytes(spec: TensorSpec) -> int:
    """Of a row; of open axes some length."""
    return math.prod(LENGTH if size < 0 else size for size in spec.shape[1:]) * np.dtype(NUMPY[spec.datatype]).itemsize


def ask(run: Callable[[Sequence[Array]], Array], raw: Sequence[Array], padded: Sequence[int] = ()) -> Array:
    """Answers to all rows, in batches of one, two and seven first and the rest in 256: a fixed batch size would show.

    Of large rows fewer are answered at once. Inputs whose places are ``padded`` are cut to the longest row of each
    part: a fixed length would show.
    """
    rows = len(raw[0])
    most = max(1, min(256, BATCH_BYTES // max(1, sum(values.nbytes for values in raw) // max(1, rows))))
    parts, start = [], 0
    for size in (1, min(2, most), min(7, most), *([most] * (rows // most + 1))):
        if start >= rows:
            break
        parts.append(run(cut([values[start : start + size] for values in raw], padded)))
        start += size
    return np.concatenate(parts)


def padded_inputs(processor: Processor) -> list[int]:
    """Places of the inputs whose second axis may have any length."""
    return [
        place
        for place, feature in enumerate(processor.features)
        if 1 in feature.entry.open_axes and not feature.padded_with
    ]


def cut(raw: list[Array], padded: Sequence[int]) -> list[Array]:
    """Rows without the zeros that are behind the longest of them, in every padded input."""
    if not padded:
        return raw
    longest = max(int(np.flatnonzero(raw[at].any(axis=0)).max(initial=0)) + 1 for at in padded)
    return [values[:, :longest] if at in padded else values for at, values in enumerate(raw)]


def latency(
    run: Callable[[Sequence[Array]], Array], raw: Sequence[Array], slowest: dict[str, float] | None = None
) -> dict[str, float]:
    """Median milliseconds of one call, by batch size; rows are repeated where there are too few.

    A call of one row is made in any case. Beyond it, no more is repeated than `SECONDS` of CPU time allow, and where a
    large batch would take longer than `ONCE`, it is the largest power of two that does not, with that size returned.

    Parameters
    ----------
    run : callable
        From inputs to decoded answers.
    raw : sequence of ndarray, shape (n, …)
        Inputs.
    slowest : dict of str to float, optional
        Gets the 99th percentile, by batch size.
    """
    begun = process_time()
    found: dict[str, float] = {}
    slowest = {} if slowest is None else slowest
    row = _timed(run, raw, 1, begun, found, slowest)
    left, batch = ONCE - (process_time() - begun), BATCHES[-1]
    while batch > 1 and batch * row > left:
        batch //= 2
    if batch > 1:
        _timed(run, raw, batch, begun, found, slowest)
    return found


def _timed(
    run: Callable[[Sequence[Array]], Array],
    raw: Sequence[Array],
    batch: int,
    begun: float,
    found: dict[str, float],
    slowest: dict[str, float],
) -> float:
    """Time calls of a batch; returns the CPU seconds of the cheapest."""
    index = np.arange(batch) % len(raw[0])
    part = [values[index] for values in raw]
    times: list[float] = []
    costs: list[float] = []
    many = MANY if batch == 1 else REPEATS
    while len(times) <= many and (not times or process_time() - begun + costs[-1] < SECONDS):
        if len(times) > REPEATS and process_time() - begun > SECONDS / 3:
            break
        started, cost = perf_counter(), process_time()
        run(part)
        times.append(perf_counter() - started)
        costs.append(process_time() - cost)
    measured = times[1:] or times  # the first call makes ready
    found[str(batch)] = 1000 * float(np.median(measured))
    slowest[str(batch)] = 1000 * float(np.percentile(measured, 99))
    return min(costs)
