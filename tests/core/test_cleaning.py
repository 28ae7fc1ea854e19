"""Cleaning that is declared of a column of texts: in the tokenizer, so whatever reads it cleans alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest

import maas_magics as maas
from maas_magics.api.errors import OptionError
from maas_magics.core.features.cleaning import STEPS, normalizer, steps_of, with_cleaning
from maas_magics.core.features.declared import parted
from maas_magics.core.features.modalities import text as text_columns
from maas_magics.core.features.modalities.text import trained
from maas_magics.core.features.tokens import token_ids, train_tokenizer
from maas_magics.session import current

GOOD, BAD = ["lovely", "bright", "warm"], ["dreadful", "dark", "cold"]


def reviews(rows: int = 80) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, rows)
    told = [
        f"<p>I think this film was <b>{rng.choice(GOOD if y else BAD)}</b>&nbsp;take {i}</p>"
        for i, y in enumerate(label)
    ]
    return pd.DataFrame({"review": told, "label": label})


@pytest.mark.parametrize(
    ("steps", "text", "clean"),
    [
        ("html", "<p class='a'>Hi &amp; <br/>you</p>3 < 4, a>b", " Hi &  you 3 < 4, a>b"),
        ("html", "<style>p {color: red}</style>a<!-- note -->b&lt;c", " a b<c"),
        ("spaces", "  a \n\t b\u00a0 ", "a b"),
        ("lower", "ÀB", "àb"),
        ("nfc", "e\u0301", "é"),
        ("nfkc", "ﬁ\u00a0①", "fi 1"),
        ("accents", "Crème brûlée", "Creme brulee"),
        ("html+nfc+spaces+lower", "<i>E\u0301t</i>\n ok", "ét ok"),
    ],
)
def test_each_step_does_what_it_says(steps: str, text: str, clean: str) -> None:
    assert normalizer(steps_of(steps)).normalize_str(text) == clean


def test_a_tokenizer_cleans_before_all_else() -> None:
    plain = train_tokenizer(["lovely day", "bright day"] * 5)
    both = with_cleaning(plain, ("html", "spaces"))
    assert with_cleaning(plain, ()) == plain
    assert token_ids(both, ["<b>Lovely</b>   day"], 0) == token_ids(plain, ["lovely day"], 0)


@pytest.mark.parametrize("text", ["<script>", "<!--", "<a", "<a x", "&", "<p>", " ", "</"])
def test_no_text_is_gone_through_again_and_again(text: str) -> None:
    assert len(normalizer(tuple(STEPS)).normalize_str(text * 100_000)) <= 800_000  # patterns that go back take hours


def test_cleaning_is_kept_with_the_model_and_its_export(store: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    rows = reviews()
    maas.train("mood", rows, "label", feature={"review": "text(clean=html+spaces+lower)"}, epochs=4, lr=5e-3)
    assert current().backend.loader.predictor("mood").processor.features[0].clean == ("html", "spaces", "lower")
    tagged, bare = rows.review[3], f"i think this film was {rows.review[3].split('<b>')[1].split('<')[0]} take 3"

    def answer(text: str) -> float:
        return float(np.asarray(maas.predict("mood", {"review": [text]})["probability_1"])[0])

    assert answer(tagged) == pytest.approx(answer(bare), abs=1e-6)
    maas.export("mood", out=str(tmp_path / "out"))
    folder = next(path.parent for path in (tmp_path / "out").rglob("model.onnx"))
    known = Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    entry = {session.get_inputs()[0].name: np.array([known.encode(tagged).ids], dtype=np.int64)}
    assert session.run(["probabilities"], entry)[0][0, 1] == pytest.approx(answer(tagged), abs=1e-5)


def test_rows_that_are_cut_are_told_with_the_answers(store: Path) -> None:
    rows = reviews()
    maas.train("mood", rows, "label", feature={"review": "text"}, epochs=1)
    predictor = current().backend.loader.predictor("mood")
    texts = ["word " * 400, "short", "word " * 300, *["fine"] * 7]
    told: list[str] = []
    session = current()
    session._notify = told.append
    maas.predict("mood", {"review": texts})
    assert told == [
        f"2 of 10 rows of 'review' are longer than {predictor.processor.features[0].longest} tokens, and are cut there."
    ]
    told.clear()
    maas.predict("mood", {"review": ["short"] * 2_500})
    assert told == []
    maas.predict("mood", {"review": ["word " * 400, *["short"] * 2_500]})
    assert "1 of the first 2,000 rows" in told[0]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("text(clean=htm)", "no cleaning 'htm'"),
        ("text(clean=)", "not of the form"),
        ("text(clean=html", "not of the form"),
        ("text(cleaning=html)", "no option 'cleaning'"),
        ("image(clean=html)", "no option 'clean'"),
        ("tex(clean=html)", "not a kind of column"),
    ],
)
def test_what_cannot_be_declared_is_refused(declared: str, message: str, store: Path) -> None:
    with pytest.raises(OptionError, match=message):
        maas.train("mood", reviews(), "label", feature={"review": declared}, epochs=1)


def test_what_is_declared_is_taken_apart() -> None:
    assert parted("text") == ("text", {}) and parted("") == ("", {})
    assert parted("text( clean = html+lower , windows=4)") == ("text", {"clean": "html+lower", "windows": "4"})


def long_reviews(rows: int = 160) -> pd.DataFrame:
    """Reviews whose word that tells stands behind many others."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, rows)
    told = ["so and so " * int(rng.integers(6, 12)) + str(rng.choice(GOOD if y else BAD)) for y in label]
    return pd.DataFrame({"review": told, "label": label})


@pytest.mark.parametrize("model", ["textcnn", "transformer"])
def test_a_long_text_is_read_in_windows(model: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_columns, "trained", lambda texts: {**trained(texts), "longest": 16})
    rows, asked = long_reviews(), {"model": model, "epochs": 8, "lr": 5e-3, "batch_size": 8}
    told: list[str] = []
    cut = maas.train("mood", rows, "label", feature={"review": "text"}, **asked, callbacks=[keeping(told)])
    assert any("100% of the texts are longer than 16 tokens" in text and "windows=2" in text for text in told)
    read = maas.train("mood", rows, "label", feature={"review": "text(windows=4)"}, **asked)
    assert read.metrics["accuracy"] > 0.9 > cut.metrics["accuracy"]
    feature = current().backend.loader.predictor("mood").processor.features[0]
    texts = ["", "short", "so " * 40, "so " * 400]
    assert feature.enter(np.array(texts, dtype=object)[:, None]).shape == (4, 4, 16)
    assert feature.enter(np.array(texts[:2], dtype=object)[:, None]).shape[:2] == (2, 1)
    together = np.asarray(maas.predict("mood", {"review": texts})["probability_1"])
    alone = [np.asarray(maas.predict("mood", {"review": [text]})["probability_1"])[0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    for kind in ("onnx", "pt2"):
        assert maas.export("mood", kind).verification.max_abs_diff < 1e-4
    np.testing.assert_allclose(
        np.asarray(maas.predict("mood", {"review": texts})["probability_1"]), together, atol=1e-4
    )


def keeping(told: list[str]) -> Any:
    def keep(event: Any) -> None:
        told.append(getattr(event, "text", ""))

    return keep


def test_windows_are_counted_without_their_special_tokens(store: Path) -> None:
    from tokenizers import processors

    from maas_magics.core.features.tokens import tokenizer, window_ids

    made = trained(["a b c d e f g h"] * 3)
    special = tokenizer(made["tokenizer"], 0)
    special.post_processor = processors.TemplateProcessing("[UNK] $A [UNK]", special_tokens=[("[UNK]", 1)])
    feature = text_columns.TextFeature("t", **{**made, "tokenizer": special.to_str()}, longest=5, windows=3)
    assert feature.most_tokens == 11 and feature.cut(np.array([["a b c d e f g h a"], ["a " * 10]], dtype=object)) == 1
    (ids,) = window_ids(feature.tokenizer, ["a b c d e f g h a b c d"], 5, 3)
    assert len(ids) == 15 and [ids[place] for place in (0, 4, 5, 9, 10, 14)] == [1] * 6
    entered = feature.enter(np.array([["a b c d"], ["a"]], dtype=object))
    assert entered.shape == (2, 2, 5) and (entered[0, 1] != feature.padding).sum() == 3
    assert (entered[1, 1] == feature.padding).all()
    with pytest.raises(OptionError, match="windows is '0'"):
        maas.train("mood", reviews(), "label", feature={"review": "text(windows=0)"}, epochs=1)
