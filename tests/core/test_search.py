"""Rows of a table that are most like a text: ranked by the cosine, vectors kept, whatever the table is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import maas_magics as maas
from maas_magics.api.errors import DataError, NotFound, OptionError
from maas_magics.api.results import Prediction
from maas_magics.api.search import SearchResult
from maas_magics.core.searching import Vectors, nearest, normalised
from maas_magics.session import current

TOPICS = ("trains", "bread", "rivers", "music")


def faq() -> pd.DataFrame:
    topics = [TOPICS[i % 4] for i in range(80)]
    return pd.DataFrame(
        {
            "question": [f"what is there to know of {topic} number {i}" for i, topic in enumerate(topics)],
            "answer": [f"all about {topic.upper()} stands in book {i}" for i, topic in enumerate(topics)],
            "page": range(80),
        }
    )


@pytest.fixture
def near(store: Path) -> pd.DataFrame:
    rows = faq()
    maas.train("near", data=rows, pairs=("question", "answer"), model="textcnn", epochs=6, lr=5e-3)
    return rows


def test_rows_are_ranked_by_the_cosine_of_their_vectors(near: pd.DataFrame) -> None:
    query = "what do you know of rivers"
    found = maas.search("near", query, near, k=5)
    assert isinstance(found, SearchResult) and len(found) == 5 and found.model == "near:1"
    assert found.column == "answer" and found.queries == (query,)
    (asked,) = maas.predict("near", {"question": [query]})["prediction"]
    every = np.stack(list(maas.predict("near", near[["answer"]])["prediction"])) @ asked
    table = found.to_pandas()
    assert list(table) == ["row", "score", "question", "answer", "page"]
    np.testing.assert_allclose(table.score, np.sort(every)[::-1][:5], atol=1e-5)
    assert table.answer.tolist() == near.answer[table.row].tolist() and table.page.tolist() == table.row.tolist()
    assert sum("RIVERS" in text for text in table.answer) >= 4
    assert [row["row"] for row in found] == table.row.tolist()
    by_question = maas.search("near", near.question[7], near, k=1, column="question")
    assert by_question.to_pandas().row.tolist() == [7] and by_question.to_pandas().score[0] == pytest.approx(1)


def test_a_table_may_be_anything_with_texts(near: pd.DataFrame, tmp_path: Path) -> None:
    near.to_csv(tmp_path / "faq.csv", index=False)
    want = maas.search("near", "bread", near, 3).to_pandas().row.tolist()
    for data in (
        pl.from_pandas(near),
        pa.Table.from_pandas(near, preserve_index=False),
        str(tmp_path / "faq.csv"),
        near.astype({"answer": "category"}),
        near.answer,
        near.answer.tolist(),
        near.answer.to_numpy(),
        {"text": near.answer.tolist()},
    ):
        found = maas.search("near", "bread", data, 3)
        assert found.to_pandas().row.tolist() == want, type(data)
    assert maas.search("near", "bread", near.answer.tolist()).column == "text"
    assert len(maas.search("near", "bread", near.head(3), k=10)) == 3


def test_several_queries_have_their_rows_one_after_the_other(near: pd.DataFrame) -> None:
    queries = ["of trains", "of music"]
    found = maas.search("near", queries, near, k=4)
    table = found.to_pandas()
    assert table["query"].tolist() == ["of trains"] * 4 + ["of music"] * 4
    for query, rows in table.groupby("query"):
        alone = maas.search("near", str(query), near, k=4).to_pandas()
        assert rows.row.tolist() == alone.row.tolist()
        np.testing.assert_allclose(rows.score, alone.score, atol=1e-6)


def test_rows_without_text_are_never_found_and_equal_ones_come_in_their_order(near: pd.DataFrame) -> None:
    texts = ["", None, "  ", "all about bread", "all about bread", "rivers"]
    found = maas.search("near", "bread", pd.DataFrame({"answer": texts}), k=9).to_pandas()
    assert set(found.row) == {3, 4, 5}
    assert found.row.tolist().index(3) + 1 == found.row.tolist().index(4)


def test_columns_called_as_ours_have_a_mark(near: pd.DataFrame) -> None:
    found = maas.search("near", "bread", pd.DataFrame({"score": ["bread", "music"], "row": [8, 9]}))
    assert found.table.column_names == ["row", "score", "score_", "row_"] and found.column == "score_"
    assert "bread" in repr(found)


def test_vectors_of_a_table_are_kept(near: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    first = maas.search("near", "bread", near)
    asked: list[int] = []
    backend = current().backend
    plain = backend.predict

    def counted(request: Any) -> Prediction:
        asked.append(request.data.rows)
        return plain(request)

    monkeypatch.setattr(backend, "predict", counted)
    again = maas.search("near", "bread", near)
    assert asked == [1] and again.table.equals(first.table)
    maas.search("near", "bread", near.iloc[::-1])
    assert asked == [1, 80, 1]
    maas.train("near", data=near, pairs=("question", "answer"), model="textcnn", epochs=1)
    maas.search("near", "bread", near)
    assert asked == [1, 80, 1, 80, 1]  # those of another version are others


def test_no_more_vectors_are_kept_than_a_bound_allows() -> None:
    asked: list[str] = []

    def ask(texts: pa.Array) -> np.ndarray[Any, Any]:
        asked.append(texts[0].as_py())
        return np.ones((len(texts), 2), dtype=np.float32)

    kept = Vectors(most=40)
    for text in ("a", "b", "a", "c", "a", "b"):  # two of 16 bytes fit
        kept.of("m:1", pa.array([text, "x"]), ask)
    assert asked == ["a", "b", "c", "b"]
    kept.of("m:1", pa.array(list("long"[:4]) * 3), ask)
    kept.of("m:1", pa.array(list("long"[:4]) * 3), ask)
    assert asked[-2:] == ["l", "l"]  # one alone is too large


def test_the_nearest_are_those_of_a_full_sort() -> None:
    rng = np.random.default_rng(0)
    queries, vectors = (normalised(rng.integers(-2, 3, (n, 3)).astype(np.float32)) for n in (7, 40))
    codes = rng.integers(0, 40, 300)
    rows, scores = nearest(queries, vectors, codes, 11)
    every = queries @ vectors[codes].T
    np.testing.assert_array_equal(rows, np.argsort(-every, axis=1, kind="stable")[:, :11])
    np.testing.assert_array_equal(scores, np.take_along_axis(every, rows, axis=1))


def test_what_is_found_is_shown(near: pd.DataFrame) -> None:
    rows = pd.DataFrame({"answer": ["<b>bread</b>\n" + "and so on " * 30, "music"]})
    found = maas.search("near", "bread & <i>", rows)
    assert repr(found).startswith("<SearchResult near:1 · 'bread & <i>'>") and "…" in repr(found)
    html = found._repr_html_()
    assert "&lt;b&gt;bread" in html and "<b>" not in html and "bread &amp; &lt;i&gt;" in html


def test_what_cannot_be_searched_is_refused(near: pd.DataFrame) -> None:
    maas.train("plain", data=near, target="page", features=("question",), model="textcnn", epochs=1)
    with pytest.raises(OptionError, match="does not make vectors"):
        maas.search("plain", "bread", near)
    with pytest.raises(NotFound):
        maas.search("nobody", "bread", near)
    with pytest.raises(OptionError, match="k is 0"):
        maas.search("near", "bread", near, k=0)
    for query in ("", "  ", [], ["a", ""]):
        with pytest.raises(DataError, match="query is empty"):
            maas.search("near", query, near)
    with pytest.raises(DataError, match="no column 'answers'"):
        maas.search("near", "bread", near, column="answers")
    with pytest.raises(DataError, match="not texts"):
        maas.search("near", "bread", near, column="page")
    with pytest.raises(DataError, match="2 columns of texts: one, two"):
        maas.search("near", "bread", pd.DataFrame({"one": ["a"], "two": ["b"]}))
    with pytest.raises(DataError, match="holds no text"):
        maas.search("near", "bread", pd.DataFrame({"answer": ["", None]}))
    with pytest.raises(DataError, match="no rows"):
        maas.search("near", "bread", near.head(0))
