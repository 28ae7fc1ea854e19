"""Pictures that a model draws for each of many captions, as many of them at a time as it has slots."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.requests import PredictRequest
from maas_magics.api.results import Prediction
from maas_magics.core.chunks import ChunkReader
from maas_magics.core.data.arrow import Array, is_text
from maas_magics.core.data.sources import Source
from maas_magics.core.features.captions import captions_of
from maas_magics.core.inference.gather import gather
from maas_magics.core.inference.in_passes import answers_to, by_chunks
from maas_magics.core.inference.loader import Generator, Loader
from maas_magics.core.runtimes.pictures.session import PictureSession


def draws(ref: str, loader: Loader) -> bool:
    """Whether a model draws pictures.

    Parameters
    ----------
    ref : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    loader : Loader
        Opens the model.
    """
    generator = loader.generator(ref)
    return generator is not None and isinstance(generator.loop.session, PictureSession)


def drawn(
    request: PredictRequest, source: Source, loader: Loader, progress: Callable[[int, int], None] | None = None
) -> Prediction:
    """A picture for each row, uint8 (n, height, width), or (n, height, width, 3).

    Parameters
    ----------
    request : PredictRequest
        Model, and how pictures are drawn; several rows with a seed have one each, counted from it.
    source : Source
        The captions.
    loader : Loader
        Opens the model.
    progress : callable, optional
        Gets rows done and rows in all (0 while unknown) after each chunk.

    Raises
    ------
    DataError
        If no column holds captions.
    """
    generator = loader.generator(request.model)
    assert generator is not None  # of a model that answers in one pass no one gets here
    if request.top or request.probabilities or request.max_tokens is not None:
        told = f"{generator.loop.ref} draws pictures, which have neither labels nor tokens."
        raise OptionError(told, "Drop --top, --proba and --max-tokens.")
    generator.loop.session.sampler(request.sampling)  # what is not valid is reported before anything is drawn

    def pictures(table: pa.Table, first: int) -> Array:
        captions = _captions(table, generator, request.column)
        return np.stack(answers_to(captions, generator, request.sampling, first, _last))

    columns = gather(by_chunks(source, request.batch_size, pictures), source.rows, progress)
    if not columns:
        raise DataError("The data has no rows.", "Give at least one caption.")
    return Prediction(model=generator.loop.ref, columns=columns)


def _last(stream: ChunkReader) -> Array:
    """The picture of the last step."""
    return np.asarray([chunk.delta for chunk in stream][-1])


def _captions(table: pa.Table, generator: Generator, asked: str | None) -> list[str]:
    """Captions: of the column that was named, of the one that the model learnt from, or of the only one of texts."""
    there = [name for name in table.column_names if is_text(table.column(name).type)]
    known = generator.inputs[0].name
    name = asked or (known if known in there else there[0] if len(there) == 1 else "")
    if name not in table.column_names:
        shown = ", ".join(map(repr, table.column_names[:8]))
        raise DataError(
            f"The data has no column {name!r} of captions; there is {shown}."
            if name
            else f"No column is {known!r}, which the model draws; there is {shown}.",
            "--column NAME",
        )
    values = table.column(name)
    if name not in there and not pa.types.is_null(values.type):
        raise DataError(f"The column {name!r} holds {values.type}; captions were expected.", "--column NAME of texts")
    return captions_of(values)
