"""Sounds of files as arrays: one channel, at one rate."""

from __future__ import annotations

import io

import numpy as np

from maas_magics.api.errors import DataError, require
from maas_magics.core.data.arrow import Array

AUGMENTS = ("shift", "gain", "noise", "mask")
"""Ways in which sounds may be varied for training."""

MOST_SECONDS = 600.0
"""Of a sound, before it is decoded."""

MOST_SAMPLES = 64_000_000
"""Of all channels of a sound, before it is decoded."""


SILENCE = 1e-30
"""What stands for the last sample of a sound that ends in silence, so that it is told from the padding behind it."""


def is_sound(head: bytes) -> bool:
    """Whether a file is a sound, by how it begins."""
    return (
        (head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE")
        or head.startswith((b"fLaC", b"OggS", b"ID3"))
        or (head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"))
        or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2)  # a frame of MPEG audio, layer 3
    )


def length(data: bytes) -> tuple[float, int]:
    """Seconds of a sound, and samples a second.

    Raises
    ------
    DataError
        If it is none, or too long.
    """
    require("soundfile", "soundfile", "Sounds", "maas-magics[audio]")
    import soundfile

    told = int.from_bytes(data[4:8], "big" if data[:4] == b"FORM" else "little")
    if data[:4] in (b"RIFF", b"FORM") and len(data) < told + 8 < 2**32 - 1:  # the largest is told where nobody knew
        raise DataError(f"The sound is cut off: {len(data):,} of {told + 8:,} bytes are there.", "Save it anew.")
    try:
        found = soundfile.info(io.BytesIO(data))
    except (soundfile.SoundFileError, RuntimeError):
        raise DataError("This is not a sound that can be read.", "WAV, FLAC, OGG, MP3 and AIFF are read.") from None
    seconds = found.frames / found.samplerate
    if seconds > MOST_SECONDS:
        raise DataError(f"The sound lasts {seconds:,.0f} s; {MOST_SECONDS:,.0f} s at most are decoded.", "Cut it.")
    if found.frames * found.channels > MOST_SAMPLES:
        many = f"{found.frames:,} samples of {found.channels} channels"
        raise DataError(f"The sound holds {many}; {MOST_SAMPLES:,} at most are decoded.", "Cut it, or lower its rate.")
    return seconds, int(found.samplerate)


def decoded(data: bytes, rate: int, samples: int, start: bool = False) -> Array:
    """A sound, float32 (samples,): the mean of its channels at another rate, its middle, or zeros around it.

    Parameters
    ----------
    data : bytes
        Of the file.
    rate : int
        Samples a second.
    samples : int
        How many there are; of a longer sound the middle.
    start : bool
        Whether a shorter one has zeros behind it only, and the beginning of a longer one is taken.

    Raises
    ------
    DataError
        If it cannot be decoded, or holds a value that is not a number.
    """
    made = at_rate(data, rate)
    spare = samples - len(made)
    if start:
        made = made[:samples]
        if len(made) and not made[-1]:  # a network takes zeros at the end for padding, and a silence is none
            made = np.append(made[:-1], np.float32(SILENCE))
        return np.pad(made, (0, max(0, spare))).astype(np.float32, copy=False)
    if spare < 0:
        return np.ascontiguousarray(made[-spare // 2 :][:samples])
    return np.pad(made, (spare // 2, spare - spare // 2)).astype(np.float32, copy=False)


def at_rate(data: bytes, rate: int) -> Array:
    """All of a sound at another rate, the mean of its channels, float32 (n,).

    Parameters
    ----------
    data : bytes
        Of the file.
    rate : int
        Samples a second.

    Raises
    ------
    DataError
        If it cannot be decoded, or holds a value that is not a number.
    """
    made, came = heard(data)
    if came != rate and len(made):
        require("soxr", "soxr", "Sounds at another rate", "maas-magics[audio]")
        import soxr

        made = soxr.resample(made, came, rate)
        _check_finite(made)  # what is near the end of float32 may have come beyond it
    return made.astype(np.float32, copy=False)


def written(samples: Array, rate: int) -> bytes:
    """A WAV file of 16 bits.

    Parameters
    ----------
    samples : ndarray, shape (n,)
        Within −1…1.
    rate : int
        Samples a second.
    """
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, "PCM_16", format="WAV")
    return stream.getvalue()


def heard(data: bytes) -> tuple[Array, int]:
    """Samples of a sound, the mean of its channels, float32 (n,), and how many a second there are.

    Raises
    ------
    DataError
        If it cannot be decoded, or holds a value that is not a number.
    """
    import soundfile

    length(data)
    try:
        values, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise DataError(f"The sound cannot be decoded: {_first(error)}", "Leave it out, or save it anew.") from None
    made = values.mean(axis=1)
    _check_finite(made)
    return made, int(rate)


def check(data: bytes) -> None:
    """Raise `DataError` for a sound that cannot be decoded."""
    heard(data)


def _check_finite(samples: Array) -> None:
    if not np.isfinite(samples).all():
        raise DataError("The sound holds values that are not numbers.", "Leave it out, or save it anew.")


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
