"""What a sampler hands to a network, beside what a row holds: a noisy picture, and how far it has come."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import OptionError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array, tensors
from maas_magics.core.features.base import Feature
from maas_magics.core.features.fitting import FitConfig, Tell
from maas_magics.core.features.mismatch import mismatch
from maas_magics.core.features.modalities import Modality, modalities
from maas_magics.core.features.port import Port


class LatentFeature(Feature, frozen=True, kw_only=True, tag="latent"):
    """Numbers of a sampler, float32 (n, …).

    Attributes
    ----------
    row : tuple of int
        Shape of a row: of a picture, (channels, height, width), of its time, (1,).
    picture : bool
        Whether it becomes the picture that is answered.
    drawn_as : tuple of int
        Shape of that picture, where it is decoded into another one.
    """

    row: tuple[int, ...]
    picture: bool = False
    drawn_as: tuple[int, ...] = ()

    sampled: ClassVar[bool] = True

    @property
    def spec(self) -> TensorSpec:
        """Numbers, (n, …)."""
        meaning = "a noisy picture, within about -3 and 3" if self.picture else "its time: 0 is noise, 1 the picture"
        return TensorSpec(self.name, "FP32", (-1, *self.row), meaning)

    @property
    def port(self) -> Port:
        """The numbers."""
        return Port("latent", self.row)

    @property
    def answer(self) -> TensorSpec | None:
        """Pictures, uint8 (n, height, width), with an axis of three colours behind where they have such."""
        if not self.picture:
            return None
        channels, height, width = self.drawn_as or self.row
        return TensorSpec("prediction", "UINT8", (-1, height, width, *((channels,) if channels > 1 else ())), PICTURE)

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Numbers, float32 (n, …)."""
        if not isinstance(values.type, pa.FixedShapeTensorType) or tuple(values.type.shape) != self.row:
            raise mismatch(self.name, str(values.type), f"arrays of shape {self.row}", "A sampler gives these.")
        return tensors(values).astype(np.float32, copy=False)

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Noise; of a time, numbers between 0 and 1."""
        found = random.normal(size=(rows, *self.row)) if self.picture else random.random((rows, *self.row))
        return found.astype(np.float32)


PICTURE = "a picture, 0 to 255"
"""Meaning of an answer that is one."""


class LatentProfile:
    """Refuses a column that was declared to be of this kind: a task says what is sampled.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        What it is fitted for.
    """

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        raise OptionError(f"--feature {field.name}=latent is what a sampler hands on.", "--model flow draws pictures.")

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """No column."""
        return False

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""

    def merge(self, other: Self) -> None:
        """Take in what was found in other rows."""

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> LatentFeature | None:
        """Nothing."""


modalities.register("latent")(Modality(LatentFeature, LatentProfile))
