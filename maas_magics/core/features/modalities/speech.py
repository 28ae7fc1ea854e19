"""Recordings that are heard from beginning to end, however long they are: what a network writes down is in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from maas_magics.api.errors import DataError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data import media
from maas_magics.core.data.arrow import Array
from maas_magics.core.features import sounds
from maas_magics.core.features.file_columns import FileFeature, FileProfile
from maas_magics.core.features.heard import RecordingMel
from maas_magics.core.features.modalities import Modality, modalities
from maas_magics.core.features.port import Port
from maas_magics.core.features.thumbnails import of_sound

if TYPE_CHECKING:
    from torch import nn

PLACES = 1_500
"""Of a window of Whisper's encoder, which count as tokens."""

ALONE = 8_192
"""What a recording of more than a window counts: a batch of it holds nothing else."""


class SpeechFeature(FileFeature, frozen=True, kw_only=True, tag="speech"):
    """Recordings of files, of any length, all at one rate.

    Attributes
    ----------
    rate : int
        Samples a second.
    window : int
        Samples of what the network hears at once. A shorter recording has nothing behind it.
    bands : int
        Of the mel spectrogram that the network gets, and one more of whether a frame is in the recording.
    """

    rate: int
    window: int
    bands: int

    @property
    def spec(self) -> TensorSpec:
        """Bytes of files, (n, 1)."""
        return TensorSpec(self.name, "BYTES", (-1, 1), "a recording: the bytes of its file; base64 in JSON")

    @property
    def entry(self) -> TensorSpec:
        """Samples, float32 (n, samples), NaN behind the end of a recording."""
        return TensorSpec(self.name, "FP32", (-1, -1), f"one channel, {self.rate} samples a second, NaN behind it")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row of what the network gets."""
        return self.bands + 1, -1

    @property
    def port(self) -> Port:
        """Its mel spectrogram."""
        return Port("speech", self.shape)

    def decoded(self, data: bytes) -> Array:
        """Samples, float32 (samples,)."""
        return sounds.at_rate(data, self.rate)

    @property
    def missing(self) -> Array:
        """Nothing."""
        return np.zeros(0, dtype=np.float32)

    def _stacked(self, values: list[Any], read: Callable[[Any, int], bytes]) -> Array:
        found = media.each(values, self.decoded, read, self.name, self.missing)
        made = np.full((len(found), max([self.window, *map(len, found)])), np.nan, dtype=np.float32)
        for row, samples in enumerate(found):
            made[row, : len(samples)] = samples
        return made

    def sizes(self, raw: Array) -> Array | None:
        """Places of the encoder for each recording; those of several windows are answered one by one."""
        window = self.window / self.rate
        return np.array(
            [ALONE if data and _seconds(data) > window else PLACES for data in map(media.sent_bytes, raw[:, 0])]
        )

    def module(self) -> nn.Module | None:
        """The mel spectrogram."""
        return RecordingMel(self.bands, self.rate)

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Recordings of noise."""
        found = np.empty((rows, 1), dtype=object)
        for row in range(rows):
            found[row, 0] = sounds.written(random.normal(0, 0.1, self.rate).clip(-1, 1), self.rate)
        return found


class SpeechProfile(FileProfile):
    """Refuses a training: networks that write what they hear are imported."""

    kind = "speech"

    def finish(self, sample: Any, notify: Callable[[str], None]) -> None:
        """Nothing."""
        notify(f"Column {self.name!r} holds recordings to write down, which no network here is trained for.")


def _seconds(data: bytes) -> float:
    try:
        return sounds.length(data)[0]
    except DataError:  # which is reported with its row where it is decoded
        return 0.0


modalities.register("speech")(Modality(SpeechFeature, SpeechProfile, None, sounds.check, of_sound))
