"""Columns that reach a network by themselves: texts, pictures, sounds, alone and beside numbers and categories."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pytest
import soundfile
from PIL import Image

import maas_magics as maas
from maas_magics.api.errors import DataError, MaasError, OptionError
from maas_magics.core.architectures import architectures
from maas_magics.core.features import pictures, sounds
from maas_magics.core.features.declared import declared, has_ports
from maas_magics.core.features.modalities import modality_of
from maas_magics.core.features.modalities.text import recognise
from maas_magics.core.features.port import Port
from maas_magics.core.features.processor import NetworkInputs
from maas_magics.core.tasks.multiclass import Multiclass

N = 120
GOOD, BAD = ["lovely", "bright", "warm", "kind", "happy"], ["dreadful", "dark", "cold", "cruel", "gloomy"]


def reviews(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, N)
    told = [
        f"i think that this film was {rng.choice(GOOD if y else BAD)} and {rng.choice(GOOD if y else BAD)} take {i}"
        for i, y in enumerate(label)
    ]
    return pd.DataFrame({"review": told, "label": label})


def png(side: int = 12, mode: str = "L", value: int = 128, kind: str = "PNG", seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 40, (side, side), dtype=np.uint8) + np.uint8(value)
    stream = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(stream, kind)
    return stream.getvalue()


def wav(pitch: float, seconds: float = 0.2, rate: int = 8000, channels: int = 1, kind: str = "WAV") -> bytes:
    stream = io.BytesIO()
    wave = 0.4 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    soundfile.write(stream, np.repeat(wave[:, None], channels, 1), rate, format=kind)
    return stream.getvalue()


def scenes() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, N)
    return pd.DataFrame(
        {
            "picture": [png(value=30 + 150 * y, seed=i) for i, y in enumerate(label)],
            "sound": [wav(300 + 900 * y) for y in label],
            "review": reviews()["review"],
            "price": rng.normal(size=N) + label,
            "shop": rng.choice(["a", "b"], N),
            "label": np.where(label == 1, "yes", "no"),
        }
    )


def right(name: str, rows: pd.DataFrame, truth: Any) -> float:
    return float((np.asarray(maas.predict(name, rows)["prediction"]) == np.asarray(truth)).mean())


@pytest.mark.parametrize("model", ["auto", "bow", "textcnn", "transformer"])
def test_texts_are_learnt_exported_and_answered(model: str, store: Path) -> None:
    rows, other = reviews(), reviews(1)
    trained = maas.train(
        "mood", rows, "label", model=model, **{} if model in ("auto", "bow") else {"epochs": 8, "lr": 5e-3}
    )
    assert trained.info.architecture == ("bow" if model == "auto" else model)
    assert [(spec.name, spec.datatype, spec.shape) for spec in trained.info.signature.inputs] == [
        ("review", "BYTES", (-1, 1))
    ]
    before = np.asarray(maas.predict("mood", other[["review"]])["probability_1"])
    assert right("mood", other[["review"]], other.label) > 0.9
    artifact = maas.export("mood")
    assert artifact.verification.max_abs_diff < 1e-4
    np.testing.assert_allclose(np.asarray(maas.predict("mood", other[["review"]])["probability_1"]), before, atol=1e-4)


def test_a_text_has_one_answer_alone_among_others_and_of_any_length(store: Path) -> None:
    rows = reviews()
    maas.train("mood", rows, "label", epochs=1)
    maas.export("mood")
    texts = ["", "good", "a " * 400, "ünïcödé 漢字 😀", rows.review[0]]
    together = np.asarray(maas.predict("mood", {"review": texts})["probability_1"])
    alone = [np.asarray(maas.predict("mood", {"review": [text]})["probability_1"])[0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.isfinite(together).all()


def test_a_bag_of_words_counts_words_beside_numbers_and_categories(store: Path) -> None:
    rows = scenes()[["review", "price", "shop", "label"]]
    trained = maas.train("m", rows, "label", model="bow", epochs=3)
    net = maas.load("m")
    assert trained.info.architecture == "bow" and sum(p.numel() for p in net.parameters()) > 65_536
    maas.export("m")
    asked = rows.drop(columns="label")
    found = maas.predict("m", asked)
    words = asked.assign(review=[" ".join(reversed(text.split())) for text in asked.review])
    alone = maas.train("alone", rows, "label", model="bow", params={"pairs": 0}, epochs=3)
    assert alone.info.architecture == "bow" and len(found) == len(rows)
    one, other = (np.asarray(maas.predict("alone", table)["probability_yes"]) for table in (asked, words))
    np.testing.assert_allclose(one, other, atol=1e-5)  # without pairs no order counts
    for options, said in (
        ({"data": scenes()}, "bow is for texts"),
        ({"params": {"pairs": -1}}, "pairs is -1"),
        ({"task": "embedding", "pairs": ("review", "shop"), "target": None}, "bow|network over texts"),
    ):
        with pytest.raises(MaasError, match=said):
            maas.train("no", **{"data": rows, "target": "label", "model": "bow", "epochs": 1} | options)


@pytest.mark.parametrize(("classes", "pairs"), [(2, 2**18), (8, 2**18), (1_000, 2_097)])
def test_a_bag_of_words_has_room_for_pairs_by_the_number_of_its_outputs(classes: int, pairs: int) -> None:
    answers = Multiclass(("y",), tuple(range(classes)))
    net = architectures.get("bow").build(NetworkInputs(ports=(Port("text", (-1,), 100),)), answers, {})
    assert net.bags[0].two.weight.shape == (pairs + 1, classes)


def test_the_file_beside_an_export_is_all_that_another_program_needs(store: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    rows = reviews()
    maas.train("mood", rows, "label", epochs=1)
    maas.export("mood", out=str(tmp_path / "out"))
    folder = next(path.parent for path in (tmp_path / "out").rglob("model.onnx"))
    known = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = rows.review[3] + " and so on" * 300  # longer than the model reads
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (entry,) = session.get_inputs()
    found = session.run(["probabilities"], {entry.name: np.array([known.encode(text).ids], dtype=np.int64)})[0]
    assert np.allclose(found[0, 1], np.asarray(maas.predict("mood", {"review": [text]})["probability_1"]), atol=1e-5)


def test_what_reads_like_sentences_is_text_and_nothing_else() -> None:
    def why(texts: list[Any]) -> str:
        return recognise(pa.chunked_array([pa.array(texts)]))

    assert why([f"what a lovely day it is today {i}" for i in range(50)])
    assert why([f"这部电影真的很好看非常喜欢{i}" for i in range(50)])
    for others in (
        [f"Braund, Mr. Owen Harris {i}" for i in range(50)],
        [f"A/5 {i}" for i in range(50)],
        ["the same few words again"] * 50,
        [f"{i}" for i in range(50)],
        [None] * 50,
        list(range(50)),
    ):
        assert not why(others)


def test_a_column_is_what_it_is_said_to_be(store: Path) -> None:
    table = pa.table({"note": [f"one of two {i % 2}" for i in range(40)], "n": list(range(40))})
    told: list[str] = []
    assert not has_ports(declared(table, {}, told.append).schema) and not told
    assert modality_of(declared(table, {"note": "text"}, told.append).schema.field("note")) == "text"
    whole = pa.table({"note": [f"a rather long text about this and that {i}" for i in range(40)]})
    assert has_ports(declared(whole, {}, told.append).schema) and "--feature note=column" in told[-1]
    assert not has_ports(declared(whole, {"note": "column"}, told.append).schema)
    for kinds, said in (({"nte": "text"}, "no column 'nte'"), ({"note": "prose"}, "'prose' is not a kind")):
        with pytest.raises(OptionError, match=said):
            declared(table, kinds, told.append)


def test_a_network_of_texts_reads_what_may_be_text(store: Path, tmp_path: Path) -> None:
    rows = pd.DataFrame({"review": ["what a joy", "what a pity"] * 30, "shop": ["a", "b", "c"] * 20, "y": [1, 0] * 30})
    for data in (rows, str(tmp_path / "rows.parquet")):
        rows.to_parquet(tmp_path / "rows.parquet")
        maas.train("mood", data, "y", model="bow", epochs=20)
        asked = pd.DataFrame({"review": ["quite a joy", "such a pity"], "shop": ["a", "a"]})
        assert maas.predict("mood", asked)["prediction"].tolist() == [1, 0]  # of words, in texts that are new
    told: list[str] = []
    table = pa.Table.from_pandas(rows.drop(columns="y"))
    assert modality_of(declared(table, {}, told.append, texts=True).schema.field("review")) == "text"
    assert "--feature review=column" in told[-1]
    assert not has_ports(declared(table, {"review": "column"}, told.append, texts=True).select(["review"]).schema)


def test_pictures_sounds_texts_numbers_and_categories_are_fused(store: Path) -> None:
    rows = scenes()
    trained = maas.train("scene", rows, "label", epochs=10, lr=5e-3)
    assert trained.metrics["accuracy"] > 0.9
    artifact = maas.export("scene")
    assert artifact.verification.max_abs_diff < 1e-3
    assert {spec.name: spec.datatype for spec in artifact.signature.inputs} == {
        "picture": "UINT8", "sound": "FP32", "review": "INT64", "price": "FP64", "shop": "BYTES",
    }  # fmt: skip
    assert right("scene", rows.drop(columns="label"), rows.label) > 0.9
    again = maas.train("scene", rows, "label", epochs=10, lr=5e-3)
    assert again.history == trained.history


def test_files_are_given_as_bytes_structs_and_paths_alike(store: Path, tmp_path: Path) -> None:
    rows = scenes()[["picture", "label"]]
    maas.train("scene", rows, "label", epochs=1)
    plain = np.asarray(maas.predict("scene", rows[["picture"]])["probability_yes"])
    paths = []
    for i, data in enumerate(rows.picture):
        (tmp_path / f"{i}.png").write_bytes(data)
        paths.append(str(tmp_path / f"{i}.png"))
    structs = pa.table({"picture": pa.array([{"bytes": data, "path": "x.png"} for data in rows.picture])})
    pillow = pd.DataFrame({"picture": [Image.open(io.BytesIO(data)) for data in rows.picture]})
    for given in (pd.DataFrame({"picture": paths}), structs, pillow):
        np.testing.assert_array_equal(np.asarray(maas.predict("scene", given)["probability_yes"]), plain)
    other = maas.train("paths", pd.DataFrame({"picture": paths, "label": rows.label}), "label", epochs=1)
    assert other.info.signature.inputs[0].datatype == "BYTES"
    for path in paths:
        Path(path).unlink()
    assert maas.export("paths").verification.rows > 0  # the rows that were kept do not need them


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pictures_of_every_kind_are_read(kind: str, mode: str) -> None:
    data = png(20, mode, kind=kind)
    assert pictures.is_picture(data[:64]) and pictures.sides(data)[:2] == (20, 20)
    for channels in (1, 3):
        found = pictures.decoded(data, 8, 8, channels)
        assert found.shape == (channels, 8, 8) and found.dtype == np.uint8 and abs(float(found.mean()) - 147) < 12


def test_pictures_are_upright_and_of_eight_bits_on_white() -> None:
    stream = io.BytesIO()
    picture = Image.fromarray(np.tile(np.array([[0, 255]], dtype=np.uint8), (4, 2)))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.resize((8, 4)).save(stream, "PNG", exif=exif)
    assert pictures.sides(stream.getvalue())[:2] == (8, 4)
    assert pictures.decoded(stream.getvalue(), 8, 4, 1).shape == (1, 8, 4)
    deep = io.BytesIO()
    Image.fromarray(np.full((6, 6), 65_535, dtype=np.uint16)).save(deep, "PNG")
    assert pictures.decoded(deep.getvalue(), 6, 6, 1).min() == 255
    clear = io.BytesIO()
    Image.new("RGBA", (6, 6), (0, 0, 0, 0)).save(clear, "PNG")
    assert pictures.decoded(clear.getvalue(), 6, 6, 3).min() == 255


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_sounds_of_every_kind_are_read(kind: str) -> None:
    data = wav(440, 0.5, 16_000, 2, kind)
    assert sounds.is_sound(data[:64])
    seconds, rate = sounds.length(data)
    assert abs(seconds - 0.5) < 0.1 and rate == 16_000
    found = sounds.decoded(data, 8_000, 4_000)
    peak = np.fft.rfft(found)
    assert found.shape == (4_000,) and abs(int(np.abs(peak).argmax()) * 2 - 440) <= 4


def test_a_sound_that_is_short_long_or_empty_has_the_length_that_is_heard() -> None:
    assert sounds.decoded(wav(440, 0.1), 8_000, 4_000).shape == (4_000,)
    assert sounds.decoded(wav(440, 2.0), 8_000, 4_000).shape == (4_000,)
    assert not sounds.decoded(wav(440, 0.0), 8_000, 4_000).any()


def test_the_spectrogram_is_that_of_the_fast_transform() -> None:
    import torch

    from maas_magics.core.features import mel

    rate, x = 8_000, np.random.default_rng(0).normal(size=1_000)
    window = round(mel.WINDOW * rate)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    starts = range(0, len(x) - window + 1, round(mel.HOP * rate))
    power = np.array([np.abs(np.fft.rfft(x[start : start + window] * hann)) ** 2 for start in starts]).T
    wanted = np.log(np.maximum(mel.bank(rate, window, 40) @ power, mel.FLOOR))
    wanted = (wanted - wanted.mean()) / (wanted.std() + 1e-3)
    found = mel.LogMel(rate, 40)(torch.tensor(x[None], dtype=torch.float32))[0]
    assert found.shape == (40, mel.frames(len(x), rate))
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-3)


def test_bad_files_are_named_and_nothing_is_lost(store: Path) -> None:
    rows = scenes()[["picture", "sound", "label"]]
    maas.train("scene", rows, "label", epochs=1)
    good = rows.drop(columns="label").iloc[:3]
    for column, bad, said in (
        ("picture", b"not a picture", "'picture', row 1: This is not a picture"),
        ("picture", png()[:60], "'picture', row 1"),
        ("picture", wav(400), "This is not a picture"),
        ("sound", b"RIFF\x04\x00\x00\x00WAVE", "'sound', row 1: This is not a sound"),
        ("sound", png(), "This is not a sound"),
        ("picture", "/nowhere/x.png", "cannot be read"),
    ):
        broken = good.copy()
        broken[column] = broken[column].astype(object)
        broken.iat[1, broken.columns.get_loc(column)] = bad
        with pytest.raises(MaasError, match=said) as caught:
            maas.predict("scene", broken)
        assert caught.value.hint
    assert len(maas.predict("scene", good)["prediction"]) == 3


def test_a_picture_is_measured_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_PIXELS", 100)
    with pytest.raises(DataError, match="20 × 20 pixels; 100 at most"):
        pictures.decoded(png(20), 8, 8, 1)


def test_a_pretrained_folder_is_fine_tuned_whole(store: Path, bert: Path) -> None:
    rows, other = reviews(), reviews(1)
    trained = maas.train("mood", rows, "label", model=f"hf:{bert}", epochs=4, lr=2e-3)
    assert trained.info.architecture == "hf" and trained.metrics["accuracy"] > 0.9
    assert maas.export("mood").verification.max_abs_diff < 1e-4
    assert right("mood", other[["review"]], other.label) > 0.9
    (bert / "model.safetensors").unlink()
    maas.predict("mood:1", other[["review"]])  # a version has its weights itself
    with pytest.raises(MaasError, match="no weights as safetensors"):
        maas.train("mood", rows, "label", model=f"hf:{bert}", epochs=1)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("hf", "needs a folder"),
        ("hf:/nowhere/at/all", "There is no folder"),
        ("tabm:x", "trained from scratch"),
    ],
)
def test_a_model_that_is_not_there_is_told(model: str, said: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MaasError, match=said):
        maas.train("mood", reviews(), "label", model=model, epochs=1)


def test_a_service_opens_the_folders_that_its_owner_names(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maas_magics.core.data.media import opening
    from maas_magics.core.networks.hub import OFFERED, open_folder

    assert open_folder(str(bert)).digest
    with opening(False):
        for offered in ("", str(bert.parent / "other"), str(bert / "inside")):
            monkeypatch.setenv(OFFERED, offered)
            with pytest.raises(MaasError, match="The service opens no pretrained network"):
                open_folder(str(bert))
        monkeypatch.setenv(OFFERED, str(bert.parent))
        assert open_folder(str(bert)).digest
        with pytest.raises(MaasError, match="opens no pretrained"):
            open_folder(f"{bert}/../../elsewhere")


def test_code_of_the_hub_never_runs(store: Path, bert: Path) -> None:
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(MaasError, match="needs code of its own, which is never run"):
        maas.train("mood", reviews(), "label", model=f"hf:{bert}", epochs=1)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A folder as save_pretrained writes it, of a BERT with random weights and a tokenizer of these words."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from maas_magics.core.features.tokens import train_tokenizer

    folder = tmp_path / "bert"
    config = BertConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    source = tmp_path / "made.json"
    source.write_text(train_tokenizer(reviews()["review"], 400))
    PreTrainedTokenizerFast(tokenizer_file=str(source), pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


def test_bytes_come_as_base64_where_json_brings_them(store: Path) -> None:
    from maas_magics.core.data.media import sent_bytes

    assert sent_bytes(base64.b64encode(b"abc").decode()) == b"abc" == sent_bytes(b"abc")
    plain = b"RIFF\x00\x00WAVE"
    assert sent_bytes(plain.decode()) == plain  # a file whose bytes are UTF-8 is still itself


def test_a_folder_of_folders_is_a_table(store: Path, tmp_path: Path) -> None:
    rows = scenes()[["picture", "label"]]
    for i, (data, label) in enumerate(zip(rows.picture, rows.label, strict=True)):
        (tmp_path / "all" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / label / f"{i}.png").write_bytes(data)
    trained = maas.train("scene", str(tmp_path / "all"), "label", epochs=6, lr=5e-3)
    assert trained.metrics["accuracy"] > 0.9
    assert maas.evaluate("scene", str(tmp_path / "all")).rows == N


def test_a_file_that_is_missing_is_no_error_and_one_that_is_empty_is(store: Path, tmp_path: Path) -> None:
    rows = scenes()[["picture", "sound", "label"]]
    rows["picture"] = rows["picture"].astype(object)
    rows.loc[::9, "picture"] = None
    rows["sound"] = rows["sound"].astype(object)
    rows.loc[::7, "sound"] = None
    trained = maas.train("scene", rows, "label", epochs=8, lr=5e-3)
    assert trained.metrics["accuracy"] > 0.8
    found = maas.predict("scene", {"picture": [None], "sound": [None]})
    assert np.isfinite(np.asarray(found["probability_yes"])).all()
    (tmp_path / "empty.png").touch()
    with pytest.raises(MaasError, match="is empty"):
        maas.predict("scene", pd.DataFrame({"picture": [str(tmp_path / "empty.png")], "sound": [rows.sound[1]]}))


def test_texts_come_as_lists_and_from_files_which_are_not_streamed(store: Path, tmp_path: Path) -> None:
    rows = reviews()
    assert maas.train("mood", list(rows.review), rows.label, epochs=1).info.architecture == "bow"
    one = maas.predict("mood", "what a lovely evening it was")
    assert np.array_equal(one["prediction"], maas.predict("mood", ["what a lovely evening it was"]))
    rows.to_csv(tmp_path / "rows.csv", index=False)
    maas.train("mood", str(tmp_path / "rows.csv"), "label", epochs=1)
    with pytest.raises(MaasError, match="are trained on from memory"):
        maas.train("mood", str(tmp_path / "rows.csv"), "label", epochs=1, stream=True)
    for format in ("pt2", "safetensors"):
        assert maas.export("mood", format=format).verification.max_abs_diff < 1e-5


def test_files_that_are_cut_off_are_named_while_training_and_answering(store: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    whole = {}
    for kind in ("PNG", "JPEG"):
        stream = io.BytesIO()
        Image.fromarray(noise).save(stream, kind)
        whole[kind] = stream.getvalue()
    rows = scenes()[["picture", "sound", "label"]].astype(object)
    for column, bad in (("picture", whole["PNG"][:2000]), ("picture", whole["JPEG"][:-900]), ("sound", wav(400)[:900])):
        broken = rows.copy()
        broken.at[4, column] = bad
        with pytest.raises(DataError, match=f"Column '{column}', one of its files"):
            maas.train("scene", broken, "label", epochs=1)
        file = tmp_path / f"cut{len(bad)}.bin"
        file.write_bytes(bad)
        broken.at[4, column] = str(file)
        with pytest.raises(DataError, match=f"Column '{column}', .*cut{len(bad)}"):
            maas.train("scene", broken, "label", epochs=1)
    broken.at[4, "sound"] = "abc"
    with pytest.raises(DataError, match="'abc' of row .* cannot be read"):
        maas.train("scene", broken, "label", epochs=1)


def test_numbers_are_no_texts_to_read(store: Path) -> None:
    rows = reviews()
    maas.train("mood", rows, "label", epochs=1)
    with pytest.raises(DataError, match="'review'"):
        maas.predict("mood", {"review": np.arange(3)})


def test_a_folder_is_named_on_a_line_without_quotes(store: Path, bert: Path) -> None:
    from maas_magics.magics.words import Names

    assert Names({}).module(f"hf:{bert}") == f"hf:{bert}"
    with pytest.raises(MaasError, match="There is no folder '/nowhere/at all'"):
        maas.train("mood", reviews(), "label", model="hf:/nowhere/at all", epochs=1)
