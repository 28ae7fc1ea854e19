"""What is behind `%predict`: the answers of all rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import PredictRequest
from maas_magics.api.results import Prediction
from maas_magics.core.data.sources import open_source
from maas_magics.core.inference.drawn import drawn, draws
from maas_magics.core.inference.gather import gather
from maas_magics.core.inference.loader import Loader
from maas_magics.core.inference.predictor import InSeveralPasses
from maas_magics.core.inference.written import writes, written


def predict(request: PredictRequest, loader: Loader, progress: Callable[[int, int], None] | None = None) -> Prediction:
    """Answers of all rows.

    Parameters
    ----------
    request : PredictRequest
    loader : Loader
    progress : callable, optional
        Gets rows done and rows in all (0 while unknown) after each chunk.
    """
    try:
        predictor = loader.predictor(request.model)
    except InSeveralPasses:
        if draws(request.model, loader):
            return drawn(request, open_source(request.data, request.csv), loader, progress)
        if not writes(request.model, loader):
            raise
        return written(request, open_source(request.data, request.csv), loader, progress)
    said = {**request.sampling, "max_tokens": request.max_tokens, "column": request.column}
    if given := [name for name, value in said.items() if value is not None]:
        raise OptionError(
            f"{predictor.ref} answers in one pass: it writes no text, and draws no picture.",
            f"Leave out {', '.join(given)}.",
        )
    if type(request.data) is np.ndarray and not request.top and request.batch_size is None:
        outputs = predictor.array(request.data)
        if outputs is not None and (not request.probabilities or "probabilities" in outputs):
            return Prediction(model=predictor.ref, columns=outputs)
    source = open_source(request.data, request.csv)
    blank: list[int] = []
    assumed: list[str] = []
    gathered = gather(predictor.chunks(source, request, blank.append, assumed.append), source.rows, progress)
    cautions = tuple(dict.fromkeys(assumed))
    return Prediction(model=predictor.ref, columns=predictor.named(gathered), blank=sum(blank), cautions=cautions)
