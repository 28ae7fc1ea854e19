"""Every form in which rows come: train, predict, the same library out, the same answers."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import duckdb
import fsspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pytest
import torch

from maas_magics.api.errors import DataError
from maas_magics.core.data.sources import open_source


def _probability(answers: Any) -> np.ndarray:
    if isinstance(answers, duckdb.DuckDBPyRelation):
        answers = answers.to_arrow_table()
    return np.asarray(answers["probability_yes"])


def _structured(frame: pd.DataFrame) -> np.ndarray:
    return frame.fillna({"kind": ""}).to_records(index=False, column_dtypes={"kind": "U1", "label": "U3"})


TABLES: dict[str, tuple[Callable[[pd.DataFrame], Any], type]] = {
    "pandas": (lambda f: f, pd.DataFrame),
    "pandas_arrow": (lambda f: f.convert_dtypes(dtype_backend="pyarrow"), pd.DataFrame),
    "pandas_nullable": (lambda f: f.convert_dtypes(), pd.DataFrame),
    "pandas_category": (lambda f: f.astype({"kind": "category", "label": "category"}), pd.DataFrame),
    "pandas_object": (lambda f: f.astype(object), pd.DataFrame),
    "polars": (pl.from_pandas, pl.DataFrame),
    "polars_lazy": (lambda f: pl.from_pandas(f).lazy(), pl.DataFrame),
    "polars_categorical": (lambda f: pl.from_pandas(f).with_columns(pl.col("kind").cast(pl.Categorical)), pl.DataFrame),
    "polars_enum": (
        lambda f: pl.from_pandas(f).with_columns(pl.col("kind").cast(pl.Enum(["p", "q", "r"]))),
        pl.DataFrame,
    ),
    "polars_date": (lambda f: pl.from_pandas(f).with_columns(pl.col("when").cast(pl.Date)), pl.DataFrame),
    "polars_ns": (lambda f: pl.from_pandas(f).with_columns(pl.col("when").cast(pl.Datetime("ns"))), pl.DataFrame),
    "arrow_table": (lambda f: pa.Table.from_pandas(f, preserve_index=False), pa.Table),
    "arrow_batch": (lambda f: pa.RecordBatch.from_pandas(f, preserve_index=False), pa.Table),
    "arrow_chunked": (
        lambda f: pa.concat_tables(pa.Table.from_pandas(f[i : i + 7], preserve_index=False) for i in range(0, 60, 7)),
        pa.Table,
    ),
    "arrow_stream": (
        lambda f: pa.Table.from_pandas(f, preserve_index=False).to_reader(max_chunksize=9),
        pa.Table,
    ),
    "duckdb_relation": (lambda f: duckdb.connect().from_df(f), duckdb.DuckDBPyRelation),
    "duckdb_result": (lambda f: duckdb.connect().execute("select * from f"), duckdb.DuckDBPyRelation),
    "dict_of_arrays": (lambda f: {name: f[name].to_numpy() for name in f}, dict),
    "dict_of_lists": (lambda f: {name: f[name].tolist() for name in f}, dict),
    "dict_of_series": (lambda f: {name: f[name] for name in f}, dict),
    "list_of_dicts": (lambda f: f.to_dict("records"), dict),
    "structured": (_structured, dict),
}


@pytest.fixture
def reference(lab, frame) -> np.ndarray:
    lab.train(frame, "label", name="reference", epochs=2)
    return _probability(lab.predict(frame, "reference"))


@pytest.mark.parametrize("form", TABLES)
def test_every_kind_of_table_trains_to_the_same_model_and_gets_its_own_kind_back(lab, frame, reference, form):
    make, kind = TABLES[form]
    lab.train(make(frame), "label", epochs=2)
    own = lab.predict(make(frame))
    assert isinstance(own, kind)
    assert np.abs(_probability(own) - reference).max() < 1e-6
    assert np.abs(_probability(lab.predict(make(frame), "reference")) - reference).max() < 1e-6
    assert lab.columns == lab.columns | {
        "size": "number", "count": "number", "flag": "number", "kind": "category", "when": "timestamp"
    }  # fmt: skip


def _write(name: str, frame: pd.DataFrame, folder: pathlib.Path) -> Any:
    path = folder / name
    table = pa.Table.from_pandas(frame, preserve_index=False)
    match name:
        case "rows.csv" | "rows.csv.gz" | "rows.txt":
            frame.to_csv(path, index=False)
        case "rows.tsv":
            frame.to_csv(path, index=False, sep="\t")
        case "rows.parquet" | "rows.pq":
            frame.to_parquet(path)
        case "rows.jsonl" | "rows.ndjson":
            frame.to_json(path, orient="records", lines=True, date_format="iso")
        case "rows.feather":
            pyarrow.feather.write_feather(table, path)
        case "polars.arrow":
            pl.from_pandas(frame).write_ipc(path)
        case "folder" | "folder.of.parts":
            path.mkdir()
            for start in range(0, len(frame), 20):
                frame[start : start + 20].to_parquet(path / f"part-{start:03}.parquet")
    return path


FILES = (
    "rows.csv", "rows.csv.gz", "rows.txt", "rows.tsv", "rows.parquet", "rows.pq", "rows.jsonl", "rows.ndjson",
    "rows.feather", "polars.arrow", "folder", "folder.of.parts",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_trains_and_answers_by_path_and_by_url(lab, frame, reference, tmp_path, name):
    path = _write(name, frame, tmp_path)
    lab.train(path, "label", epochs=2)
    for place in (path, str(path), f"file://{path}"):
        answers = lab.predict(place)
        assert isinstance(answers, pd.DataFrame)
        assert np.abs(_probability(answers) - reference).max() < 1e-6


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_rows_behind_a_url_of_another_file_system_train_and_answer(lab, frame, reference, ending):
    url = f"memory://{ending}/rows.{ending}"
    with fsspec.open(url, "wb") as file:
        frame.to_csv(file, index=False) if ending == "csv" else frame.to_parquet(file)
    lab.train(url, "label", epochs=2)
    assert np.abs(_probability(lab.predict(f"memory://{ending}")) - reference).max() < 1e-6


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere.csv", "There is no file"),
        ("nowhere/", "There is no file"),
        ("rows.xlsx", "The format of"),
        ("memory://none/rows.csv", "There is no file"),
        ("nosuch://rows.csv", "cannot be opened"),
        ("broken.parquet", "cannot be read"),
        ("broken.jsonl", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(lab, tmp_path, monkeypatch, path, said):
    monkeypatch.chdir(tmp_path)
    for name in ("broken.parquet", "broken.jsonl", "rows.xlsx"):
        (tmp_path / name).write_text("{]")
    with pytest.raises(DataError, match=said):
        lab.train(path, "label")


def test_numbers_that_turn_up_late_in_a_csv_file_are_read(lab, tmp_path):
    whole, parts = 200_000, 3_000
    lines = [
        "a,b,c,y",
        *(f"{i % 7},,x,{i % 2}" for i in range(whole)),
        *(f"{i / 7},{i},z,{i % 2}" for i in range(parts)),
    ]
    file = tmp_path / "late.csv"
    file.write_text("\n".join(lines))
    table = open_source(file).table()
    assert table.num_rows == whole + parts
    assert table["a"][-1].as_py() == pytest.approx((parts - 1) / 7)
    assert [str(table[name][whole + 1]) for name in "abc"] == [str(1 / 7), "1", "z"]
    assert sum(chunk.num_rows for chunk in open_source(file).chunks(10_000)) == whole + parts


def test_pandas_index_is_kept_however_odd(lab, frame):
    for index in (
        [f"row {i}" for i in range(60)],
        range(600, 0, -10),
        [0] * 60,
        pd.MultiIndex.from_product([range(20), list("abc")]),
        pd.date_range("2020", periods=60),
    ):
        odd = frame.set_axis(index, axis=0)
        lab.train(odd, "label")
        answers = lab.predict(odd.drop(columns="label"))
        assert answers.index.equals(odd.index)
        assert np.array_equal(answers["prediction"], lab.predict(frame)["prediction"])


def test_answers_keep_the_order_of_the_rows(lab, frame, rng):
    lab.train(frame, "label", epochs=2)
    order = rng.permutation(60)
    straight, mixed = lab.predict(frame), lab.predict(frame.iloc[order])
    assert straight.iloc[order]["prediction"].equals(mixed["prediction"])
    assert np.allclose(straight.iloc[order]["probability_yes"], mixed["probability_yes"], atol=1e-6)


@pytest.mark.parametrize("columns", [[0, 1, "y"], [("a", 1), ("b", 1), ("y", "")], [0.5, None, "y"]])
def test_columns_may_be_named_by_anything(lab, rng, columns):
    frame = pd.DataFrame({"p": rng.normal(size=20), "q": rng.normal(size=20), "y": [0, 1] * 10})
    frame.columns = pd.MultiIndex.from_tuples(columns) if isinstance(columns[0], tuple) else columns
    target = str(frame.columns[-1])
    info = lab.train(frame, target).info
    assert [spec.name for spec in info.signature.inputs] == [str(name) for name in columns[:2]]
    assert len(lab.predict(frame)) == 20


def test_an_integer_or_a_tuple_names_a_target_column(lab, rng):
    frame = pd.DataFrame(rng.normal(size=(20, 3)))
    assert lab.train(frame, 2).info.target == ("2",)
    frame.columns = pd.MultiIndex.from_tuples([("a", 1), ("b", 1), ("y", "")])
    assert lab.train(frame, ("y", "")).info.target == ("('y', '')",)


def test_doubled_column_names_are_refused(lab):
    frame = pd.DataFrame([[1, 2, 0], [3, 4, 1]], columns=["a", "a", "y"])
    with pytest.raises(DataError, match="more than one column named 'a'") as error:
        lab.train(frame, "y")
    assert error.value.hint == "Rename one of them."


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int8", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(40,), (40, 3), (40, 4, 5), (40, 2, 3, 4)])
def test_arrays_of_any_number_type_and_shape_train_and_give_arrays(lab, rng, dtype, shape):
    x = (rng.random(shape) * 3).astype(dtype)
    y = rng.random(40)
    lab.train(x, y, model="mlp" if dtype == "float32" else "linear")
    answers = lab.predict(x)
    assert isinstance(answers, np.ndarray)
    assert answers.shape == (40,)
    assert np.allclose(answers, lab.predict(x.astype("float64")), atol=1e-5)


def test_an_array_that_is_not_contiguous_or_not_writable_is_read_as_it_is(lab, rng):
    x, y = rng.normal(size=(3, 40)), rng.random(40)
    frozen = x.T.copy()
    frozen.flags.writeable = False
    lab.train(x.T, y)
    assert np.array_equal(lab.predict(x.T), lab.predict(frozen))
    assert np.allclose(lab.predict(frozen[::-1]), lab.predict(frozen)[::-1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", ["pair", "lists", "torch", "series"])
def test_pairs_lists_and_tensors_train_like_arrays(lab, rng, form):
    x, y = rng.normal(size=(40, 3)), rng.random(40)
    lab.train(x, y, name="reference")
    match form:
        case "pair":
            lab.train((x, y))
        case "lists":
            lab.train(x.tolist(), y.tolist())
        case "torch":
            lab.train(torch.from_numpy(x).requires_grad_(), torch.from_numpy(y))
        case "series":
            lab.train(pd.DataFrame(x).to_numpy(), pd.Series(y, name="price"))
    assert np.array_equal(lab.predict(x), lab.predict(x, "reference"))
    assert isinstance(lab.predict(x.tolist()), np.ndarray)


def test_tensors_get_tensors_back_and_text_stays_an_array(lab, rng):
    x = torch.from_numpy(rng.normal(size=(40, 3)))
    lab.train(x, rng.random(40))
    assert isinstance(lab.predict(x), torch.Tensor)
    lab.train(x, rng.choice(["a", "b"], 40))
    assert isinstance(lab.predict(x, probabilities=True), torch.Tensor)
    assert isinstance(lab.predict(x), np.ndarray)


def test_a_table_may_have_its_target_beside_it(lab, frame):
    features, target = frame.drop(columns="label"), frame["label"]
    for data, answers in ((features, target), ((features, target), None), (features, target.tolist())):
        lab.train(data, answers)
        assert set(lab.predict(features)["prediction"]) <= {"yes", "no"}


def test_missing_texts_in_lists_are_missing_and_no_words(lab):
    lab.train({"kind": ["a", None, float("nan"), "b"] * 10, "y": [0, 1] * 20}, "y")
    encoded = lab.session.backend.loader.predictor("m").processor.features[0]
    assert encoded.values == ("a", "b")


def test_rows_as_dicts_may_lack_keys(lab):
    rows = [{"a": i, "y": i % 2} | ({"b": i / 2} if i % 3 else {}) for i in range(30)]
    lab.train(rows, "y")
    assert lab.columns == {"a": "number", "b": "number"}
    assert len(lab.predict([{"a": 1}, {"b": 2, "a": None}])["prediction"]) == 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (object(), "Cannot read data of type"),
        ({}, "The dict of arrays is empty"),
        ([[[1, 2]], [[3]]], "The rows differ in length"),
        (np.float64(3), "A single number is not data"),
        ({"a": [1, 2], "b": [1]}, "The arrays differ in length: a has 2, b has 1."),
        (np.ones((4, 2)) * 1j, "has dtype complex128"),
        (np.array([[{}, 1]] * 4, dtype=object), "has dtype object and 2 axes"),
        (pd.DataFrame(index=range(4)), "The table has no columns"),
        (pl.DataFrame(), "The table has no columns"),
    ],
)
def test_what_is_no_table_is_refused_in_words(lab, data, said):
    with pytest.raises(DataError, match=said):
        lab.train(data, [0, 1, 0, 1])


def test_a_lazy_table_is_worked_out_once(lab, frame):
    lab.train(frame, "label")
    calls = []
    lazy = pl.from_pandas(frame).lazy().map_batches(lambda part: calls.append(1) or part)
    lab.predict(lazy)
    assert len(calls) == 1
