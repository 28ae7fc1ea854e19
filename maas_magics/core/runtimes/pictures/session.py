"""Pictures that are drawn at once: one pass of the network takes a step of each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.modalities.text import TextFeature
from maas_magics.core.runtimes.pictures.sampler import Fed, PictureSampler

SLOTS = 16
"""Pictures at a time; with guidance each takes two rows of a pass."""

BEGUN = np.zeros(0, dtype=np.float32)
"""Output of the first pass of a picture, in which its noise is taken."""

Denoise: TypeAlias = Callable[[Sequence[Array]], Array]
"""From ids of captions, noisy pictures and their times to velocities, (n, channels, height, width)."""


class PictureState:
    """One picture: the ids of its caption, and where it stands.

    Parameters
    ----------
    ids : ndarray, int64, shape (tokens,)
        Of its caption.
    """

    def __init__(self, ids: Array) -> None:
        self.ids, self.fed = ids, None
        self.size = len(ids)
        """Tokens of the caption."""

    fed: Fed | None

    def feed(self, value: Fed) -> None:
        """Take what the sampler made of the last pass."""
        self.fed = value

    def close(self) -> None:
        """Nothing is kept elsewhere."""


class PictureSession:
    """An open model that draws pictures.

    Parameters
    ----------
    feature : TextFeature
        How captions become tokens.
    shape : tuple of int
        (channels, height, width).
    denoise : callable
        A pass of the network.
    """

    slots = SLOTS

    def __init__(self, feature: TextFeature, shape: tuple[int, int, int], denoise: Denoise) -> None:
        self.feature, self.shape, self._denoise = feature, shape, denoise
        self.nothing: Array = np.zeros(0, dtype=np.int64)
        """Ids of no caption."""
        self.least = 1
        """Tokens that are handed on at least, those of padding included."""

    def sampler(self, params: Mapping[str, Any]) -> PictureSampler:
        """A sampler for one picture.

        Parameters
        ----------
        params : mapping of str to Any
            See `maas_magics.core.runtimes.pictures.sampler.PictureParams`.
        """
        return PictureSampler(self.shape, params)

    def start(self, inputs: Sequence[Array]) -> PictureState:
        """Begin a picture of a caption.

        Parameters
        ----------
        inputs : sequence of ndarray, shape (1, 1)
            The caption.

        Raises
        ------
        DataError
            If it has more tokens than the network reads.
        """
        text = inputs[0].reshape(-1)[0]
        raw = np.array([[text.decode(errors="replace") if isinstance(text, bytes) else str(text)]], dtype=object)
        if self.feature.cut(raw):
            most = self.feature.longest
            raise DataError(f"The caption has more than {most} tokens, which the model reads.", "Give a shorter one.")
        return PictureState(self.feature.enter(raw)[0])

    def step(self, states: Sequence[Any]) -> Sequence[Array]:
        """A velocity for each picture that has begun, and nothing for the others.

        Parameters
        ----------
        states : sequence of PictureState
            At most ``slots``.
        """
        going = [state for state in states if state.fed is not None]
        found = dict(zip(map(id, going), self._velocities(going), strict=True)) if going else {}
        return [found.get(id(state), BEGUN) for state in states]

    def _velocities(self, states: Sequence[PictureState]) -> list[Array]:
        """Velocities by the captions, and farther from those without, in one pass."""
        fed = [state.fed for state in states if state.fed is not None]
        by_caption = [place for place, one in enumerate(fed) if one.guidance != 0]
        without = [place for place, one in enumerate(fed) if one.guidance != 1]
        rows = [*by_caption, *without]
        width = max([self.least, *(len(states[place].ids) for place in by_caption)])
        words = np.full((len(rows), width), self.feature.padding, dtype=np.int64)
        for row, place in enumerate(by_caption):
            words[row, : len(states[place].ids)] = states[place].ids
        words[len(by_caption) :, : len(self.nothing)] = self.nothing
        noisy = np.stack([fed[place].noisy for place in rows])
        times = np.array([[fed[place].time] for place in rows], dtype=np.float32)
        made = self._denoise([words, noisy, times])
        found: list[Array] = [np.zeros(0)] * len(fed)
        for row, place in enumerate(by_caption):
            found[place] = made[row]
        for row, place in enumerate(without, len(by_caption)):
            guidance = np.float32(fed[place].guidance)
            found[place] = made[row] + guidance * (found[place] - made[row]) if guidance else made[row]
        return found
