"""Folders of transformers that give sounds a label become models: their answers are those of the pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_transcription import RATE, wav

import maas_magics as maas
from maas_magics.api.errors import ModelError
from maas_magics.api.events import Message

pytest.importorskip("soundfile")

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SAMPLES = {**SMALL, "conv_dim": [8, 8], "conv_kernel": [10, 80], "conv_stride": [5, 64], "classifier_proj_size": 16,
           "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 2,
           "initializer_range": 0.4}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "group": ("wav2vec2", {**SAMPLES, "feat_extract_norm": "group"}),
    "layer": ("wav2vec2", {**SAMPLES, "feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "hubert": ("hubert", {**SAMPLES, "feat_extract_norm": "group"}),
    "whisper": ("whisper", {"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
                            "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 50,
                            "max_source_positions": 100, "classifier_proj_size": 16, "pad_token_id": 0,
                            "bos_token_id": 1, "eos_token_id": 2, "init_std": 0.4}),
    "fbank": ("audio-spectrogram-transformer", {**SMALL, "max_length": 200, "num_mel_bins": 64,
                                                "initializer_range": 0.4}),
}  # fmt: skip
LABELS = {0: "yes", 1: "no", 2: "stop"}


def folder_of(place: Path, kind: str, **more: Any) -> Path:
    import transformers

    name, sizes = KINDS[kind]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        name, **sizes, id2label=LABELS, label2id={v: k for k, v in LABELS.items()}
    )
    transformers.AutoModelForAudioClassification.from_config(config).save_pretrained(place)
    if kind == "whisper":
        made: Any = transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=2)
    elif kind == "fbank":
        made = transformers.ASTFeatureExtractor(num_mel_bins=64, max_length=200)
    else:
        made = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=kind == "layer", **more)
    made.save_pretrained(place)
    return place


def ending_in_silence(data: bytes) -> bytes:
    """A sound and half a second of zeros, which are of the recording and no padding."""
    import io

    import soundfile

    samples = soundfile.read(io.BytesIO(data), dtype="float32")[0] if data else np.zeros(0, dtype=np.float32)
    stream = io.BytesIO()
    soundfile.write(stream, np.append(samples, np.zeros(RATE // 2, dtype=np.float32)), RATE, format="WAV")
    return stream.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_those_of_the_pipeline(kind: str, tmp_path: Path, store: Path) -> None:
    import io

    import soundfile
    from transformers import pipeline

    folder = folder_of(tmp_path / kind, kind)
    info = maas.import_model(str(folder), "heard")
    said = [event.text for event in maas.logs("heard") if isinstance(event, Message)]
    assert said == [f"It hears the first { {'whisper': '2', 'fbank': '2.02'}.get(kind, '20') } s of a sound."]
    assert (info.task, info.classes) == ("multiclass", ("yes", "no", "stop"))
    sounds = [
        wav(0.7, 0),
        wav(1.5, 1),
        wav(2.6, 2),
        wav(0.1, 3),
        ending_in_silence(wav(0.7, 4)),
        ending_in_silence(b""),
    ]
    ask = pipeline("audio-classification", str(folder), device="cpu")
    wanted = []
    for data in sounds:
        found = ask({"raw": soundfile.read(io.BytesIO(data), dtype="float32")[0], "sampling_rate": RATE}, top_k=None)
        wanted.append([next(one["score"] for one in found if one["label"] == label) for label in info.classes])
    assert np.ptp(wanted, axis=0).max() > 0.01

    def check() -> None:
        found = maas.predict("heard", pd.DataFrame({"sound": sounds}))
        given = np.stack([np.asarray(found[f"probability_{label}"]) for label in info.classes], 1)
        np.testing.assert_allclose(given, wanted, atol=1e-3)

    check()
    assert maas.export("heard").verification.max_abs_diff < 1e-4
    check()


def test_what_is_prepared_in_another_way_is_refused(tmp_path: Path, store: Path) -> None:
    folder = folder_of(tmp_path / "w", "group")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": "sew", "architectures": ["SEWForSequenceClassification"]})
    )
    with pytest.raises(ModelError, match="holds a network 'sew', of which it is not known"):
        maas.import_model(str(folder), "heard")
    ast = folder_of(tmp_path / "a", "fbank")
    known = json.loads((ast / "preprocessor_config.json").read_text())
    (ast / "preprocessor_config.json").write_text(json.dumps({**known, "sampling_rate": 8_000}))
    with pytest.raises(ModelError, match="hears 8,000 samples a second"):
        maas.import_model(str(ast), "heard")
