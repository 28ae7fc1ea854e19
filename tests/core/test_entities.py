"""A tag for each word: aligned with the words whatever a tokenizer makes of them, counted by spans, exported, answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pytest
import torch

import maas_magics as maas
from maas_magics.api.errors import DataError, MaasError, OptionError
from maas_magics.core.features.modalities.words import NO_WORD, UNSEEN, WordsFeature
from maas_magics.core.features.tokens import for_words, train_tokenizer, word_tokens
from maas_magics.core.inference import by_length, predictor
from maas_magics.core.inference.gather import gather
from maas_magics.core.networks.tagger import SURE
from maas_magics.core.tasks.bio import spans_of
from maas_magics.core.tasks.entities import Entities
from maas_magics.core.tasks.spans import SpanCounts

PEOPLE, PLACES = ["anna", "bob", "clara", "david", "emma"], ["paris", "london", "new york", "rome"]


def sentences(rows: int = 150, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    tokens, tags = [], []
    for _ in range(rows):
        place = str(rng.choice(PLACES)).split()
        before, behind = ["so"] * int(rng.integers(0, 4)), ["today", "."] * int(rng.integers(0, 2))
        tokens.append([*before, str(rng.choice(PEOPLE)), "went", "to", *place, *behind])
        tags.append(
            ["O"] * len(before)
            + ["B-person", "O", "O", "B-place"]
            + ["I-place"] * (len(place) - 1)
            + ["O"] * len(behind)
        )
    return pd.DataFrame({"tokens": tokens, "tags": tags})


def tags_of(rows: Any, name: str = "ner") -> list[list[str]]:
    return [list(row) for row in maas.predict(name, rows)["prediction"]]


@pytest.mark.parametrize("model", ["auto", "textcnn", "transformer"])
def test_entities_are_learnt_evaluated_exported_and_answered(model: str, store: Path) -> None:
    rows, other = sentences(), sentences(40, 1)
    trained = maas.train("ner", data=rows, target="tags", model=model, epochs=15, lr=5e-3)
    assert trained.info.task == "entities"
    assert trained.info.classes == ("O", "B-person", "B-place", "I-place")
    assert [(spec.name, spec.datatype, spec.shape) for spec in trained.info.signature.inputs] == [
        ("tokens", "BYTES", (-1, -1))
    ]
    before = tags_of(other[["tokens"]])
    assert [len(tags) for tags in before] == [len(words) for words in other.tokens]
    found = maas.evaluate("ner", other)
    assert found.values["span_f1"] > 0.9 and found.values["accuracy"] > 0.95 and found.rows == 40
    artifact = maas.export("ner")
    assert artifact.verification.max_abs_diff < 1e-4
    assert artifact.verification.metrics_before == pytest.approx(artifact.verification.metrics_after)
    assert tags_of(other[["tokens"]]) == before


def test_a_pretrained_folder_is_fine_tuned(store: Path, bert: Path) -> None:
    rows, other = sentences(), sentences(40, 1)
    trained = maas.train("ner", data=rows, target="tags", model=f"hf:{bert}", epochs=6, lr=2e-3)
    assert trained.info.architecture == "hf" and trained.metrics["span_f1"] > 0.9
    assert maas.export("ner").verification.max_abs_diff < 1e-4
    assert maas.evaluate("ner", other).values["span_f1"] > 0.9
    long = ["anna", *["so"] * 300, "anna"]
    (found,) = tags_of({"tokens": [long]})
    assert len(found) == 302 and found[-1] == "O"  # the folder takes 64 tokens


def test_a_sentence_has_one_answer_alone_among_others_and_however_it_comes(store: Path) -> None:
    maas.train("ner", data=sentences(), target="tags", epochs=6, lr=5e-3)
    odd = [
        [],
        ["anna"],
        ["anna", "", " ", "paris"],
        ["so"] * 300 + ["anna"],
        ["ünïcödé", "漢字", "😀", "new", "york"],
    ]

    def answers() -> list[list[str]]:
        together = tags_of({"tokens": odd})
        alone = [tags_of(pd.DataFrame({"tokens": [words]}))[0] for words in odd]
        table = pa.table({"tokens": pa.array(odd, pa.large_list(pa.string()))})
        assert together == alone == [list(row) for row in maas.predict("ner", table)["prediction"].to_pylist()]
        return together

    found = answers()
    assert [len(tags) for tags in found] == [len(words) for words in odd]
    assert found[2][1:3] == ["O", "O"] and found[3][-1] == "O"  # no token is made of them; it lies behind the cut
    assert "B-person" in found[2] and found[4][3:] == ["B-place", "I-place"]
    maas.export("ner")
    assert answers() == found
    each = maas.predict("ner", {"tokens": odd}, probabilities=True)["probabilities"]
    assert [len(row) for row in each] == [len(words) for words in odd]
    np.testing.assert_allclose(np.sum(each[1], axis=1), 1, atol=1e-5)


def test_a_batch_of_one_length_counts_as_rows_of_many(store: Path) -> None:
    rows = sentences(60)
    small = maas.train("ner", data=rows, target="tags", epochs=1, batch_size=4, seed=3)
    held = maas.evaluate("ner", rows)
    pieces = [maas.evaluate("ner", rows.iloc[[place]]).values["accuracy"] for place in range(len(rows))]
    words = rows.tags.map(len)
    assert held.values["accuracy"] == pytest.approx(float(np.average(pieces, weights=words)))
    assert small.metrics["accuracy"] <= 1.0


def test_places_of_words_are_those_of_their_first_tokens() -> None:
    from tokenizers import Tokenizer

    feature = WordsFeature("tokens", tokenizer=train_tokenizer(["anna went to new-york today"] * 3), size=100)
    raw = feature.encode(pa.chunked_array([[["anna", "", "new-york", "to"], [], [" "]]]))
    assert raw.tolist() == [["anna", " ", "new-york", "to"], ["", "", "", ""], [" ", "", "", ""]]
    ids, places = feature.enter(raw).transpose(1, 0, 2)
    known = Tokenizer.from_str(feature.tokenizer)
    told = [known.id_to_token(int(ids[0, place])) if place >= 0 else "" for place in places[0, :4]]
    assert told == ["anna", "", "new", "to"] and places[0, 1] == UNSEEN
    assert (places[0, 4:] == NO_WORD).all() and (places[1] == NO_WORD).all()
    assert places[2].tolist()[:2] == [UNSEEN, NO_WORD]
    ready = feature.ready(pa.chunked_array([[["anna", "", "new-york", "to"], [], [" "]]]))
    np.testing.assert_array_equal(feature.entered(ready), feature.enter(raw)[:, :, : feature.lengths(ready).max()])
    inner = feature.enter(np.array([[b"anna", b"", b"to", b""]], dtype=object))
    assert inner[0, 1].tolist() == [0, UNSEEN, 1, NO_WORD]  # empty texts behind the last word are none


def test_words_of_a_tokenizer_of_bytes_begin_as_in_a_text() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(["so anna went to paris"] * 9, trainer)
    ((ids, of),) = word_tokens(for_words(made.to_str()), [["anna", "went", "to", "paris"]], 0)
    assert ids == made.encode(" anna went to paris").ids and of == [0, 1, 2, 3]


def test_a_file_of_sentences_is_learnt(store: Path, tmp_path: Path) -> None:
    rows = sentences(60)
    rows.to_parquet(tmp_path / "rows.parquet")
    rows.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    figures = []
    for name in ("rows.parquet", "rows.jsonl"):
        maas.train("ner", data=str(tmp_path / name), target="tags", epochs=4, lr=5e-3)
        figures.append(maas.evaluate("ner", str(tmp_path / name)).values)
    assert figures[0] == figures[1] and figures[0]["accuracy"] > 0.8


def test_a_cut_sentence_keeps_a_place_for_each_word() -> None:
    feature = WordsFeature("tokens", tokenizer=train_tokenizer(["a b c"] * 3), size=10, longest=3)
    places = feature.enter(np.array([["a", "b", "c", "a", "b"]], dtype=object))[0, 1]
    assert places.tolist() == [0, 1, 2, UNSEEN, UNSEEN]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("", []),
        ("O O", []),
        ("B-a", [(0, 1, "a")]),
        ("B-a I-a O B-a", [(0, 2, "a"), (3, 4, "a")]),
        ("B-a B-a I-a", [(0, 1, "a"), (1, 3, "a")]),
        ("I-a I-a O", [(0, 2, "a")]),
        ("O I-a I-b", [(1, 2, "a"), (2, 3, "b")]),
        ("B-a I-b", [(0, 1, "a"), (1, 2, "b")]),
        ("B-a O I-a", [(0, 1, "a"), (2, 3, "a")]),
        ("S-a B-a E-a E-a", [(0, 1, "a"), (1, 3, "a"), (3, 4, "a")]),
        ("U-a I-a L-a", [(0, 1, "a"), (1, 3, "a")]),
        ("per per O loc", [(0, 2, "per"), (3, 4, "loc")]),
        ("B-a-b I-a-b", [(0, 2, "a-b")]),
    ],
)
def test_spans_are_those_of_conlleval(tags: str, spans: list[tuple[int, int, str]]) -> None:
    assert spans_of(tags.split()) == spans


def test_counted_spans_are_the_spans_that_are_listed() -> None:
    rng = np.random.default_rng(0)
    classes = ["", "O", "B-a", "I-a", "B-b", "I-b", "E-a", "S-b"]
    count = SpanCounts(classes)
    for _ in range(50):
        sizes = rng.integers(0, 9, 6)
        true, said = ([rng.integers(1, len(classes), size).tolist() for size in sizes] for _ in range(2))
        said = [
            [a if rng.random() < 0.6 else b for a, b in zip(*pair, strict=True)]
            for pair in zip(true, said, strict=True)
        ]
        flat_true, flat_said = (np.array([code for row in rows for code in (*row, 0)]) for rows in (true, said))
        flat_said[flat_true == 0] = 2  # whatever is said behind the end of a sentence
        listed = [[set(spans_of([classes[code] for code in row])) for row in rows] for rows in (true, said)]
        right = sum(len(a & b) for a, b in zip(*listed, strict=True))
        assert count(flat_said, flat_true).tolist() == [right, *(sum(map(len, rows)) for rows in listed[::-1])]


def test_figures_of_spans_are_those_counted_by_hand() -> None:
    values = np.empty(2, dtype=object)
    values[:] = [("B-a", "I-a", "O", "B-b"), ("O", "B-a")]
    task = Entities.fit(values, ("tags",), standardise=False)
    truth = torch.from_numpy(task.known(values))
    said = truth.clone()
    said[0, 1] = task.classes.index("O")  # a span of two words is cut short
    decoded = torch.nn.functional.one_hot(said, len(task.classes)).float()
    scored = task.scored(task.table(decoded), task.truth(truth))
    found = {name: metric(*scored) for name, metric in task.metrics().items()}
    assert found["span_precision"] == found["span_recall"] == found["span_f1"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(5 / 6)
    wider = torch.cat([decoded, torch.zeros(2, 3, decoded.shape[2])], 1)  # as a graph has it for tokens beyond
    assert task.metrics()["span_f1"](*task.scored(wider, truth)) == pytest.approx(2 / 3)


def test_the_loss_is_the_mean_over_words_and_nothing_else() -> None:
    values = np.empty(2, dtype=object)
    values[:] = [("B-a", "O", "O"), ("O",)]
    task = Entities.fit(values, ("tags",), standardise=False)
    target = torch.from_numpy(task.encode(values))
    outputs = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    loss = task.loss("auto", None, 0.0)
    logs = outputs[..., 1:].log_softmax(-1)
    wanted = -(logs[0, 0, 1] + logs[0, 1, 0] + logs[0, 2, 0] + logs[1, 0, 0]) / 4
    assert float(loss(outputs, target)) == pytest.approx(float(wanted), abs=1e-6)
    mass = task.mass(None)
    assert mass is not None and float(mass(target)) == 4
    assert SURE > 0


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        ({"tokens": [["a", "b"]] * 30, "tags": [["O", "B-x"]] * 29 + [["O"]]}, {}, "1 of .* rows have not as many tags in 'tags' as words in 'tokens': 'a b' has 2 words and 1 tags"),
        ({"tokens": [["a", "b"]] * 30, "tags": [["O", "O"]] * 30}, {}, "has one tag only: 'O'"),
        ({"tokens": [["a", "b"]] * 30, "tags": [["O", None]] * 30}, {}, "A tag of the target 'tags' is missing"),
        ({"n": range(30), "tags": [["O", "B-x"]] * 30}, {}, "one column of 0 and 1"),
        ({"tokens": [["a", "b"]] * 30, "n": range(30), "tags": [["O", "B-x"]] * 30}, {}, "there are other columns"),
        ({"a": [["a", "b"]] * 30, "b": [["a", "b"]] * 30, "tags": [["O", "B-x"]] * 30}, {}, "'a', 'b' all have a word"),
        ({"tokens": [["a", "b"]] * 30, "tags": [["O", "B-x"]] * 30}, {"model": "mlp"}, "does not answer each word"),
        ({"tokens": [["a", "b"]] * 30, "tags": [["O", "B-x"]] * 30}, {"task": "multiclass"}, "not a target of multiclass"),
        ({"tokens": [["a", "b"]] * 30, "tags": [["O", "B-x"]] * 30}, {"class_weights": "balanced"}, "Class weights"),
        ({"tokens": [["a", "b"]] * 30, "tags": [["O", "B-x"]] * 30, "w": [1.0] * 30}, {"weights": "w"}, "count alike"),
        ({"tokens": [["a", "b"]] * 30, "tags": ["x", "y"] * 15}, {"feature": {"tokens": "words"}}, "Lists of words have a tag"),
        ({"n": range(30), "tags": ["x", "y"] * 15}, {"task": "entities"}, "not a list of tags a row"),
    ],
)  # fmt: skip
def test_what_cannot_be_tagged_is_told(data: Any, options: dict[str, Any], said: str, store: Path) -> None:
    with pytest.raises(MaasError, match=said) as caught:
        maas.train("ner", data=pd.DataFrame(data), target="tags", **{"epochs": 1, **options})
    assert caught.value.hint


def test_tags_of_other_rows_are_known_or_told(store: Path) -> None:
    rows = sentences(60)
    other = pd.DataFrame({"tokens": [["anna", "x"]], "tags": [["B-person", "B-rare"]]})
    trained = maas.train("ner", data=rows, target="tags", validation=other, epochs=1)
    assert "B-rare" in trained.info.classes  # a tag that only held-out rows have is one that none may learn
    new = pd.DataFrame({"tokens": [["anna", "x"]], "tags": [["B-person", "B-other"]]})
    with pytest.raises(DataError, match="'B-other', a tag the model was not trained on"):
        maas.evaluate("ner", new)
    with pytest.raises(DataError, match="'anna x' has 2 words and 1 tags"):
        maas.evaluate("ner", pd.DataFrame({"tokens": [["anna", "x"]], "tags": [["O"]]}))
    with pytest.raises(MaasError, match="lists of words"):
        maas.predict("ner", {"tokens": ["anna went to paris"]})
    with pytest.raises(DataError, match="has 10,001 words; 10,000 at most"):
        maas.predict("ner", {"tokens": [["a"], ["a"] * 10_001]})
    with pytest.raises(OptionError, match="this model tags words"):
        maas.predict("ner", rows[["tokens"]], top=2)


def test_another_program_needs_the_files_beside_an_export_alone(store: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    rows = sentences()
    maas.train("ner", data=rows, target="tags", epochs=6, lr=5e-3)
    maas.export("ner", out=str(tmp_path / "out"))
    folder = next(path.parent for path in (tmp_path / "out").rglob("model.onnx"))
    words = rows.tokens[0]
    coded = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(words, is_pretokenized=True)
    entry = np.full((1, 2, max(len(coded.ids), len(words))), -1)
    entry[0, 0, : len(coded.ids)] = coded.ids
    entry[0, 1, : len(words)] = [coded.word_ids.index(word) for word in range(len(words))]
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    found = session.run(["prediction"], {session.get_inputs()[0].name: entry})[0]
    assert found[0, : len(words)].tolist() == tags_of(rows[["tokens"]].iloc[:1])[0]


def test_many_rows_are_answered_some_of_one_length_at_a_time(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sentences(60)
    maas.train("ner", data=rows, target="tags", epochs=6, lr=5e-3)
    for _ in ("torch", "onnx"):
        whole = tags_of(rows[["tokens"]])
        figures = maas.evaluate("ner", rows).values
        with monkeypatch.context() as few:
            few.setattr(predictor, "TOKENS", 24)
            assert tags_of(rows[["tokens"]]) == whole
            assert maas.evaluate("ner", rows).values == pytest.approx(figures)
        maas.export("ner")


def test_groups_hold_rows_of_about_one_length_in_their_order() -> None:
    sizes = np.array([5, 1, 3, 1, 9, 2])
    seen: list[list[int]] = []

    def run(raw: list[Any]) -> dict[str, Any]:
        seen.append(raw[0].tolist())
        return {"twice": 2 * raw[0]}

    found = by_length.in_groups(run, [np.arange(6)], sizes, most=6)
    assert seen == [[1, 3, 5], [2], [0], [4]] and found["twice"].tolist() == [0, 2, 4, 6, 8, 10]


def test_answers_of_chunks_of_several_lengths_are_padded() -> None:
    short, long = np.ones((2, 3, 2)), np.ones((1, 5, 2))
    for parts in ([short, long], [long, short]):
        chunks = [{"x": part, "t": np.full(part.shape[:2], "a", dtype=object)} for part in parts]
        for rows in (3, None):
            found = gather((dict(chunk) for chunk in chunks), rows)
            assert found["x"].shape == (3, 5, 2) and found["x"].sum() == 22
            assert (found["t"] == "").sum() == 4


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A folder as save_pretrained writes it, of a BERT with random weights and a tokenizer of these words."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path / "bert"
    config = BertConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    source = tmp_path / "made.json"
    source.write_text(train_tokenizer([" ".join(words) for words in sentences().tokens], 400))
    PreTrainedTokenizerFast(tokenizer_file=str(source), pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


def test_words_alone_are_rows_and_numbers_of_tags_are_no_names(store: Path) -> None:
    rows = sentences(60)
    maas.train("ner", data=rows, target="tags", epochs=1)
    words = rows["tokens"].tolist()[:3]
    assert [list(row) for row in maas.predict("ner", words)] == tags_of(rows[["tokens"]][:3])
    for wrong in (words[0], rows.assign(tokens="so it is")):
        with pytest.raises(DataError) as caught:
            maas.predict("ner", wrong)
        assert "[['Ada', 'lives', 'here']]" in caught.value.hint
    with pytest.raises(DataError) as caught:
        maas.train("ner", rows.assign(tags=[[0] * len(row) for row in rows["tokens"]]), "tags")
    assert "Tags of words are texts" in caught.value.hint
