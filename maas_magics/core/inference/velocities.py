"""What a model that draws pictures makes of noisy ones, beside what it should: how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.sources import open_source
from maas_magics.core.features.captions import caption_column, captions_of, check_there, pictures_of
from maas_magics.core.features.modalities.text import TextFeature
from maas_magics.core.features.noisy import Captioned
from maas_magics.core.model import Model
from maas_magics.core.tasks.denoising import Denoising

AT_ONCE = 256
"""Noisy pictures that are answered at a time."""


@torch.inference_mode()
def velocities(
    model: Model,
    data: Any,
    target: str | None,
    csv: str | None,
    run: Callable[[Sequence[Array]], Array] | None = None,
) -> tuple[Tensor, Tensor, int]:
    """Velocities that a model answers, and those that are right, (n, numbers), and how many rows they are of.

    Noise and times are the same for the same number of rows.

    Parameters
    ----------
    model : Model
        Of the task denoising.
    data : Any
        Rows of a picture and its caption.
    target : str or None
        Column of the pictures; the one that the model learnt from when None.
    csv : str or None
        How CSV files are written.
    run : callable, optional
        What answers in place of the model, as an export of it does, from ids, pictures and times.

    Raises
    ------
    DataError
        If they are not pictures with captions, or of another size.
    """
    task, feature = model.manifest.answers, model.processor.features[0]
    if type(task) is not Denoising or not isinstance(feature, TextFeature):
        raise DataError("Only a model that was trained here to draw pictures is scored on them.", "--model flow")
    table, picture = open_source(data, csv).table(), target or task.names[0]
    check_there(table, picture)
    caption = task.caption if task.caption in table.column_names else caption_column(table, None, picture)
    _, height, width = task.axes
    texts, pixels = captions_of(table.column(caption)), pictures_of(table.column(picture), picture, None, _unsaid)
    if pixels.shape[1:] != task.axes:
        raise DataError(
            f"The pictures have the shape {pixels.shape[1:]}; the model draws {task.axes}.",
            f"Give pictures of {height} × {width} pixels.",
        )
    words = feature.enter(np.array(texts, dtype=object).reshape(-1, 1))
    inputs, wanted = Captioned(torch.from_numpy(words), torch.from_numpy(pixels), feature.padding).measured(0)
    if run is not None:
        given = zip(*(torch.split(x, AT_ONCE) for x in inputs[2:]), strict=True)
        found = [torch.from_numpy(run([x.numpy() for x in part])) for part in given]
        return torch.cat(found).flatten(1), wanted, len(texts)
    device = next(model.net.parameters()).device
    parts = zip(*(torch.split(x, AT_ONCE) for x in inputs), strict=True)
    return torch.cat([model.net(*(x.to(device) for x in part)).cpu() for part in parts]), wanted, len(texts)


def _unsaid(text: str) -> None:
    """What was said in training is not said again."""
