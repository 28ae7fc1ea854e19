"""Small pictures of pictures and sounds, for people to look at; and short sounds to listen to."""

from __future__ import annotations

import io

import numpy as np

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array
from maas_magics.core.features import pictures, sounds

SIDE = 128
"""Pixels of the longer side of a picture."""

LEAST = 6
"""Numbers on each side of an array from which it is taken for a picture."""

ACROSS, WAVE, BANDS = 192, 32, 64
"""Pixels of the picture of a sound: its width, the height of its waveform, and of its spectrogram."""

SECONDS, RATE = 5.0, 16_000
"""Of a sound that is listened to."""

Shown = tuple[bytes, bytes]
"""A picture as JPEG or PNG, and a sound as MP3; the latter is empty for pictures."""

COLOURS = ((230, 85, 13), (49, 130, 189), (49, 163, 84), (158, 84, 200), (240, 196, 25), (0, 170, 170))
"""Of the classes of a mask."""

BLUE = 76, 120, 168
RAMP = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))
"""Colours from silence to the loudest; about matplotlib's *magma*."""


def of_picture(data: bytes) -> Shown:
    """A picture of a file.

    Raises
    ------
    DataError
        If it cannot be decoded.
    """
    height, width, _ = pictures.sides(data)
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return _saved(pictures.decoded(data, *size, 3, whole=True).transpose(1, 2, 0), "JPEG"), b""


def of_array(values: Array, lowest: float | None = None, highest: float | None = None) -> Shown | None:
    """A picture of an array of two or three axes, its numbers spread from black to white; None of other arrays.

    Parameters
    ----------
    values : ndarray, shape (height, width), (channels, height, width) or (height, width, channels)
        Numbers.
    lowest, highest : float, optional
        What is black and what is white; the lowest and the highest of them.
    """
    if values.ndim == 3 and pictures.channels_last(values.shape):
        values = values.transpose(2, 0, 1)
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or min(values.shape[1:]) < LEAST or max(values.shape[1:]) > 2048:
        return None
    values = np.asarray(values[:3] if len(values) >= 3 else values[:1], dtype=np.float64)
    lowest = float(values.min()) if lowest is None else lowest
    highest = float(values.max()) if highest is None else highest
    spread = np.clip((values - lowest) / ((highest - lowest) or 1.0) * 255, 0, 255).astype(np.uint8)
    times = max(1, 64 // max(spread.shape[1:]))
    large = spread.repeat(times, axis=1).repeat(times, axis=2)
    return _saved(large[0] if len(large) == 1 else large.transpose(1, 2, 0), "PNG"), b""


def overlaid(picture: bytes, mask: Array) -> bytes:
    """A small picture with a mask over its middle: each class but the most frequent one in a colour.

    Parameters
    ----------
    picture : bytes
        Of its file.
    mask : ndarray, shape (height, width)
        Class of each pixel.
    """
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as found:
        seen = np.asarray(found.convert("RGB"), dtype=np.float64)
    tall, wide = seen.shape[:2]
    height, width = mask.shape
    scale = min(tall / height, wide / width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (tall - size[0]) // 2, (wide - size[1]) // 2
    rows = np.minimum((np.arange(size[0]) / scale).astype(int), height - 1)
    columns = np.minimum((np.arange(size[1]) / scale).astype(int), width - 1)
    large = mask[rows][:, columns]
    classes, counts = np.unique(mask, return_counts=True)
    part = seen[top : top + size[0], left : left + size[1]]
    for label in sorted(set(classes.tolist()) - {classes[counts.argmax()]}):
        there = large == label
        part[there] = 0.45 * part[there] + 0.55 * np.array(COLOURS[int(label) % len(COLOURS)])
    return _saved(seen.round().astype(np.uint8), "PNG")


def of_sound(data: bytes) -> Shown:
    """The waveform of a sound over its spectrogram, and its beginning to listen to.

    Raises
    ------
    DataError
        If it cannot be decoded.
    """
    import soundfile

    seconds, _ = sounds.length(data)
    samples = sounds.decoded(data, RATE, max(round(min(seconds, 60.0) * RATE), 4 * ACROSS), start=True)
    stream = io.BytesIO()
    try:
        soundfile.write(stream, samples[: round(SECONDS * RATE)].clip(-1, 1), RATE, format="MP3")
    except (soundfile.SoundFileError, ValueError):  # a libsndfile that writes none
        stream = io.BytesIO()
    return _saved(np.concatenate([_waveform(samples), _spectrogram(samples)]), "PNG"), stream.getvalue()


def _waveform(samples: Array) -> Array:
    """Lowest to highest sample of each column of pixels, uint8 (height, width, 4)."""
    parts = np.array_split(samples / max(float(np.abs(samples).max(initial=0)), 1e-6), ACROSS)
    low, high = np.array([part.min() for part in parts]), np.array([part.max() for part in parts])
    at = 1 - 2 * (np.arange(WAVE)[:, None] + 0.5) / WAVE
    there = (at >= low - 1 / WAVE) & (at <= high + 1 / WAVE)
    colour = np.broadcast_to(np.array(BLUE, np.uint8), (*there.shape, 3))
    return np.concatenate([colour, there[..., None] * np.uint8(255)], 2)


def _spectrogram(samples: Array) -> Array:
    """Loudness by time and frequency, uint8 (height, width, 4)."""
    import torch

    from maas_magics.core.features.mel import LogMel

    with torch.inference_mode():
        found = LogMel(RATE, BANDS)(torch.from_numpy(samples)[None])
        found = torch.nn.functional.interpolate(found, size=ACROSS, mode="linear")[0]
    loud = found.numpy()[::-1]
    share = (loud - loud.min()) / ((loud.max() - loud.min()) or 1.0)
    ramp, steps = np.array(RAMP), np.linspace(0, 1, len(RAMP))
    colours = np.stack([np.interp(share, steps, ramp[:, channel]) for channel in range(3)], 2)
    return np.concatenate([colours, np.full((*share.shape, 1), 255.0)], 2).astype(np.uint8)


def _saved(pixels: Array, kind: str) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"quality": 80} if kind == "JPEG" else {"optimize": True}))
    return stream.getvalue()


def tried(show: object, value: object) -> Shown | None:
    """What shows a value; None where it cannot be shown."""
    try:
        return show(value) if callable(show) else None
    except DataError:
        return None
