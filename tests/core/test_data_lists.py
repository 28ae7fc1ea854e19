"""Columns of lists are arrays where every row has as many numbers; others are told, and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import torch

from maas_magics.api.errors import DataError

E = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
A = np.linspace(-1, 1, 60)
LISTS: list[Any] = E.tolist()
GAPS = [None if place == 5 else row for place, row in enumerate(LISTS)]
IMAGES = np.arange(60 * 64).reshape(60, 8, 8) % 251
TABLES = {
    "arrays of numpy": pd.DataFrame({"e": list(E), "a": A}),
    "lists": pd.DataFrame({"e": LISTS, "a": A}),
    "lists, one missing": pd.DataFrame({"e": GAPS, "a": A}),
    "an Arrow type of pandas": pd.DataFrame({"e": pd.Series(list(E), dtype=pd.ArrowDtype(pa.list_(pa.float32())))}),
    "images": pd.DataFrame({"e": list(IMAGES.astype("uint8")), "a": A}),
    "Array of polars": pl.DataFrame({"e": pl.Series(E, dtype=pl.Array(pl.Float32, 3)), "a": A}),
    "List of polars": pl.DataFrame({"e": LISTS, "a": A}),
    "List of polars, one missing": pl.DataFrame({"e": GAPS, "a": A}),
    "Array of two axes": pl.DataFrame(
        {"e": pl.Series(E[:, :2, None] + E[:, None, :2], dtype=pl.Array(pl.Float32, (2, 2)))}
    ),
    "fixed_size_list": pa.table({"e": pa.FixedSizeListArray.from_arrays(pa.array(E.ravel()), 3), "a": A}),
    "decimals": pa.table({"e": pa.array(LISTS).cast(pa.list_(pa.float32())).cast(pa.list_(pa.float64())), "a": A}),
}


@pytest.mark.parametrize("kind", list(TABLES))
def test_lists_of_one_length_are_arrays(lab, kind):
    table = TABLES[kind]
    trained = lab.train(table, A + E[:, 0])
    shape = {"images": (-1, 64), "Array of two axes": (-1, 4)}.get(kind, (-1, 3))
    assert trained.info.signature.inputs[0].shape == shape
    answers = lab.predict(table)
    assert np.isfinite(np.asarray(answers["prediction"])).all() and len(answers) == 60
    some = lab.predict(table[:7] if not isinstance(table, pa.Table) else table.slice(0, 7))
    assert np.asarray(some["prediction"]) == pytest.approx(np.asarray(answers["prediction"])[:7], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["lists", "lists, one missing", "List of polars", "Array of polars"])
def test_lists_of_a_file_are_arrays(lab, tmp_path, kind, stream):
    path = str(tmp_path / "rows.parquet")
    table = TABLES[kind]
    table = table.assign(y=A) if isinstance(table, pd.DataFrame) else table.with_columns(y=pl.lit(1) * pl.col("a"))
    table.to_parquet(path) if isinstance(table, pd.DataFrame) else table.write_parquet(path)
    trained = lab.train(path, "y", stream=stream)
    assert trained.info.signature.inputs[0].shape == (-1, 3)
    assert len(lab.predict(path)) == 60


@pytest.mark.parametrize("stream", [False, True])
def test_lists_of_several_lengths_are_told(lab, tmp_path, stream):
    rows = pd.DataFrame({"e": [row[: 2 + (place > 50)] for place, row in enumerate(LISTS)], "a": A, "y": A})
    data: Any = rows
    if stream:
        data = str(tmp_path / "rows.parquet")
        rows.to_parquet(data)
    with pytest.raises(DataError, match="'e' holds .*lists of several lengths") as error:
        lab.train(data, "y", stream=stream)
    assert "--drop e" in error.value.hint
    assert lab.train(data, "y", stream=stream, drop="e").info.signature.inputs[0].name == "a"


@pytest.mark.parametrize(
    "values",
    [
        [["p", "q"]] * 60,
        [{"u": "x", "v": 1}] * 60,
        [[{"u": "x"}]] * 60,
        [{"u": [["x"]]}] * 60,
        [b"x", b"yy"] * 30,
    ],
)
@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_what_no_model_takes_is_told_whatever_library_it_came_from(lab, values, library):
    table = library({"s": values, "a": A, "y": A})
    with pytest.raises(DataError, match="Column 's' holds .*, which no model here takes") as error:
        lab.train(table, "y")
    assert "--drop s" in error.value.hint
    assert lab.train(table, "y", drop="s").info.signature.inputs[0].name == "a"


TAGS = [["p"], ["p", "q"]] * 30


@pytest.mark.parametrize(
    ("data", "target", "hint"),
    [
        (pd.DataFrame({"a": A, "t": TAGS}), "t", "get_dummies"),
        (pl.DataFrame({"a": A, "t": TAGS}), "t", "list.contains"),
        (pl.DataFrame({"a": A, "t": [[1], [1, 2]] * 30}), "t", "list.contains"),
        (A[:, None], TAGS, "MultiLabelBinarizer"),
        (A[:, None], [["p", "q"]] * 60, "MultiLabelBinarizer"),
    ],
)
def test_lists_of_labels_become_columns(lab, data, target, hint):
    with pytest.raises(DataError, match="one column of 0 and 1 for each label was expected") as error:
        lab.train(data, target)
    assert hint in error.value.hint


def test_what_is_said_of_lists_of_labels_holds():
    df = pd.DataFrame({"a": A, "t": TAGS})
    labels = df.pop("t").map(lambda row: "|".join(map(str, row))).str.get_dummies()
    assert labels.to_dict("list") == {"p": [1] * 60, "q": [0, 1] * 30}
    table = pl.DataFrame({"a": A, "t": TAGS})
    names = sorted(table["t"].explode().unique().to_list())
    table = table.with_columns(pl.col("t").list.contains(name).cast(pl.Int8).alias(str(name)) for name in names)
    assert table["q"].to_list() == [0, 1] * 30


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_as_many_numbers_a_row_are_several_labels(lab, library):
    rows = library({"a": A, "y": [[place % 2, place % 3 // 2] for place in range(60)]})
    assert lab.train(rows, "y").info.task == "multilabel"
    assert lab.evaluate(rows, "y").values == lab.evaluate(rows).values


def test_a_column_of_lists_that_was_learnt_is_found_again(lab, tmp_path):
    rows = pd.DataFrame({"a": A, "y": [[float(place), place / 2] for place in range(60)]})
    lab.train(rows, "y")
    rows.to_parquet(tmp_path / "rows.parquet")
    values = lab.evaluate(rows).values
    assert "rmse" in values and lab.evaluate(str(tmp_path / "rows.parquet")).values == pytest.approx(values)


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array", "coo_matrix"])
def test_a_sparse_matrix_is_told_how_to_become_an_array(lab, kind):
    sparse = getattr(scipy.sparse, kind)(np.eye(60, 5))
    for data, target in ((sparse, A), ({"s": sparse, "a": A}, A), (A[:, None], sparse)):
        with pytest.raises(DataError, match=f"A sparse matrix \\({kind}, 60 × 5\\)") as error:
            lab.train(data, target)
        assert ".toarray()" in error.value.hint
    with pytest.raises(DataError, match="takes|sparse"):
        lab.predict(sparse) if lab.train(sparse.toarray(), A) else None


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (pd.to_timedelta(A, unit="h"), "a length of time"),
        ((A * 100).astype("timedelta64[D]"), "a length of time"),
    ],
)
def test_the_unit_of_a_length_of_time_is_told(lab, values, what):
    told = f"The target 'y' is {what}: it is learnt and answered in seconds."
    assert told in lab.train(pd.DataFrame({"a": A, "y": values}), "y").notes
    assert told in lab.train(A[:, None], np.asarray(values)).notes


def test_tensors_of_torch_in_a_table_are_arrays(lab):
    rows = pd.DataFrame({"e": list(torch.from_numpy(E)), "a": A})
    assert lab.train(rows, A).info.signature.inputs[0].shape == (-1, 3)
    assert len(lab.predict(rows)) == 60


def test_lists_that_a_model_does_not_take_are_told(lab):
    rows = pd.DataFrame({"e": LISTS, "a": A})
    lab.train(rows, A)
    for values, what in (([row[:2] for row in LISTS], "rows of 2 numbers"), ([[1.0], [1.0, 2.0]] * 30, "lists of")):
        with pytest.raises(DataError, match=f"holds {what}.*; the model was trained on rows of 3 numbers") as error:
            lab.predict(rows.assign(e=values))
        assert error.value.hint == "Give that width."


@pytest.mark.parametrize("values", [LISTS, TAGS])
def test_lists_are_no_groups(lab, values):
    with pytest.raises(DataError, match="The column of groups is of type .*; labels or numbers"):
        lab.train(pl.DataFrame({"e": values, "a": A, "y": A}), "y", validation="group:e")
