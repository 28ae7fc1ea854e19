"""Sounds: files of any rate and length, which a network hears at one rate and of one length."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from maas_magics.api.signature import TensorSpec
from maas_magics.core.data import media
from maas_magics.core.data.arrow import Array, tensors
from maas_magics.core.features import mel, sounds
from maas_magics.core.features.base import Feature, FitConfig, Port, Tell
from maas_magics.core.features.modalities import Modality, modalities

if TYPE_CHECKING:
    from torch import nn

RATE = 16_000
"""Samples a second that are heard at most."""

LONGEST = 10.0
"""Seconds that are heard at most of a sound."""

BANDS = 64
"""Of a mel spectrogram."""

ASKED = 500
"""Sounds whose rate and length are looked at."""

KEPT = 512 * 2**20
"""Bytes up to which decoded sounds are kept while they are trained on; beyond, each epoch decodes them again."""


class AudioFeature(Feature, frozen=True, kw_only=True, tag="audio"):
    """Sounds of files, all heard at one rate and of one length.

    Attributes
    ----------
    rate : int
        Samples a second.
    samples : int
        Of each sound; a shorter one has silence around it, of a longer one the middle is heard.
    bands : int
        Of the mel spectrogram that the network gets.
    """

    rate: int
    samples: int
    bands: int = BANDS

    lazy: ClassVar[bool] = True
    hosted: ClassVar[bool] = True
    binary: ClassVar[bool] = True
    may_be_blank: ClassVar[bool] = True

    @property
    def spec(self) -> TensorSpec:
        """Bytes of files, (n, 1)."""
        return TensorSpec(self.name, "BYTES", (-1, 1), "a sound: the bytes of its file; base64 in JSON")

    @property
    def entry(self) -> TensorSpec:
        """Samples, float32 (n, samples)."""
        return TensorSpec(self.name, "FP32", (-1, self.samples), f"one channel, {self.rate} samples a second")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row of the spectrogram."""
        return self.bands, mel.frames(self.samples, self.rate)

    @property
    def port(self) -> Port:
        """Its mel spectrogram."""
        return Port("audio", self.shape)

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Bytes of files, object (n, 1)."""
        return media.objects(values, self.name)

    def enter(self, raw: Array) -> Array:
        """Samples, float32 (n, samples)."""
        return self._stacked(raw.ravel().tolist(), lambda value, row: media.sent_bytes(value))

    def ready(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """Samples, where they are not large; else the media."""
        if 4 * len(values) * self.samples > KEPT or not len(values):
            return values
        found = self._stacked(values.to_pylist(), lambda value, row: media.file_bytes(value, self.name, row))
        return pa.chunked_array([media.tensor_array(found)])

    def entered(self, ready: pa.ChunkedArray) -> Array:
        """Samples of some rows."""
        if isinstance(ready.type, pa.FixedShapeTensorType):
            return tensors(ready)
        return self._stacked(ready.to_pylist(), lambda value, row: media.file_bytes(value, self.name, row))

    def _stacked(self, values: list[Any], read: Any) -> Array:
        silence = np.zeros(self.samples, dtype=np.float32)
        found = media.each(values, lambda data: sounds.decoded(data, self.rate, self.samples), read, self.name, silence)
        return np.stack(found) if found else np.zeros((0, self.samples), dtype=np.float32)

    def blank(self, raw: Array) -> Array:
        """Rows without a file, bool (n,)."""
        return np.array([not value for value in raw[:, 0]], dtype=bool)

    def module(self) -> nn.Module:
        """The mel spectrogram."""
        return mel.LogMel(self.rate, self.bands)

    def kept(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """The bytes of the media."""
        return media.kept(values, self.name)

    def example(self, rows: int) -> Array:
        """Sounds of noise."""
        return self.drawn(rows, np.random.default_rng(0))

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Sounds of noise."""
        import soundfile

        found = np.empty((rows, 1), dtype=object)
        for row in range(rows):
            stream = io.BytesIO()
            soundfile.write(stream, random.normal(0, 0.1, self.samples).clip(-1, 1), self.rate, "PCM_16", format="WAV")
            found[row, 0] = stream.getvalue()
        return found


class AudioProfile:
    """Fits `AudioFeature` to a column that was declared to hold sounds.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        May bring the rate that a pretrained network was trained with.
    """

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        self.name = field.name
        self._given: dict[str, Any] = dict(fit.given.get("audio", {}))

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """Only what was declared."""
        return False

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""

    def _read(self, value: Any, row: int) -> bytes:
        return media.file_bytes(value, self.name, row)

    def merge(self, other: Self) -> None:
        """Take in what was found in other rows."""

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> AudioFeature | None:
        """What the column is."""
        step = max(1, len(sample) // ASKED)
        few = [
            value
            for value in (sample[row].as_py() for row in range(0, len(sample), step))
            if not media.is_missing(value)
        ]
        if not few:
            notify(f"Column {self.name!r} is empty and is left out.")
            return None
        found = media.each(few, sounds.length, self._read, self.name, (0.0, 0))
        lengths = np.array([seconds for seconds, _ in found])
        rate = int(self._given.get("rate", 0)) or min(RATE, max(each for _, each in found))
        longest = min(LONGEST, max(float(lengths.max()), 2 * mel.WINDOW))
        if cut := int((lengths > longest).sum()):
            notify(
                f"Column {self.name!r}: {cut / len(lengths):.0%} of the sounds last longer than {longest:g} s; "
                "the middle is heard."
            )
        return AudioFeature(self.name, rate=rate, samples=round(longest * rate))


def recognise(values: pa.ChunkedArray) -> str:
    """Why a column holds sounds: its first files begin as sounds do; empty where they do not."""
    heads = media.first_bytes(values, media.SOUNDS)
    return "holds sounds" if heads and all(map(sounds.is_sound, heads)) else ""


modalities.register("audio")(Modality(AudioFeature, AudioProfile, recognise))
