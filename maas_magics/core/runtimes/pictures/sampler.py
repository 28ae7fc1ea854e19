"""From noise to a picture, step by step along the velocities that a network answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.core.data.arrow import Array
from maas_magics.core.runtimes import Choice

STEPS, GUIDANCE = 8, 2.0
"""Of a picture, where nothing is said."""

MOST_STEPS = 100

RANGES = {"steps": (1, MOST_STEPS), "guidance": (0.0, 20.0), "seed": (-(2**63), 2**64 - 1), "every": (0, MOST_STEPS)}


class PictureParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a picture is drawn.

    Attributes
    ----------
    steps : int
        Passes of the network from noise to the picture.
    guidance : float
        How much farther each step goes the way that the caption points, compared with none (Ho & Salimans 2022); 1
        goes as far as the network says, 0 leaves the caption out.
    seed : int or None
        Of the noise: the same picture for the same seed.
    every : int
        Steps after which the picture is shown as far as it can be foreseen; 0 shows the last one alone.
    """

    steps: int = STEPS
    guidance: float = GUIDANCE
    seed: int | None = None
    every: int = 0


class Fed(NamedTuple):
    """What the next pass starts from.

    Attributes
    ----------
    noisy : ndarray, float32, shape (channels, height, width)
    time : float
    guidance : float
    """

    noisy: Array
    time: float
    guidance: float


def parsed(params: Mapping[str, Any]) -> PictureParams:
    """Parameters of a request, checked.

    Parameters
    ----------
    params : mapping of str to Any
        Some of those of `PictureParams`; None stands for one that is left out.

    Raises
    ------
    OptionError
        If one is not known, or out of range.
    """
    given = {name: value for name, value in params.items() if value is not None}
    unknown = next((name for name in given if name not in PictureParams.__struct_fields__), None)
    if unknown is not None:
        raise OptionError(
            f"There is no parameter {unknown!r} of a picture.", did_you_mean(unknown, PictureParams.__struct_fields__)
        )
    try:
        found = msgspec.convert(given, PictureParams, strict=True)
    except msgspec.ValidationError as error:
        raise OptionError(f"A parameter of the picture is not valid: {error}.", "steps=8, guidance=2, seed=1") from None
    for name, (least, most) in RANGES.items():
        value = getattr(found, name)
        if value is not None and not least <= value <= most:
            raise OptionError(f"{name} is {value:g}; {least:g} to {most:g} was expected.", f"{name}={max(least, 1):g}")
    return found


class PictureSampler:
    """Follows the velocities of one picture in equal steps (Liu et al. 2023, Euler's method).

    Parameters
    ----------
    shape : tuple of int
        (channels, height, width).
    params : mapping of str to Any
        See `PictureParams`.
    """

    def __init__(self, shape: tuple[int, int, int], params: Mapping[str, Any]) -> None:
        self._params, self._done = parsed(params), 0
        seed = self._params.seed
        random = np.random.default_rng(None if seed is None else seed % 2**64)
        self._noisy: Array = random.standard_normal(shape).astype(np.float32)

    def choose(self, output: Array) -> Choice:
        """Go one step along a velocity; of nothing, begin.

        Parameters
        ----------
        output : ndarray, float32, shape (channels, height, width) or (0,)
            What `PictureSession.step` gave.
        """
        steps, delta = self._params.steps, None
        if output.size:
            left = 1 - self._done / steps
            self._done += 1
            foreseen = self._noisy + left * output
            self._noisy = self._noisy + output / np.float32(steps)
            if self._done == steps:
                return Choice(None, pixels(foreseen), "stop")
            if self._params.every and self._done % self._params.every == 0:
                delta = pixels(foreseen)
        return Choice(Fed(self._noisy, self._done / steps, self._params.guidance), delta)


def pixels(picture: Array) -> Array:
    """A picture of values within −1…1, uint8 (height, width), or (height, width, 3).

    Parameters
    ----------
    picture : ndarray, shape (channels, height, width)
        What is beyond that range is cut.
    """
    made = np.round((np.clip(picture, -1, 1) + 1) * 127.5).astype(np.uint8)
    return made[0] if len(made) == 1 else np.ascontiguousarray(made.transpose(1, 2, 0))
