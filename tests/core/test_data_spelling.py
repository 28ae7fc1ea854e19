"""A text and the value it is are the same on every way in: table, files, cell, JSON, tensors, exported graph."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from maas_magics.core.data.text import read_rows

WORDS = [
    "NA", "null", "nan", "None", "N/A", "NaN", "NULL", "n/a", "#N/A", "-", "?", "true", "True", "FALSE", "1", "1.0",
    "007", "1e3", "0x10", "inf", "-0", "2020-01-01", "2020-01-01T00:00:00", "12:30", "1,5", " a", "a ", "  ", "a",
    "A", 'quo"te', "semi;colon", "tab\there", "new\nline", "ü", "É", "1_000", "1 000", "$5", "50%",
]  # fmt: skip


@pytest.fixture
def asked(lab) -> pd.DataFrame:
    """A model of texts that readers like to take for something else, and the rows that it is asked."""
    frame = pd.DataFrame({"k": np.repeat(WORDS, 4), "n": np.arange(4 * len(WORDS)) % 7})
    frame["y"] = np.random.default_rng(0).normal(size=len(frame)).cumsum()
    lab.train(frame, "y", model="mlp", epochs=3)
    assert len(lab.session.backend.loader.predictor("m").processor.features[0].values) == len(WORDS)
    return frame[["k", "n"]].iloc[::4].reset_index(drop=True)


def _by_row(lab: Any, rows: list[Any]) -> np.ndarray:
    return np.concatenate([np.asarray(lab.predict(row)["prediction"]) for row in rows])


@pytest.mark.parametrize(
    "form", ["csv", "csv ;", "tsv", "csv quoted", "parquet", "jsonl", "json", "arrow", "polars csv"]
)
def test_a_file_asks_the_same_as_the_table(lab, asked, tmp_path, form):
    wanted = np.asarray(lab.predict(asked)["prediction"])
    assert len(np.unique(wanted)) > len(WORDS) // 2
    path = tmp_path / f"rows.{form.split()[-1] if form.startswith('polars') else form.split()[0]}"
    write = {
        "csv": lambda: asked.to_csv(path, index=False),
        "csv ;": lambda: asked.to_csv(path, index=False, sep=";"),
        "tsv": lambda: asked.to_csv(path, index=False, sep="\t"),
        "csv quoted": lambda: asked.to_csv(path, index=False, quoting=1),
        "parquet": lambda: asked.to_parquet(path),
        "jsonl": lambda: asked.to_json(path, orient="records", lines=True),
        "json": lambda: asked.to_json(path),
        "arrow": lambda: pl.from_pandas(asked).write_ipc(path),
        "polars csv": lambda: pl.from_pandas(asked).write_csv(path),
    }
    write[form]()
    assert np.array_equal(lab.predict(path)["prediction"], wanted)
    single = []
    for i in range(len(asked)):  # a reader tells a type from what it sees, so each row by itself as well
        row, asked_before = asked.iloc[[i]], asked
        asked = row
        write[form]()
        single.append(lab.predict(path)["prediction"][0])
        asked = asked_before
    assert np.allclose(single, wanted, atol=1e-6)


def _typed(lab: Any, text: str) -> np.ndarray:
    rows = read_rows(text, lab.session.backend.models.get("m").signature.inputs)
    return np.asarray(lab.predict(rows)["prediction"])


def test_a_cell_asks_the_same_as_the_table(lab, asked):
    wanted = np.asarray(lab.predict(asked)["prediction"])
    plain = asked[~asked["k"].str.contains("\n")]
    some = wanted[plain.index]
    for separator in (",", ";", "\t"):
        assert np.allclose(_typed(lab, plain.to_csv(index=False, sep=separator)), some, atol=1e-6)
    assert np.allclose(_typed(lab, asked.to_json(orient="records")), wanted, atol=1e-6)
    assert np.allclose(_typed(lab, asked.to_json(orient="records", lines=True)), wanted, atol=1e-6)
    for i in range(len(asked)):
        row = asked.iloc[[i]]
        assert np.allclose(_typed(lab, row.to_json(orient="records")), wanted[i], atol=1e-6)
        if "\n" not in asked["k"][i]:
            assert np.allclose(_typed(lab, row.to_csv(index=False)), wanted[i], atol=1e-6), asked["k"][i]
            assert np.allclose(
                _typed(lab, "n,k\n" + row[["n", "k"]].to_csv(index=False, header=False)), wanted[i], atol=1e-6
            )


def test_rows_of_any_library_tensors_and_the_graph_ask_the_same(lab, asked, tmp_path):
    wanted = np.asarray(lab.predict(asked)["prediction"])
    for data in (pl.from_pandas(asked), pa.Table.from_pandas(asked), asked.to_dict("list"), asked.to_dict("records"),
                 asked.astype({"k": "category"}), asked.astype(object)):  # fmt: skip
        assert np.allclose(np.asarray(lab.predict(data)["prediction"]), wanted, atol=1e-6)
    tensors = {"k": asked["k"].to_numpy(dtype=object)[:, None], "n": asked["n"].to_numpy(dtype="float64")[:, None]}
    assert np.allclose(lab.session.backend.infer("m", tensors).outputs["prediction"], wanted, atol=1e-6)
    lab.export()
    assert np.allclose(lab.session.backend.infer("m", tensors).outputs["prediction"], wanted, atol=1e-6)
    assert np.allclose(lab.predict(asked)["prediction"], wanted, atol=1e-6)


def test_labels_that_readers_take_for_something_else_are_labels_in_a_file(lab, tmp_path):
    labels = ["NA", "null", "007", "1e3", "true"]
    frame = pd.DataFrame({"x": np.arange(50) % 5 * 1.0, "y": np.resize(labels, 50)})
    lab.train(frame, "y", epochs=2)
    for name in ("rows.csv", "rows.json"):
        for part in (frame, frame[frame["y"] == "007"], frame[frame["y"] == "NA"]):
            if name == "rows.csv":
                part.to_csv(tmp_path / name, index=False)
            else:
                part.to_json(tmp_path / name, orient="records")
            found = lab.evaluate(tmp_path / name)
            assert found.rows == len(part)
            assert found["accuracy"] == lab.evaluate(part)["accuracy"]


def test_a_file_held_out_is_read_like_the_one_trained_on(lab, tmp_path):
    frame = pd.DataFrame({"k": np.resize(["A1", "007", "8"], 30), "y": np.arange(30) % 3 / 2})
    frame.to_csv(tmp_path / "train.csv", index=False)
    frame[frame["k"] != "A1"].to_csv(tmp_path / "held.csv", index=False)
    for stream in (None, True):
        lab.train(tmp_path / "train.csv", "y", validation=tmp_path / "held.csv", stream=stream, epochs=30)
        by_table = lab.train(
            tmp_path / "train.csv", "y", validation=frame[frame["k"] != "A1"], stream=stream, epochs=30
        )
        by_file = lab.train(tmp_path / "train.csv", "y", validation=tmp_path / "held.csv", stream=stream, epochs=30)
        assert by_file.metrics == by_table.metrics


def test_a_csv_file_learns_the_texts_that_the_table_has(lab, tmp_path):
    frame = pd.DataFrame({"k": np.resize(["NA", "null", "x", "-", None], 50), "v": np.arange(50) / 8, "y": [0, 1] * 25})
    frame.loc[3, "v"] = np.nan
    frame.to_csv(tmp_path / "rows.csv", index=False, na_rep="")
    for data in (frame, tmp_path / "rows.csv"):
        lab.train(data, "y")
        assert lab.columns == {"k": "category", "v": "number"}
        assert lab.session.backend.loader.predictor("m").processor.features[0].values == ("-", "NA", "null", "x")
    (tmp_path / "r.csv").write_text(
        "v,y\n" + "\n".join(f"{'NA' if i % 5 == 0 else '?' if i % 7 == 0 else i},{i % 2}" for i in range(50))
    )
    lab.train(tmp_path / "r.csv", "y")
    assert lab.columns == {"v": "number"}


@pytest.mark.parametrize(
    ("values", "other"),
    [
        (pd.Categorical([1.0, 2.5, 30.0] * 10), ["1.0", "2.5", "30.0"]),
        (pd.Categorical([1, 2, 30] * 10), ["1", "2.0", "30"]),
        (pd.Categorical([True, False, None] * 10), ["True", "FALSE", ""]),
        (
            pd.Categorical(pd.to_datetime(["2020-01-01 00:00", "2021-06-01 12:30", None] * 10)),
            ["2020-01-01", "2021-06-01 12:30:00", ""],
        ),
        ([True, "x", 2.0] * 10, ["True", "x", "2.0"]),
    ],
)
def test_values_that_are_no_texts_have_their_usual_spellings(lab, tmp_path, values, other):
    frame = pd.DataFrame({"k": values, "y": [0.0, 1.0, 5.0] * 10})
    lab.train(frame, "y", epochs=5)
    wanted = np.asarray(lab.predict(frame[["k"]].head(3))["prediction"])
    assert len(np.unique(wanted)) == 3
    frame[["k"]].head(3).to_csv(tmp_path / "rows.csv", index=False)
    assert np.allclose(lab.predict(tmp_path / "rows.csv")["prediction"], wanted, atol=1e-6)
    if lab.columns["k"] == "category":
        assert np.allclose(lab.predict({"k": other})["prediction"], wanted, atol=1e-6)
        tensors = {"k": np.array(other, dtype=object)[:, None]}
        lab.export()
        assert np.allclose(lab.session.backend.infer("m", tensors).outputs["prediction"], wanted, atol=1e-6)


def test_a_cell_is_read_as_it_is_typed(lab):
    inputs = lab.train({"k": ["a", " b"] * 9, "v": np.arange(18) / 4, "y": [0, 1] * 9}, "y").info.signature.inputs
    read = lambda text: read_rows(text, inputs).to_dict("list")  # noqa: E731
    assert read("k,v\na,1\n") == {"k": ["a"], "v": [1]}
    assert read("k,v\n b,1\n")["k"] == [" b"]
    assert read("k, v\na, 1\n") == {"k": ["a"], "v": [1]}
    only = lab.train({"k": ["a", " b"] * 9, "y": [0, 1] * 9}, "y").info.signature.inputs
    assert read_rows("k\n b\na\n", only)["k"].tolist() == [" b", "a"]
    assert read("v, k\n1, a\n") == {"v": [1], "k": ["a"]}
    assert read("v;k\n1,5;a\n") == {"v": [1.5], "k": ["a"]}
    assert read('k,v\n"a,b",NA\n')["k"] == ["a,b"]
    assert read('{"k": 7, "v": 1}')["k"] == ["7"]
    assert read(json.dumps([{"k": "x", "v": 1}, {"k": True, "v": "2"}])) == {"k": ["x", "true"], "v": [1.0, 2.0]}


# --- free text ---

SENTENCES = ["I love this film", "what a waste of time", "it was rather good", "never again for me"]


def test_a_column_of_sentences_is_named_with_what_to_do(lab):
    lab.train({"review": SENTENCES * 10, "y": [1, 0, 1, 0] * 10}, "y")
    told = next(text for text in lab.messages if "holds free text" in text)
    assert told.startswith("Column 'review' holds free text (sentences such as ")
    assert "TfidfVectorizer" in told
    lab.train({"city": ["New York", "Oslo", "Rome"] * 10, "y": [1, 0, 1] * 10}, "y")
    assert not any("sentences" in text for text in lab.messages)


@pytest.mark.parametrize("stream", [None, True])
def test_sentences_that_all_differ_are_said_to_be_why_nothing_is_left(lab, tmp_path, stream):
    frame = pd.DataFrame({"review": [f"{text}, number {i}" for i, text in enumerate(SENTENCES * 10)], "y": [1, 0] * 20})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(Exception, match="No column is usable as a feature. Column 'review' holds free text") as error:
        lab.train(tmp_path / "rows.csv" if stream else frame, "y", stream=stream)
    assert "embeddings" in error.value.hint


def test_answers_that_rest_on_nothing_carry_a_warning(lab):
    said: list[str] = []
    lab.session._notify = said.append
    lab.train({"review": SENTENCES * 10, "n": np.arange(40), "y": [1, 0, 1, 0] * 10}, "y")
    lab.predict({"review": SENTENCES, "n": [1, None, 3, 4]})
    lab.predict({"review": ["unseen", *SENTENCES[1:]], "n": [1, None, 3, 4]})
    assert said == []
    lab.predict({"review": ["unseen", None, *SENTENCES[2:]], "n": [None, None, 3, None]})
    assert said == [
        "2 of 4 answers rest on nothing: every value of their rows is missing, or a text that was not learnt."
    ]
    lab.predict([{"review": "unseen", "n": None}])
    assert said[1] == "The answer rests on nothing: every value of its row is missing, or a text that was not learnt."


def test_lists_in_json_are_the_arrays_that_they_spell(lab, rng):
    v = rng.normal(size=(20, 3))
    lab.train({"v": v, "n": np.arange(20)}, v[:, 0] * 2, model="mlp")
    wanted = lab.predict({"v": v, "n": np.arange(20)})
    rows = [{"v": row.tolist(), "n": i} for i, row in enumerate(v)]
    assert np.allclose(lab.predict(rows)["prediction"], wanted, atol=1e-6)
    assert np.allclose(_typed(lab, json.dumps(rows)), wanted, atol=1e-6)


@pytest.mark.parametrize("stream", [False, True])
def test_numbers_with_zeros_in_front_are_texts_in_a_file_as_in_a_table(lab, tmp_path, stream):
    codes = np.array(["01234", "1234", "98765"])[np.arange(90) % 3]
    frame = pd.DataFrame({"zip": codes, "a": np.arange(90) % 7 * 0.5, "n": np.arange(90) % 10})
    frame["y"] = np.where(codes == "01234", "007", "7")
    frame.to_csv(tmp_path / "codes.csv", index=False)
    model = lab.train(str(tmp_path / "codes.csv"), "y", epochs=30, lr=0.1, stream=stream)
    assert model.info.classes == ("007", "7")
    assert [spec.datatype for spec in model.info.signature.inputs] == ["BYTES", "FP64", "FP64"]
    answers = lab.predict(frame.drop(columns="y"))
    assert answers["prediction"].tolist() == frame["y"].tolist()
    assert lab.predict(str(tmp_path / "codes.csv"))["prediction"].tolist() == frame["y"].tolist()
