"""Whisper in a folder of transformers becomes a model: its texts, words and seconds are those of transformers."""

from __future__ import annotations

import base64
import io
import json
import warnings
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import pytest
import torch

import maas_magics as maas
from maas_magics.api.errors import DataError, ExportError, ModelError, OptionError
from maas_magics.api.requests import GenerateRequest, ImportRequest, PredictRequest
from maas_magics.core.networks.hub import OFFERED
from maas_magics.core.tasks.errors_of_words import distance
from maas_magics.core.tasks.written import words_of
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client

soundfile = pytest.importorskip("soundfile")

SAID = ["good morning to all of you", "how are you, my friend?", "the weather is fine today", "héllo wörld — ça va?"]
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|translate|>", "<|startofprev|>",
           "<|nospeech|>", "<|notimestamps|>"]  # fmt: skip
RATE = 16_000


def wav(seconds: float, seed: int, rate: int = RATE, channels: int = 1) -> bytes:
    """A chirp with noise."""
    random = np.random.default_rng(seed)
    at = np.arange(int(seconds * rate)) / rate
    tone = 0.4 * np.sin(2 * np.pi * (200 + 300 * seed + 40 * at) * at)
    values = np.stack([tone + random.normal(0, 0.02, len(at))] * channels, 1)
    stream = io.BytesIO()
    soundfile.write(stream, values, rate, "PCM_16", format="WAV")
    return stream.getvalue()


def whisper(place: Path, *, heads: bool = True, window: int = 100) -> Path:
    """A folder with a Whisper of random weights that hears two seconds at once, and its tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(SAID, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet))
    vocabulary = made.get_vocab()
    merges = [tuple(pair) for pair in json.loads(made.to_str())["model"]["merges"]]
    known = WhisperTokenizer(vocab=vocabulary, merges=merges, unk_token="<|endoftext|>", bos_token="<|endoftext|>",
                             eos_token="<|endoftext|>", pad_token="<|endoftext|>")  # fmt: skip
    known.add_special_tokens({"additional_special_tokens": SPECIAL[1:]})
    known.add_tokens([f"<|{0.02 * step:.2f}|>" for step in range(window + 1)])
    ids = {token: known.convert_tokens_to_ids(token) for token in SPECIAL}
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(known), num_mel_bins=80, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
        max_source_positions=window, max_target_positions=40, init_std=0.4,
        pad_token_id=ids["<|endoftext|>"], bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"], begin_suppress_tokens=[ids["<|endoftext|>"]],
    )  # fmt: skip
    net = WhisperForConditionalGeneration(config)
    net.generation_config = GenerationConfig(
        max_length=30, eos_token_id=ids["<|endoftext|>"], pad_token_id=ids["<|endoftext|>"],
        bos_token_id=ids["<|endoftext|>"], decoder_start_token_id=ids["<|startoftranscript|>"],
        no_timestamps_token_id=ids["<|notimestamps|>"], prev_sot_token_id=ids["<|startofprev|>"],
        is_multilingual=True, lang_to_id={"<|en|>": ids["<|en|>"]}, max_initial_timestamp_index=window // 2,
        task_to_id={"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        begin_suppress_tokens=[ids["<|endoftext|>"]], suppress_tokens=[],
        **({"alignment_heads": [[0, 0], [1, 1]]} if heads else {}),
    )  # fmt: skip
    net.save_pretrained(place)
    known.save_pretrained(place)
    WhisperFeatureExtractor(feature_size=80, chunk_length=window // 50).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper(tmp_path_factory.mktemp("whisper"))


def pipeline(folder: Path, data: bytes, timed: Any = False) -> Any:
    """What the pipeline of transformers answers, the likeliest token each time; it hears more at once by its times."""
    from transformers import pipeline

    values, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    ask = pipeline("automatic-speech-recognition", str(folder), device="cpu")
    long = len(values) / rate > ask.feature_extractor.chunk_length
    with warnings.catch_warnings(action="ignore"):
        return ask({"raw": values.mean(1), "sampling_rate": rate}, return_timestamps=timed or long,
                   generate_kwargs={"num_beams": 1, "do_sample": False})  # fmt: skip


SOUNDS = [wav(1.5, 0), wav(2.0, 1), wav(0.4, 2), wav(4.3, 3), wav(3.1, 4), wav(1.0, 5, 8_000, 2)]
"""Shorter than what is heard at once, as long, longer; of another rate, and of two channels."""


def test_texts_are_those_of_transformers(folder: Path, store: Path) -> None:
    info = maas.import_model(str(folder), "whisper")
    assert (info.ref, info.task, info.architecture) == ("whisper:1", "transcription", "hf")
    assert [(spec.name, spec.datatype) for spec in info.signature.inputs] == [("sound", "BYTES")]
    assert [(spec.name, spec.datatype) for spec in info.signature.outputs] == [("prediction", "BYTES")]
    found = maas.predict("whisper", pd.DataFrame({"sound": SOUNDS}))
    assert list(found) == ["prediction"]
    wanted = [pipeline(folder, data)["text"].strip() for data in SOUNDS[:5]]
    assert list(found["prediction"])[:5] == wanted and len(set(wanted)) > 2
    for text, alone in zip(found["prediction"], SOUNDS, strict=True):
        assert maas.predict("whisper", {"sound": [alone]})["prediction"][0] == text
    paths = []
    for place, data in enumerate(SOUNDS[:2]):
        paths.append(str(store.parent / f"{place}.wav"))
        Path(paths[-1]).write_bytes(data)
    assert list(maas.predict("whisper", {"sound": paths})["prediction"]) == wanted[:2]
    for one in (SOUNDS[1], paths[1], Path(paths[1])):
        assert list(maas.predict("whisper", one)) == wanted[1:2]
    assert list(maas.predict("whisper", SOUNDS[:2])) == wanted[:2]
    (chunk,) = maas.generate("whisper", {"sound": SOUNDS[3]})  # longer than what is heard at once
    assert chunk.finish == "stop" and chunk.delta == wanted[3]
    (chunk,) = maas.generate("whisper", {"sound": SOUNDS[:2]})  # a table of rows, and not one of them
    assert chunk.finish == "stop" and list(chunk.delta["prediction"]) == wanted[:2]
    truth = ["a b c", *wanted[1:5], "so it is"]
    rows = pd.DataFrame({"sound": SOUNDS, "said": truth})
    scored = maas.evaluate("whisper", rows, "said").values
    words = [distance(text.split(), said.split()) for text, said in zip(found["prediction"], truth, strict=True)]
    assert scored["wer"] == pytest.approx(sum(words) / sum(len(said.split()) for said in truth))
    assert maas.evaluate("whisper", rows[1:5], "said").values == {"wer": 0.0, "cer": 0.0}


def test_a_text_arrives_token_by_token(folder: Path, store: Path) -> None:
    maas.import_model(str(folder), "whisper")
    wanted = list(maas.predict("whisper", {"sound": SOUNDS[:3]})["prediction"])
    for data, text in zip(SOUNDS, wanted, strict=False):
        *chunks, last = maas.generate("whisper", {"sound": data})
        assert "".join(chunk.delta for chunk in [*chunks, last] if chunk.delta) == text
        assert last.finish == "stop" and last.usage is not None and last.usage.steps > len(chunks) > 3
        assert [chunk.index for chunk in (*chunks, last)] == list(range(len(chunks) + 1))
    cut = list(maas.generate("whisper", SOUNDS[1], max_steps=5))
    assert cut[-1].finish == "length" and cut[-1].usage is not None and cut[-1].usage.steps == 5
    assert wanted[1].startswith("".join(chunk.delta or "" for chunk in cut).rstrip("\ufffd"))
    stream = maas.generate("whisper", SOUNDS[1])
    next(stream)
    stream.close()
    assert "".join(chunk.delta or "" for chunk in maas.generate("whisper", SOUNDS[0])) == wanted[0]
    with pytest.raises(DataError, match="not a sound"):
        maas.generate("whisper", {"sound": b"nothing of the kind"})
    with pytest.raises(OptionError, match="takes no parameters"):
        maas.generate("whisper", {"sound": SOUNDS[0]}, params={"temperature": 0.5})


def test_what_cannot_be_is_said(folder: Path, store: Path, tmp_path: Path) -> None:
    maas.import_model(str(folder), "whisper")
    with pytest.raises(ExportError, match="whisper:1 has no export: It writes token after token"):
        maas.export("whisper")
    with pytest.raises(DataError, match="row 1: This is not a sound"):
        maas.predict("whisper", {"sound": [SOUNDS[0], b"nothing of the kind"]})
    with pytest.raises(OptionError, match="this model answers texts"):
        maas.predict("whisper", {"sound": SOUNDS[:1]}, probabilities=True)
    with pytest.raises(DataError, match="not a text a row"):
        maas.evaluate("whisper", {"sound": SOUNDS[:2], "said": [1, 2]}, "said")
    silent = maas.predict("whisper", pd.DataFrame({"sound": [SOUNDS[0], None]}))
    assert silent["prediction"][1] == ""
    with pytest.raises(OptionError, match="is not trained|No network is trained"):
        maas.train("said", data={"sound": SOUNDS, "said": SAID[:1] * 6}, target="said", task="transcription")
    plain = whisper(tmp_path / "plain", heads=False)
    known = json.loads((plain / "generation_config.json").read_text())
    (plain / "generation_config.json").write_text(json.dumps({**known, "no_timestamps_token_id": None}))
    (plain / "tokenizer.json").write_text((plain / "tokenizer.json").read_text().replace('"ByteLevel"', '"Metaspace"'))
    with pytest.raises(ModelError, match="not byte-level BPE"):
        maas.import_model(str(plain), "plain")


def test_a_service_answers_the_same(folder: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "service"))
    monkeypatch.setenv(OFFERED, str(folder.parent))
    from serving import Service  # type: ignore[import-not-found]

    request = ImportRequest(path=str(folder), name="whisper", kind="timed-transcription")
    asked = PredictRequest(model="whisper", data=pd.DataFrame({"sound": SOUNDS[:2]}))
    service = Service(tmp_path / "served")
    try:
        remote = RemoteBackend(Client(service.url, lambda: service.token))
        remote.submit(request).result(600)
        theirs = remote.predict(asked).columns
        remote.submit(ImportRequest(path=str(folder), name="spoken")).result(600)
        *parts, last = remote.generate(GenerateRequest(model="spoken", data={"sound": SOUNDS[0]}))
        given = {"name": "sound", "datatype": "BYTES", "shape": [1, 1], "data": [base64.b64encode(SOUNDS[0]).decode()]}
        url = f"{service.url}/v2/models/whisper/infer"
        told = httpx2.post(url, json={"inputs": [given]}, headers=service.headers, timeout=120).json()["outputs"]
    finally:
        service.stop()
    maas.import_model(str(folder), "whisper", kind="timed-transcription")
    ours = maas.predict("whisper", asked.data)
    for column in ("prediction", "words"):
        assert list(theirs[column]) == list(ours[column])
    maas.import_model(str(folder), "spoken")
    assert len(parts) > 3 and last.finish == "stop"
    text = "".join(chunk.delta or "" for chunk in (*parts, last))
    assert text == maas.predict("spoken", {"sound": SOUNDS[:1]})["prediction"][0]
    assert told[0]["data"] == [ours["prediction"][0]] and json.loads(told[1]["data"][0]) == ours["words"][0]


def test_words_are_joined_as_the_tokenizer_of_whisper_does() -> None:
    from transformers.models.whisper.tokenization_whisper import _combine_tokens_into_words

    class Letters:
        """A tokenizer of pieces."""

        def __init__(self, pieces: list[bytes]) -> None:
            self.pieces, self.eos_token_id, self.language = pieces, len(pieces), None

        def decode(self, tokens: list[int], **_: Any) -> str:
            return b"".join(self.pieces[token] for token in tokens).decode(errors="replace")

    for text in (
        " He said, “it is (so) good!” — 50 % of",
        " ça va? «oui».",
        " a-b 'quoted' end...",
        "no space 1,000.5",
    ):
        pieces = [text[at : at + 3].encode() for at in range(0, len(text), 3)] + [b" \xc3", b"\xa9t\xc3\xa9"]
        words, _, places = _combine_tokens_into_words(Letters(pieces), list(range(len(pieces))))
        made = words_of([[(piece, float(place), place + 1.0) for place, piece in enumerate(pieces)]])
        wanted = [(word.strip(), float(at[0]), at[-1] + 1.0) for word, at in zip(words, places, strict=True)]
        assert [(span["text"], span["start"], span["end"]) for span in made] == wanted
    made = words_of([[(letter.encode(), float(at), at + 1.0) for at, letter in enumerate("今日は。")]])
    assert [span["text"] for span in made] == ["今", "日", "は。"]


def test_tokens_are_those_of_generate(folder: Path, store: Path) -> None:
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    from maas_magics.core.inference.loader import Loader
    from maas_magics.core.store.models import Store

    maas.import_model(str(folder), "whisper")
    net = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    ready = WhisperFeatureExtractor.from_pretrained(folder)
    rows = [soundfile.read(io.BytesIO(data), dtype="float32")[0] for data in SOUNDS[:3]]
    given = ready(rows, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        wanted = net.generate(given.input_features, num_beams=1, do_sample=False).tolist()
    raw = np.array(SOUNDS[:3], dtype=object).reshape(-1, 1)
    made = Loader(Store(str(store))).predictor("whisper").decoded([raw])
    end = net.generation_config.eos_token_id
    tokens = [[int(token) - 1 for token in row[:, 0] if token > 0 and token - 1 != end] for row in made]
    assert [[token for token in row if token != end] for row in wanted] == tokens


@pytest.mark.parametrize("heads", [True, False])
def test_words_or_segments_have_the_seconds_of_the_pipeline(heads: bool, tmp_path: Path, store: Path) -> None:
    folder = whisper(tmp_path / "whisper", heads=heads, window=1_500)  # the pipeline's times are right of 30 s only
    info = maas.import_model(str(folder), "timed", kind="timed-transcription", column="take")
    column = "words" if heads else "segments"
    assert [spec.name for spec in info.signature.outputs] == ["prediction", column]
    sounds = SOUNDS[:4]
    found = maas.predict("timed", pd.DataFrame({"take": sounds}))
    assert list(found) == ["prediction", column]
    compared = 0
    for data, text, spans in zip(sounds, found["prediction"], found[column], strict=True):
        wanted = pipeline(folder, data, "word" if heads else True)
        assert text == wanted["text"].strip()
        told = [(*part["timestamp"], part["text"].strip()) for part in wanted["chunks"]]
        if not heads:
            told = [part for part in told if part[2]]
        # weights drawn at random say times at random, in several windows: the first one's are compared
        told = list(takewhile(lambda part: part[1] is not None and part[1] < (25 if heads else 28), told))
        spans = spans[: len(told)]
        compared += len(told)
        assert [(span["start"], span["text"]) for span in spans] == [(start, text) for start, _, text in told]
        for span, (_, end, _) in zip(spans, told, strict=True):
            assert end is None or span["end"] == pytest.approx(end, abs=0.011)
    assert compared > 3
