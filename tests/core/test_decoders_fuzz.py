"""Bytes of any kind, and files that were damaged: what decodes them answers, or says in two lines why not.

``MAAS_FUZZ=2000`` tries as many of each.
"""

from __future__ import annotations

import io
import os
import resource
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maas_magics.api.errors import MaasError
from maas_magics.core.features.modalities.audio import AudioFeature
from maas_magics.core.features.modalities.image import ImageFeature
from maas_magics.core.features.modalities.speech import SpeechFeature
from maas_magics.core.features.modalities.text import TextFeature
from maas_magics.core.features.tokens import train_tokenizer

soundfile = pytest.importorskip("soundfile")

EXAMPLES = int(os.environ.get("MAAS_FUZZ", "60"))
KILOBYTES = 700 * 1024
"""By which the most memory that this process took may grow."""

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::RuntimeWarning")
"""Of damaged metadata, which is not looked at."""

ANY = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def picture(form: str, mode: str) -> bytes:
    stream = io.BytesIO()
    shades = np.random.default_rng(0).integers(0, 255, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(shades).convert(mode).save(stream, form)
    return stream.getvalue()


def sound(form: str, kind: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, 0.3 * np.sin(np.arange(4_000) / 9), 8_000, kind, format=form)
    return stream.getvalue()


PICTURES = [picture(form, mode) for form, mode in (("PNG", "RGB"), ("PNG", "P"), ("JPEG", "RGB"), ("GIF", "P"),
            ("BMP", "L"), ("TIFF", "RGB"), ("WEBP", "RGB"))]  # fmt: skip
SOUNDS = [sound("WAV", "PCM_16"), sound("WAV", "FLOAT"), sound("FLAC", "PCM_16"), sound("AIFF", "PCM_16")]


@st.composite
def damaged(draw: Any, files: list[bytes]) -> bytes:
    """A file of which bytes are changed, left out, doubled or cut off."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(("change", "header", "drop", "double", "cut")))
        if how == "change" and data:
            data[place] = draw(st.integers(0, 255))
        elif how == "header" and data:  # where sizes, rates and counts stand
            data[min(place, 63) % len(data)] = draw(st.sampled_from((0, 1, 127, 128, 254, 255)))
        elif how == "drop":
            del data[place : place + draw(st.integers(1, 64))]
        elif how == "double":
            data[place:place] = data[place : place + draw(st.integers(1, 64))]
        else:
            del data[max(1, place) :]
    return bytes(data)


def tried(decode: Callable[[bytes], Any], data: bytes) -> Any:
    """What a decoder makes of bytes; None where it says in two lines why it does not."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        found = decode(data)
    except MaasError as error:
        assert error.message and len(str(error).splitlines()) <= 2
        found = None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KILOBYTES
    return found


@ANY
@given(st.one_of(st.binary(max_size=2_000), damaged(PICTURES)))
def test_pictures(data: bytes) -> None:
    feature = ImageFeature("picture", channels=3, height=8, width=8, mean=(0.0,) * 3, std=(1.0,) * 3)
    found = tried(feature.decoded, data)
    assert found is None or (found.shape, found.dtype) == ((3, 8, 8), np.uint8)


@ANY
@given(st.one_of(st.binary(max_size=2_000), damaged(SOUNDS)))
def test_sounds(data: bytes) -> None:
    found = tried(AudioFeature("sound", rate=8_000, samples=2_000).decoded, data)
    assert found is None or (found.shape == (2_000,) and np.isfinite(found).all())
    whole = tried(SpeechFeature("sound", rate=16_000, window=32_000, bands=8).decoded, data)
    assert whole is None or (whole.ndim == 1 and np.isfinite(whole).all())


def test_a_sound_that_is_loud_beyond_numbers_is_refused() -> None:
    """Samples near the end of float32, which were infinite at another rate."""
    stream = io.BytesIO()
    loud = np.where(np.arange(4_000) // 7 % 2, 3.3e38, -3.3e38).astype(np.float32)
    soundfile.write(stream, loud, 8_000, "FLOAT", format="WAV")
    assert tried(SpeechFeature("sound", rate=16_000, window=32_000, bands=8).decoded, stream.getvalue()) is None


TEXT = TextFeature("text", tokenizer=train_tokenizer(["some words to begin with", "and others"], 60), size=60)


@ANY
@given(st.lists(st.one_of(st.text(max_size=200), st.binary(max_size=200)), min_size=1, max_size=4))
def test_texts(values: list[str | bytes]) -> None:
    raw = np.array(values, dtype=object).reshape(-1, 1)
    found = tried(lambda _: TEXT.enter(raw), b"")
    assert found is None or (found.shape[0] == len(values) and found.min() >= 0 and found.max() < TEXT.size)
    texts = [value for value in values if isinstance(value, str)]
    if texts:
        table = pa.chunked_array([pa.array([text.encode(errors="replace").decode() for text in texts])])
        assert len(TEXT.encode(table)) == len(texts)
