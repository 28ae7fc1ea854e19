"""Answers that take several passes, to each of many texts: as many of them at a time as a model has slots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from maas_magics.core.chunks import ChunkReader
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.sources import Source
from maas_magics.core.inference.loader import Generator

T = TypeVar("T")

CHUNK = 256
"""Rows that are begun at a time."""


def by_chunks(
    source: Source, asked: int | None, answer: Callable[[pa.Table, int], Array]
) -> Iterator[dict[str, Array]]:
    """Answers to the rows of a source, some of them at a time.

    Parameters
    ----------
    source : Source
    asked : int or None
        Most rows that were requested at a time.
    answer : callable
        Answers rows, the first of which has that number.
    """
    done = 0
    for table in source.chunks(max(min(CHUNK, asked or CHUNK), 1)):
        if table.num_rows:
            yield {"prediction": answer(table, done)}
            done += table.num_rows


def answers_to(
    texts: Sequence[str],
    generator: Generator,
    sampling: Mapping[str, Any],
    first: int,
    whole: Callable[[ChunkReader], T],
    **how: Any,
) -> list[T]:
    """What a model answers to each text.

    Parameters
    ----------
    texts : sequence of str
    generator : Generator
        The model.
    sampling : mapping
        Parameters of its sampler; a seed is that of row 0, and each row has one of its own, counted from it.
    first : int
        Number of the first row.
    whole : callable
        An answer, of its chunks.
    **how : Any
        Further arguments of `Loop.generate`.
    """
    loop, streams = generator.loop, []
    try:
        for row, text in enumerate(texts, first):
            params = dict(sampling)
            if params.get("seed") is not None:
                params["seed"] += row
            streams.append(loop.generate([np.array([[text]], dtype=object)], loop.session.sampler(params), **how))
        return [whole(stream) for stream in streams]
    finally:
        for stream in streams:
            stream.close()
