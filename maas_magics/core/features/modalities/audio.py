"""Sounds: files of any rate and length, which a network hears at one rate and of one length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from maas_magics.api.signature import TensorSpec
from maas_magics.core.data import media
from maas_magics.core.data.arrow import Array
from maas_magics.core.features import mel, sounds
from maas_magics.core.features.file_columns import FileFeature, FileProfile
from maas_magics.core.features.fitting import Tell
from maas_magics.core.features.heard import HOP, WINDOW, KaldiMel, Standardised, WhisperMel
from maas_magics.core.features.modalities import Modality, modalities
from maas_magics.core.features.port import Port
from maas_magics.core.features.thumbnails import of_sound

if TYPE_CHECKING:
    from torch import Tensor, nn

    from maas_magics.core.features.draw import Draw

RATE = 16_000
"""Samples a second that are heard at most."""

LONGEST = 10.0
"""Seconds that are heard at most of a sound."""

BANDS = 64
"""Of a mel spectrogram."""

ASKED = 500
"""Sounds whose rate and length are looked at."""


class AudioFeature(FileFeature, frozen=True, kw_only=True, tag="audio"):
    """Sounds of files, all heard at one rate and of one length.

    Attributes
    ----------
    rate : int
        Samples a second.
    samples : int
        Of each sound; a shorter one has silence around it, of a longer one the middle is heard.
    bands : int
        Of the mel spectrogram that the network gets.
    form : {"mel", "whisper", "fbank", "samples", "standardised"}
        What the network gets: a mel spectrogram, that of Whisper or of Kaldi, samples, or those of mean 0 and
        variance 1.
    start : bool
        Whether a shorter sound has silence behind it only, and the beginning of a longer one is heard.
    level : tuple of float
        What is taken off the spectrogram of Kaldi, and what it is divided by.
    """

    rate: int
    samples: int
    bands: int = BANDS
    form: Literal["mel", "whisper", "fbank", "samples", "standardised"] = "mel"
    start: bool = False
    level: tuple[float, float] = (0.0, 1.0)
    banded: bool = False
    """Whether a network from scratch tells bands apart; those of older models do not."""

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
        """Of a row of what the network gets."""
        if self.form in ("samples", "standardised"):
            return (self.samples,)
        if self.form == "fbank":
            return 1 + (self.samples - WINDOW) // HOP, self.bands
        return self.bands, self.samples // HOP if self.form == "whisper" else mel.frames(self.samples, self.rate)

    @property
    def port(self) -> Port:
        """Its mel spectrogram, or its samples."""
        return Port("audio", self.shape, banded=self.banded)

    def decoded(self, data: bytes) -> Array:
        """Samples, float32 (samples,)."""
        return sounds.decoded(data, self.rate, self.samples, self.start)

    @property
    def missing(self) -> Array:
        """Silence."""
        return np.zeros(self.samples, dtype=np.float32)

    def module(self) -> nn.Module | None:
        """The mel spectrogram, or what else the network gets."""
        if self.form == "samples":
            return None
        if self.form == "standardised":
            return Standardised()
        if self.form == "whisper":
            return WhisperMel(self.bands, self.rate)
        if self.form == "fbank":
            return KaldiMel(self.bands, self.rate, *self.level)
        return mel.LogMel(self.rate, self.bands)

    @property
    def augments(self) -> tuple[str, ...]:
        """Those of sounds."""
        return sounds.AUGMENTS if len(self.shape) > 1 else sounds.AUGMENTS[:-1]

    def varied(self, entered: Tensor, how: Mapping[str, float], draw: Draw) -> Tensor:
        """Sounds, varied."""
        from maas_magics.core.features.augment_sounds import varied

        return varied(entered, how, draw)

    def varied_after(self, made: Tensor, how: Mapping[str, float], draw: Draw) -> Tensor:
        """Spectrograms, some of whose frames and bands are hidden."""
        from maas_magics.core.features.augment_sounds import masked

        return masked(made, how, draw)

    @property
    def reader(self) -> str:
        """Samples of sounds, of one length."""
        long = f"values[: {self.samples}]" if self.start else f"values[max(0, -spare) // 2 :][: {self.samples}]"
        before = "0" if self.start else "max(0, spare) // 2"
        ends = f"        values[-1:][values[-1:] == 0] = {sounds.SILENCE}\n" if self.start else ""
        return (
            "def READ(files):\n"
            "    found = []\n"
            "    for data in files:\n"
            '        values, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)\n'
            f"        values = soxr.resample(values.mean(axis=1), rate, {self.rate})\n"
            f"        spare = {self.samples} - len(values)\n"
            f"        values, before = {long}, {before}\n"
            f"{ends}"
            f"        found.append(np.pad(values, (before, {self.samples} - len(values) - before)))\n"
            "    return np.array(found, dtype=np.float32)\n"
        )

    @property
    def reader_imports(self) -> tuple[str, ...]:
        """What decodes and resamples sounds."""
        return ("import io", "import soundfile", "import soxr")

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Sounds of noise."""
        found = np.empty((rows, 1), dtype=object)
        for row in range(rows):
            found[row, 0] = sounds.written(random.normal(0, 0.1, self.samples).clip(-1, 1), self.rate)
        return found


class AudioProfile(FileProfile):
    """Fits `AudioFeature` to a column that was declared to hold sounds."""

    kind = "audio"

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> AudioFeature | None:
        """What the column is."""
        few = list(self._some(sample, ASKED, notify).values())
        if not few:
            return None
        found = media.each(few, sounds.length, self._read, self.name, (0.0, 0))
        lengths = np.array([seconds for seconds, _ in found])
        rate = int(self._given.get("rate", 0)) or min(RATE, max(each for _, each in found))
        longest = min(self._given.get("longest", LONGEST), max(float(lengths.max()), 2 * mel.WINDOW))
        if cut := int((lengths > longest).sum()):
            notify(
                f"Column {self.name!r}: {cut / len(lengths):.0%} of the sounds last longer than {longest:g} s; "
                f"the {'beginning' if self._given.get('start') else 'middle'} is heard."
            )
        samples = round(longest * rate)
        if self._given.get("form") == "whisper":
            samples = -(-samples // (2 * HOP)) * 2 * HOP
        others = {name: self._given[name] for name in ("bands", "form", "start") if name in self._given}
        return AudioFeature(self.name, rate=rate, samples=samples, banded=True, **others)


def recognise(values: pa.ChunkedArray) -> str:
    """Why a column holds sounds: most of its first files begin as sounds do; empty where they do not."""
    heads = media.first_bytes(values, media.SOUNDS)
    return "holds sounds" if media.are_most(map(sounds.is_sound, heads)) else ""


modalities.register("audio")(Modality(AudioFeature, AudioProfile, recognise, sounds.check, of_sound))
