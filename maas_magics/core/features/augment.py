"""Training rows that are varied anew in each epoch, as was declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.core.features.base import Feature
from maas_magics.core.features.draw import Draw
from maas_magics.core.features.processor import Processor

WAYS: Mapping[str, float] = {
    "flip": 0.5,
    "crop": 0.3,
    "rotate": 10.0,
    "color": 0.3,
    "erase": 0.25,
    "shift": 0.1,
    "gain": 6.0,
    "noise": 0.1,
    "mask": 0.2,
}
"""Ways to vary a row, with their usual strengths.

Pictures: ``flip`` is the probability of left and right changing places; ``crop`` the largest share of the area that is
cut away; ``rotate`` degrees; ``color`` the change of brightness, contrast and saturation; ``erase`` the largest share
of the area that a grey rectangle covers. Sounds: ``shift`` is a share of their length; ``gain`` decibels; ``noise`` a
share of their loudness; ``mask`` the largest share of a spectrogram's frames, and of its bands, that is silenced.
"""


def parsed(words: Iterable[str]) -> dict[str, float]:
    """Ways to vary rows, with their strengths.

    Parameters
    ----------
    words : iterable of str
        ``"flip"`` or ``"flip,crop=0.5"``.

    Raises
    ------
    OptionError
        If there is no such way, or its strength is none.
    """
    found: dict[str, float] = {}
    for word in (part.strip() for text in words for part in str(text).split(",")):
        name, _, strength = (part.strip() for part in word.partition("="))
        if not name:
            continue
        if name not in WAYS:
            raise OptionError(f"There is no way {name!r} to augment rows.", did_you_mean(name, WAYS))
        try:
            found[name] = float(strength) if strength else WAYS[name]
        except ValueError:
            found[name] = -1.0
        most = 1.0 if WAYS[name] < 1 else 180.0
        if not 0 < found[name] <= most:
            raise OptionError(
                f"{word!r}: a strength above 0, of {most:g} at most, was expected.", f"{name}={WAYS[name]:g}"
            )
    return found


def check_taken(how: Mapping[str, float], processor: Processor) -> None:
    """Raise where no column takes a way of being varied.

    Raises
    ------
    OptionError
    """
    takes = {name for feature in processor.features for name in feature.augments}
    strange = next((name for name in how if name not in takes), None)
    if strange is not None:
        kinds = ", ".join(sorted(takes, key=list(WAYS).index)) or "none: no column holds pictures or sounds"
        raise OptionError(f"No column can be augmented by {strange!r}.", f"What there is to choose from: {kinds}.")


class Augmentation:
    """Varies what enters the graph of some columns, and what comes out of it.

    Parameters
    ----------
    processor : Processor
        The fitted columns.
    how : mapping of str to float
        See `parsed`.
    """

    def __init__(self, processor: Processor, how: Mapping[str, float]) -> None:
        self._features, self._how = processor.features, how
        alone = processor.layout in ("raw", "image")
        self._by_themselves = [feature for feature in self._features if alone or not feature.joins]
        self._first = 0 if alone else 2
        """Place of the first of them among what the network gets."""

    def entering(self, entered: Sequence[Tensor], seed: int, rows: Sequence[int]) -> tuple[Tensor, ...]:
        """What enters the graph, varied."""
        found = list(entered)
        for place, feature in enumerate(self._features):
            if feature.augments:
                found[place] = feature.varied(found[place], self._how_of(feature), Draw(seed, rows, feature.name))
        return tuple(found)

    def made(self, made: Sequence[Tensor], seed: int, rows: Sequence[int]) -> tuple[Tensor, ...]:
        """What the network gets, varied."""
        found = list(made)
        for place, feature in enumerate(self._by_themselves, self._first):
            if feature.augments:
                draw = Draw(seed, rows, feature.name)
                found[place] = feature.varied_after(found[place], self._how_of(feature), draw)
        return tuple(found)

    def masks(self, target: Tensor, seed: int, rows: Sequence[int]) -> Tensor:
        """Masks (n, positions, or one more), varied as the pictures that they are of."""
        feature = next(one for one in self._features if one.masked)
        height, width = feature.shape[1:]
        positions = height * width
        laid = target[:, :positions].reshape(-1, 1, height, width)
        varied = feature.varied_mask(laid, self._how_of(feature), Draw(seed, rows, feature.name))
        return torch.cat([varied.reshape(len(target), -1).to(target.dtype), target[:, positions:]], 1)

    def _how_of(self, feature: Feature) -> dict[str, float]:
        return {name: most for name, most in self._how.items() if name in feature.augments}
