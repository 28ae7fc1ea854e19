"""Texts that a model writes to each of many prompts, as many of them at a time as it has slots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import PredictRequest
from maas_magics.api.results import Prediction
from maas_magics.core.chunks import ChunkReader
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.prose import USUAL, before_answer, prompts_of
from maas_magics.core.data.sources import Source
from maas_magics.core.inference.gather import gather
from maas_magics.core.inference.in_passes import answers_to, by_chunks
from maas_magics.core.inference.loader import Generator, Loader


def writes(ref: str, loader: Loader) -> bool:
    """Whether a model reads a text, and writes what follows.

    Parameters
    ----------
    ref : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    loader : Loader
        Opens the model.
    """
    generator = loader.generator(ref)
    return generator is not None and [spec.datatype for spec in generator.inputs] == ["BYTES"]


def written(
    request: PredictRequest, source: Source, loader: Loader, progress: Callable[[int, int], None] | None = None
) -> Prediction:
    """What a model writes to each row.

    Parameters
    ----------
    request : PredictRequest
        Model, and how tokens are chosen; several rows with a seed have one each, counted from it.
    source : Source
        The prompts.
    loader : Loader
        Opens the model.
    progress : callable, optional
        Gets rows done and rows in all (0 while unknown) after each chunk.

    Raises
    ------
    DataError
        If no column holds prompts.
    """
    generator = loader.generator(request.model)
    assert generator is not None  # of a model that answers in one pass no one gets here
    if request.top or request.probabilities:
        raise OptionError(f"{generator.loop.ref} writes texts, which have no labels.", "Drop --top and --proba.")
    most = USUAL if request.max_tokens is None else request.max_tokens
    if most < 1:
        raise OptionError(f"max_tokens is {most}; at least 1 was expected.", "--max-tokens 100")
    generator.loop.session.sampler(request.sampling)  # what is not valid is reported before anything is written

    def texts(table: pa.Table, first: int) -> Array:
        prompts = _prompts(table, generator, request.column)
        found = np.empty(len(prompts), dtype=object)
        found[:] = answers_to(
            prompts, generator, request.sampling, first, _joined, max_steps=most, ahead=most + 1, batch=True
        )
        return found

    columns = gather(by_chunks(source, request.batch_size, texts), source.rows, progress)
    return Prediction(model=generator.loop.ref, columns=columns)


def _joined(stream: ChunkReader) -> str:
    """The letters of all chunks."""
    return "".join(chunk.delta for chunk in stream if chunk.delta)


def _prompts(table: pa.Table, generator: Generator, asked: str | None) -> list[str]:
    """Texts to continue; conversations as the texts that they are for the model."""
    session: Any = generator.loop.session
    found = prompts_of(table, generator.inputs[0].name, asked)
    return [one if isinstance(one, str) else session.conversation(before_answer(one)) for one in found]
