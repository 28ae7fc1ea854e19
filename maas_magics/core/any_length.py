"""Modules that take rows of another length than they were trained on, found by trying."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from maas_magics.api.signature import Signature
from maas_magics.core.data.arrow import Array
from maas_magics.core.model import Model


def opened(model: Model, raw: Sequence[Array]) -> Model | None:
    """The model for rows of any length; None where its network does not take them.

    Its answer to a row must not have another shape then: a label at each place has its places.

    Parameters
    ----------
    model : Model
    raw : sequence of ndarray
        Some rows, of the length in training.
    """
    features = model.processor.features
    lengths = {feature.length() for feature in features} - {0}
    if model.processor.layout != "raw" or len(lengths) != 1 or not len(raw[0]):
        return None
    length = lengths.pop()
    places = [place for place, feature in enumerate(features) if feature.length(sure=False) == length]
    try:
        expected = model.run(raw)
        if any(model.run(other).shape != expected.shape for other in _resized(raw, places, length)):
            return None
    except Exception:  # whatever a module raises that takes no other length
        return None
    found = tuple(feature.opened() if place in places else feature for place, feature in enumerate(features))
    processor = msgspec.structs.replace(model.processor, features=found)
    info = model.manifest.info
    signature = Signature(processor.specs, info.signature.outputs)
    info = msgspec.structs.replace(info, signature=signature)
    return Model(msgspec.structs.replace(model.manifest, info=info), processor, model.net)


def other_lengths(model: Model, raw: Sequence[Array]) -> Iterator[list[Array]]:
    """The same rows shorter and longer, where the model takes any length; none else."""
    features = model.processor.features
    places = [place for place, feature in enumerate(features) if 1 in feature.spec.open_axes]
    usual = {feature.example_row[0] for place, feature in enumerate(features) if place in places}
    if len(usual) == 1 and all(raw[place].shape[1] in usual for place in places):
        yield from _resized(raw, places, usual.pop())


def _resized(raw: Sequence[Array], places: Sequence[int], length: int) -> Iterator[list[Array]]:
    for size in (length - 1, length + 3):
        yield [_of_length(values, size) if place in places else values for place, values in enumerate(raw)]


def _of_length(values: Array, size: int) -> Array:
    """Rows cut, or begun anew, (n, size, …)."""
    times = -(-size // values.shape[1])
    return np.ascontiguousarray(np.concatenate([values] * times, axis=1)[:, :size])
