"""Columns of sounds: how they are varied in training, and pretrained networks for them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import maas_magics as maas
from maas_magics.api.errors import DataError, OptionError
from maas_magics.core.features import sounds
from maas_magics.core.features.augment import WAYS
from maas_magics.core.features.augment_sounds import masked, varied
from maas_magics.core.features.draw import Draw
from maas_magics.core.features.port import Port
from maas_magics.core.networks.encoders import SoundEncoder

N = 40


def wav(pitch: float, seconds: float = 0.3, rate: int = 16_000, **how: Any) -> bytes:
    stream = io.BytesIO()
    wave = 0.4 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    soundfile.write(stream, wave, rate, **{"format": "WAV", **how})
    return stream.getvalue()


def words(n: int = N, **how: Any) -> pd.DataFrame:
    label = np.arange(n) % 2
    return pd.DataFrame({"sound": [wav(300 + 1200 * y + i, **how) for i, y in enumerate(label)], "label": label})


def test_each_way_varies_sounds() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (5, 800)).astype(np.float32))
    for name in ("shift", "gain", "noise"):
        found = varied(x, {name: WAYS[name]}, Draw(1, range(5)))
        assert found.shape == x.shape and found.dtype == x.dtype and not torch.equal(found, x), name
        assert torch.equal(found[[3, 1]], varied(x[[3, 1]], {name: WAYS[name]}, Draw(1, [3, 1])))
    louder = varied(x, {"gain": 6.0}, Draw(1, range(5)))
    decibels = 20 * torch.log10(louder.norm(dim=1) / x.norm(dim=1))
    assert decibels.abs().max() <= 6 and decibels.std() > 0.5
    noisy = varied(x, {"noise": 0.1}, Draw(1, range(5))) - x
    assert float(noisy.square().mean().sqrt()) < 0.1 * float(x.square().mean().sqrt())
    moved = varied(x, {"shift": 0.1}, Draw(1, range(5)))
    assert all(0 < (row == 0).sum() <= 81 for row in moved)
    hidden = masked(torch.ones(5, 40, 60), {"mask": 0.3}, Draw(1, range(5)))
    bands, frames = (hidden.mean(2) == 0).sum(1), (hidden.mean(1) == 0).sum(1)
    assert bands.max() <= 13 and frames.max() <= 19 and bands.sum() and frames.sum()


def test_sounds_are_augmented_in_training(store: Path) -> None:
    plain = maas.train("word", words(), "label", epochs=2, seed=1)
    asked: dict[str, Any] = {"epochs": 2, "seed": 1, "augment": "shift,noise,gain,mask"}
    found = maas.train("word", words(), "label", **asked)
    assert found.history["loss"] != plain.history["loss"]
    assert found.history == maas.train("word", words(), "label", **asked).history
    with pytest.raises(OptionError, match="No column can be augmented by 'flip'"):
        maas.train("word", words(), "label", augment="flip,shift")


def saved(folder: Path, model: Any, extractor: Any) -> Path:
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


@pytest.fixture
def wav2vec2(tmp_path: Path) -> Path:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(16, 16, 16),
        conv_stride=(5, 4, 4), conv_kernel=(10, 8, 4), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    torch.manual_seed(0)
    return saved(tmp_path / "wav2vec2", Wav2Vec2Model(config), Wav2Vec2FeatureExtractor())


@pytest.fixture
def whisper(tmp_path: Path) -> Path:
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    config = WhisperConfig(
        d_model=24, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, vocab_size=60, max_source_positions=1500, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    return saved(tmp_path / "whisper", WhisperModel(config), WhisperFeatureExtractor())


@pytest.mark.parametrize("name", ["wav2vec2", "whisper"])
def test_a_pretrained_folder_of_sounds_is_fine_tuned(name: str, store: Path, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    trained = maas.train("word", words(), "label", model=f"hf:{folder}", epochs=3, lr=2e-3)
    assert trained.info.architecture == "hf" and np.isfinite(trained.history["loss"]).all()
    plain = np.asarray(maas.predict("word", words(8))["probability_1"])
    assert maas.export("word").verification.max_abs_diff < 1e-4
    np.testing.assert_allclose(np.asarray(maas.predict("word", words(8))["probability_1"]), plain, atol=1e-4)


def feature_of(folder: Path, rows: pd.DataFrame) -> Any:
    import pyarrow as pa

    from maas_magics.core.features.fitting import FitConfig
    from maas_magics.core.features.modalities.audio import AudioProfile
    from maas_magics.core.networks.hub import open_folder
    from maas_magics.core.networks.kinds import asked_of, kind_of

    opened = open_folder(str(folder))
    assert kind_of(opened) == "audio"
    table = pa.table({"sound": rows.sound})
    profile = AudioProfile(table.schema.field("sound"), FitConfig("ports", given={"audio": asked_of(opened, "audio")}))
    return profile.finish(table.column("sound"), lambda text: None), opened.config


def test_samples_and_vectors_are_those_of_wav2vec2(wav2vec2: Path) -> None:
    from transformers import AutoModel, Wav2Vec2FeatureExtractor

    from maas_magics.core.networks.pretrained_audio import PretrainedSound

    rows = words(3, seconds=0.4)
    rows.at[1, "sound"] = wav(700, 0.25)  # a shorter one has zeros behind it
    feature, config = feature_of(wav2vec2, rows)
    entered = torch.from_numpy(np.stack([feature.decoded(data) for data in rows.sound]))
    plain = [soundfile.read(io.BytesIO(data), dtype="float32")[0] for data in rows.sound]
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(wav2vec2)
    found = feature.module()(entered)
    model, ours = (
        AutoModel.from_pretrained(wav2vec2).eval(),
        PretrainedSound(feature.port, config, str(wav2vec2)).eval(),
    )
    ours.initialise()
    for place, samples in enumerate(plain):  # each by itself, as it is asked by a pipeline
        wanted = extractor(samples, sampling_rate=16_000, return_tensors="pt")["input_values"]
        torch.testing.assert_close(found[place : place + 1, : wanted.shape[1]], wanted, atol=1e-4, rtol=1e-4)
        assert not found[place, wanted.shape[1] :].any()
        if place != 1:
            with torch.inference_mode():
                states = model(wanted).last_hidden_state
                torch.testing.assert_close(ours(found)[[place]], states.mean(1), atol=1e-4, rtol=1e-4)


def test_spectrogram_and_vectors_are_those_of_whisper(whisper: Path) -> None:
    from transformers import AutoModel, WhisperFeatureExtractor

    from maas_magics.core.networks.pretrained_audio import PretrainedSound

    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    soundfile.write(stream, rng.normal(0, 0.1, 30 * 16_000).clip(-1, 1), 16_000, "PCM_16", format="WAV")
    rows = pd.DataFrame({"sound": [wav(440, 2.0), stream.getvalue()]})
    feature, config = feature_of(whisper, rows)
    assert feature.samples == 480_000
    plain = [soundfile.read(io.BytesIO(data), dtype="float32")[0] for data in rows.sound]
    wanted = WhisperFeatureExtractor.from_pretrained(whisper)(plain, sampling_rate=16_000, return_tensors="pt")
    entered = torch.from_numpy(np.stack([feature.decoded(data) for data in rows.sound]))
    found = feature.module()(entered)
    assert found.shape == wanted["input_features"].shape
    torch.testing.assert_close(found, wanted["input_features"], atol=2e-3, rtol=0)
    model = AutoModel.from_pretrained(whisper).get_encoder().eval()
    ours = PretrainedSound(feature.port, config, str(whisper)).eval()
    ours.initialise()
    with torch.inference_mode():
        theirs = model(wanted["input_features"]).last_hidden_state.mean(1)
        torch.testing.assert_close(ours(found), theirs, atol=1e-2, rtol=0)


def test_a_sound_is_shown_as_waveform_and_spectrogram_and_played(store: Path) -> None:
    from PIL import Image

    rows = words()
    maas.train("word", rows, "label", epochs=1)
    found = maas.show("word", rows)
    assert len(found.examples) == 12
    for one in found.examples:
        assert Image.open(io.BytesIO(one.image)).size == (192, 96)
        assert sounds.is_sound(one.audio[:64]) and abs(sounds.length(one.audio)[0] - 0.3) < 0.2
        assert len(one.audio) < 20_000
    assert found._repr_html_().count("<audio") == 12
    wrong = maas.evaluate("word", rows.assign(label=1 - rows.label))
    assert wrong.worst and all(one.audio for one in wrong.worst)


SINE = 0.4 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16_000)


def file_of(samples: Any, rate: int = 16_000, **how: Any) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, **{"format": "WAV", **how})
    return stream.getvalue()


KINDS = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM")


@pytest.mark.parametrize("kind", KINDS)
def test_sounds_of_every_coding_are_heard(kind: str) -> None:
    found = sounds.decoded(file_of(SINE, subtype=kind), 16_000, 8_000)
    assert found.dtype == np.float32 and abs(float(np.abs(found).max()) - 0.4) < 0.02


@pytest.mark.parametrize(
    ("data", "loud"),
    [
        (file_of(np.stack([SINE, SINE], 1)[:4000], 8_000), 0.4),
        (file_of(np.stack([SINE] * 8, 1), 48_000), 0.4),
        (file_of(SINE, 192_000), 0.4),
        (file_of(SINE[:0]), 0.0),
        (file_of(SINE[:1]), 0.0),
        (file_of(0 * SINE), 0.0),
        (file_of(SINE) + b"x" * 500, 0.4),
    ],
)
def test_odd_sounds_are_heard(data: bytes, loud: float) -> None:
    for start in (False, True):
        found = sounds.decoded(data, 16_000, 8_000, start)
        assert found.shape == (8_000,) and abs(float(np.abs(found).max()) - loud) < 0.03


def changed(data: bytes, at: int, by: bytes) -> bytes:
    return data[:at] + by + data[at + len(by) :]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a sound"),
        (b"\0\1" * 4000, "not a sound"),
        (file_of(np.where(np.arange(8000) == 5, np.nan, SINE), subtype="FLOAT"), "not numbers"),
        (file_of(np.where(np.arange(8000) == 5, np.inf, SINE), subtype="FLOAT"), "not numbers"),
        (file_of(SINE)[:9000], "cut off: 9,000 of 16,044 bytes"),
        (file_of(SINE, format="AIFF")[:9000], "cut off: 9,000"),
        (file_of(SINE, format="FLAC")[:3000], "cannot be decoded|not a sound"),
        (changed(file_of(SINE), 24, b"\0\0\0\0"), "not a sound"),
        (changed(file_of(SINE), 22, b"\0\0"), "not a sound"),
        (file_of(SINE, 3), "lasts 2,667 s; 600 s at most"),
        (changed(file_of(SINE, format="FLAC"), 22, b"\xff\xff\xff\xff"), "at most are decoded"),
    ],
)
def test_what_is_no_sound_is_told(data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        sounds.decoded(data, 16_000, 8_000)
    assert caught.value.hint


def test_channels_count_before_a_sound_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "MOST_SAMPLES", 30_000)
    assert sounds.heard(file_of(SINE))[0].shape == (8_000,)
    with pytest.raises(DataError, match="8,000 samples of 4 channels; 30,000 at most"):
        sounds.heard(file_of(np.stack([SINE] * 4, 1)))


def test_damaged_sounds_end_in_a_sound_or_an_error_of_ours() -> None:
    rng, heard = np.random.default_rng(0), 0
    for kind in ("WAV", "FLAC", "OGG"):
        whole = np.frombuffer(file_of(SINE, format=kind), dtype=np.uint8)
        for _ in range(60):
            data = whole.copy()
            data[rng.integers(0, len(data), rng.integers(1, 12))] = rng.integers(0, 256)
            cut = data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data
            try:
                heard += sounds.decoded(cut.tobytes(), 16_000, 8_000).shape == (8_000,)
            except DataError as error:
                assert error.message and error.hint
    assert heard > 30


def test_bands_are_told_apart_and_what_a_room_adds_is_taken_off() -> None:
    older, newer = (SoundEncoder(Port("audio", (20, 30), banded=banded)).eval() for banded in (False, True))
    assert older.size == 128 and newer.size == 128 * 3 + 20
    mel = torch.randn(4, 20, 30)
    room = torch.randn(4, 20, 1)
    with torch.no_grad():
        one, other = newer(mel), newer(mel + room)
        assert older(mel).shape == (4, 128) and one.shape == (4, newer.size)
    torch.testing.assert_close(one[:, :-20], other[:, :-20], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(other[:, -20:] - one[:, -20:], room.squeeze(2), atol=1e-5, rtol=1e-4)
