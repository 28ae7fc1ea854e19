"""Entities as spans of letters: read as tags of words, answered as spans of the texts that were given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import maas_magics as maas
from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.events import Message
from maas_magics.core.data.spanned import Span, Spans
from maas_magics.core.features.spanned import as_tags
from maas_magics.core.features.tokens import words_of

PEOPLE, PLACES = ["anna", "bob", "clara", "david"], ["paris", "new york", "rome"]


def texts(rows: int = 150, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    told, spans = [], []
    for _ in range(rows):
        text, found = "so " * int(rng.integers(0, 4)), []
        for label, names, behind in (("person", PEOPLE, ", went to "), ("place", PLACES, ".")):
            name = str(rng.choice(names))
            found.append({"start": len(text), "end": len(text) + len(name), "label": label})
            text += name + behind
        told.append(text)
        spans.append(found)
    return pd.DataFrame({"text": told, "spans": spans})


def bare(spans: Any) -> list[list[dict[str, Any]]]:
    return [[{key: one[key] for key in ("start", "end", "label")} for one in row] for row in spans]


@pytest.mark.parametrize("model", ["auto", "transformer", "hf"])
def test_spans_are_learnt_evaluated_exported_and_answered(model: str, store: Path, bert: Path) -> None:
    rows, other = texts(), texts(40, 1)
    network = f"hf:{bert}" if model == "hf" else model
    trained = maas.train("ner", data=rows, target="spans", model=network, epochs=15 if model != "hf" else 6, lr=4e-3)
    assert trained.info.task == "entities" and trained.info.classes[0] == "O" and "B-place" in trained.info.classes
    (entry,), (answer,) = trained.info.signature.inputs, trained.info.signature.outputs
    assert (entry.name, entry.shape, answer.datatype, answer.shape) == ("text", (-1, 1), "BYTES", (-1, 1))
    assert maas.evaluate("ner", other).values["span_f1"] > 0.9
    before = maas.predict("ner", other[["text"]])["prediction"].tolist()
    assert sum(one == two for one, two in zip(bare(before), bare(other.spans), strict=True)) > 34
    assert all(0 < one["score"] <= 1 for row in before for one in row)
    assert maas.export("ner").verification.max_abs_diff < 1e-4
    assert bare(maas.predict("ner", other[["text"]])["prediction"]) == bare(before)
    again = texts(60, 2).assign(spans=maas.predict("ner", texts(60, 2)[["text"]])["prediction"])
    assert maas.evaluate("ner", again).values["span_f1"] == 1.0  # what is answered can be learnt from


def test_a_text_has_its_spans_alone_among_others_and_however_it_comes(store: Path, tmp_path: Path) -> None:
    rows = texts()
    rows.to_parquet(tmp_path / "rows.parquet")
    maas.train("ner", data=str(tmp_path / "rows.parquet"), target="spans", epochs=8, lr=5e-3)
    odd = ["", "  ", "anna", "Ünï 😀 anna, went to 北京 rome", "so " * 400 + "anna", "anna, went to new york" * 3]
    frame = maas.predict("ner", pd.DataFrame({"text": odd}))["prediction"].tolist()
    assert frame[:2] == [[], []] and all(0 <= one["start"] < one["end"] for row in frame for one in row)
    assert odd[3][frame[3][0]["start"] : frame[3][0]["end"]] == "anna"
    alone = [maas.predict("ner", {"text": [text]})["prediction"][0] for text in odd]
    assert bare(alone) == bare(frame)
    for table in (pl.DataFrame({"text": odd}), pa.table({"text": odd})):
        found = maas.predict("ner", table)["prediction"]
        assert bare(found.to_list() if hasattr(found, "to_list") else found.to_pylist()) == bare(frame)
    assert bare(maas.predict("ner", odd[3])["prediction"]) == bare(frame[3:4])
    maas.export("ner")
    assert bare(maas.predict("ner", pd.DataFrame({"text": odd}))["prediction"]) == bare(frame)
    with pytest.raises(OptionError, match="Spans have a score"):
        maas.predict("ner", pd.DataFrame({"text": odd}), probabilities=True)


def test_the_protocol_has_spans_as_json(store: Path) -> None:
    from maas_magics.session import current

    maas.train("ner", data=texts(), target="spans", epochs=6, lr=5e-3)
    asked = {"text": np.array([["bob, went to rome."], [""]], dtype=object)}
    found = current().backend.infer("ner", asked).outputs
    assert list(found) == ["prediction"] and found["prediction"].shape == (2, 1)
    spans = [json.loads(text) for text in found["prediction"][:, 0]]
    assert bare(spans) == bare(maas.predict("ner", {"text": ["bob, went to rome.", ""]})["prediction"])


def test_an_export_reads_words_as_the_library_splits_them(store: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, pre_tokenizers

    maas.train("ner", data=texts(), target="spans", epochs=8, lr=5e-3)
    maas.export("ner", out=str(tmp_path / "out"))
    folder = next(path.parent for path in (tmp_path / "out").rglob("model.onnx"))
    text = "so bob, went to new york."
    words = pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)
    read = Tokenizer.from_file(str(folder / "tokenizer.json")).encode([word for word, _ in words], is_pretokenized=True)
    first = [read.word_ids.index(place) for place in range(len(words))]
    entry = np.full((1, 2, len(read.ids)), -1, dtype=np.int64)
    entry[0, 0], entry[0, 1, : len(first)] = read.ids, first
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (tags,) = session.run(["prediction"], {session.get_inputs()[0].name: entry})
    at = {place: tag for (_, place), tag in zip(words, tags[0], strict=False) if tag != "O"}
    want = maas.predict("ner", {"text": [text]})["prediction"][0]
    assert [place[0] for place, tag in at.items() if tag.startswith("B-")] == [one["start"] for one in want]


def test_words_are_split_by_letters_whatever_they_are() -> None:
    text = "Ünï 😀 Anna's 北京 e\u0301a"
    words = words_of(text)
    assert [word for word, _, _ in words] == ["Ünï", "😀", "Anna", "'", "s", "北", "京", "e\u0301a"]
    assert all(text[start:end] == word for word, start, end in words)


@pytest.mark.parametrize(
    "emoji", ["👨\u200d👩\u200d👧", "😀", "👍🏽", "🇩🇪", "❤\ufe0f", "1\ufe0f\u20e3", "👩🏽\u200d🚀"]
)
def test_an_emoji_is_a_word_by_itself_with_all_that_is_joined_to_it(emoji: str) -> None:
    assert [word for word, _, _ in words_of(f"Ada{emoji}Bob {emoji}{emoji}")] == ["Ada", emoji, "Bob", emoji, emoji]
    found, told = tags(f"met Ada{emoji} there", (4, 7, "name"))
    assert found == ("O", "B-name", "O", "O") and not told
    joined = [word for word, _, _ in words_of("می\u200cخواهم क्\u200dष a\u200db 12*3#")]
    assert joined == ["می\u200cخواهم", "क्\u200dष", "a\u200db", "12", "*", "3", "#"]  # joiners of letters stay


def tags(text: str, *spans: tuple[int, int, str]) -> tuple[tuple[str, ...], list[str]]:
    told: list[str] = []
    rows = np.empty(1, dtype=object)
    rows[0] = Spans(Span(*span) for span in spans)
    (found,) = as_tags(pa.chunked_array([[text]]), rows, "text", "spans", told.append)
    return found, told


def test_spans_become_tags_of_the_words_they_touch() -> None:
    text = "anna new york-based"
    assert tags(text, (0, 4, "a"), (5, 13, "b")) == (("B-a", "B-b", "I-b", "O", "O"), [])
    assert tags(text, (0, 4, "a"), (0, 4, "a")) == (("B-a", "O", "O", "O", "O"), [])  # twice the same is one
    assert tags(text, (0, 4, "a"), (5, 8, "a")) == (("B-a", "B-a", "O", "O", "O"), [])
    found, told = tags(text, (1, 7, "a"))
    assert found == ("B-a", "I-a", "O", "O", "O") and "1 of 1 spans do not begin and end with words" in told[0]
    found, told = tags(text, (0, 2, "a"), (2, 4, "b"), (4, 5, "c"))
    assert found == ("B-a", "O", "O", "O", "O") and "2 of 3 spans have no word of their own" in told[1]
    assert tags("") == ((), [])


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([{"start": 0, "end": 4, "label": "a"}, {"start": 2, "end": 7, "label": "b"}], "Row 3 of 'spans' has spans"),
        ([{"start": 0, "end": 4, "label": "a"}, {"start": 0, "end": 4, "label": "b"}], r"'anna' \(a\) and 'anna'"),
        ([{"start": 0, "end": 400, "label": "a"}], "Row 3 of 'spans' has a span from 0 to 400"),
        ([{"start": 4, "end": 4, "label": "a"}], "from 4 to 4"),
        ([{"start": -1, "end": 4, "label": "a"}], "from -1 to 4"),
        ([{"start": 0, "end": 4, "label": None}], "without start, end or label"),
        ([{"start": 0, "end": 4, "label": ""}], "without start, end or label"),
    ],
)
def test_spans_that_cannot_be_are_refused_with_their_row(spans: Any, message: str, store: Path) -> None:
    rows = pd.concat([texts(40), texts(4)], ignore_index=True)
    rows.at[3, "text"], rows.at[3, "spans"] = "anna went", spans
    with pytest.raises(DataError, match=message):
        maas.train("ner", data=rows, target="spans", epochs=1)


def test_columns_that_have_no_spans_are_refused(store: Path) -> None:
    rows = texts(40)
    with pytest.raises(DataError, match="no column holds the texts"):
        maas.train("ner", data=rows.assign(text=1.0), target="spans", epochs=1)
    with pytest.raises(OptionError, match="'one', 'two' hold texts"):
        maas.train("ner", data=rows.rename(columns={"text": "one"}).assign(two="x"), target="spans", epochs=1)
    with pytest.raises(OptionError, match="does not answer each word"):
        maas.train("ner", data=rows, target="spans", model="mlp", epochs=1)
    maas.train(
        "ner", data=rows.rename(columns={"text": "one"}).assign(two="x"), target="spans", features="one", epochs=1
    )
    maas.train("spans", data=rows, target="spans", epochs=1)
    words = pd.DataFrame({"text": rows.text, "spans": [["O"]] * 40})
    with pytest.raises(DataError, match="trained on spans of texts"):
        maas.evaluate("spans", words)


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
    source.write_text(train_tokenizer(texts()["text"], 400))
    PreTrainedTokenizerFast(tokenizer_file=str(source), pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


def test_spans_that_an_evaluation_widens_are_told(store: Path) -> None:
    rows = texts(40)
    maas.train("ner", data=rows, target="spans", epochs=1)
    inside = [[{**one, "start": one["start"] + 1} for one in row] for row in rows.spans]
    maas.evaluate("ner", rows.assign(spans=inside))
    told = [event.text for event in maas.logs(maas.jobs()[0].id) if isinstance(event, Message)]
    assert any("80 of 80 spans do not begin and end with words" in text for text in told)
