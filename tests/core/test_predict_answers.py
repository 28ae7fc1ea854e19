"""Asking a model: forms of the answers, chunks, and the same answers through ONNX as through torch."""

from __future__ import annotations

import tracemalloc

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from torch import nn

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import DataError, InvalidName, ModelNotFound, OptionError
from maas_magics.core.inference.gather import gather

N = 60
X = np.sin(np.arange(N * 3.0)).reshape(N, 3).astype("float32")
THREE = np.array(["a", "b", "c"])[np.arange(N) % 3]


@pytest.fixture
def asked(lab, frame) -> pd.DataFrame:
    """Rows with everything that may differ from training, for a model that is trained."""
    lab.train(frame, "label", epochs=2)
    odd = frame.drop(columns="label").head(8).copy()
    odd.loc[0, "size"] = np.nan
    odd.loc[1, "size"] = np.inf
    odd.loc[2, "kind"] = "never"
    odd.loc[3, "kind"] = None
    odd.loc[4, "when"] = pd.NaT
    odd.loc[5, "when"] = pd.Timestamp("1812-06-24")
    odd.loc[6, "count"] = 10**9
    return odd


@pytest.mark.parametrize(("top", "columns"), [(1, 2), (2, 4), (9, 6)])
def test_the_likeliest_labels_stand_first(lab, top, columns):
    lab.train(pd.DataFrame(X).assign(y=THREE), "y", epochs=2)
    best, every = lab.predict(pd.DataFrame(X), top=top), lab.predict(pd.DataFrame(X))
    assert best.shape == (N, columns)
    assert list(best.columns)[:2] == ["top_1", "probability_1"]
    assert best["top_1"].equals(every["prediction"].rename("top_1"))
    ordered = np.sort(every.filter(like="probability").to_numpy(), axis=1)[:, ::-1]
    assert np.array_equal(best.filter(like="probability").to_numpy(), ordered[:, : columns // 2])
    for row in range(5):
        assert best.loc[row, "probability_1"] == every.loc[row, f"probability_{best.loc[row, 'top_1']}"]


def test_the_likeliest_labels_of_arrays_come_as_a_dict_of_arrays(lab):
    lab.train(X, THREE)
    best = lab.predict(X, top=2)
    assert list(best) == ["top_1", "probability_1", "top_2", "probability_2"]
    assert np.array_equal(best["top_1"], lab.predict(X))


@pytest.mark.parametrize("library", ["pandas", "polars", "arrow", "duckdb"])
def test_probabilities_are_there_unless_unwanted(lab, library):
    frame = pd.DataFrame(X, columns=list("pqr"))
    lab.train(frame.assign(y=THREE), "y")
    data = {
        "pandas": lambda: frame,
        "polars": lambda: pl.from_pandas(frame),
        "arrow": lambda: pa.Table.from_pandas(frame),
        "duckdb": lambda: duckdb.connect().from_df(frame),
    }[library]
    every = ["prediction", "probability_a", "probability_b", "probability_c"]
    for wanted, names in ((None, every), (True, every), (False, ["prediction"])):
        answers = lab.predict(data(), probabilities=wanted)
        assert list(answers.column_names if library == "arrow" else answers.columns) == names


def test_probabilities_of_many_labels_are_told_when_asked(lab):
    labels = np.array([f"l{i:02}" for i in range(30)])[np.arange(N) % 30]
    lab.train(pd.DataFrame(X).assign(y=labels), "y")
    assert list(lab.predict(pd.DataFrame(X)).columns) == ["prediction"]
    assert lab.predict(pd.DataFrame(X), probabilities=True).shape == (N, 31)


def test_arrays_get_one_array(lab):
    lab.train(X, THREE)
    assert lab.predict(X).shape == (N,)
    assert lab.predict(X, probabilities=True).shape == (N, 3)
    assert lab.predict(X[:1]).shape == (1,)


@pytest.mark.parametrize("exported", [False, True])
def test_what_makes_no_sense_of_quantities_is_refused(lab, exported):
    lab.train(X, X[:, 0])
    if exported:
        lab.export()
    for data in (X, X.astype("float64"), {"x": X}):
        for options in ({"top": 2}, {"probabilities": True}):
            with pytest.raises(OptionError, match="Probabilities are for labels; this model answers quantities"):
                lab.predict(data, **options)
        for options in ({"batch_size": 0}, {"batch_size": -3}, {"top": -1}):
            with pytest.raises(OptionError, match="A batch size is at least 1"):
                lab.predict(data, **options)


def test_the_likeliest_of_several_labels_a_row_is_refused(lab):
    lab.train(X, (X > 0).astype(int))
    with pytest.raises(OptionError, match="this model gives several") as error:
        lab.predict(X, top=1)
    assert error.value.hint == "Use --proba."


@pytest.mark.parametrize("data", [X[:0], pd.DataFrame(X)[:0], pl.DataFrame(X)[:0], [], {"x": []}])
def test_no_rows_are_no_question(lab, data):
    lab.train(X, THREE)
    with pytest.raises(DataError, match="The data has no rows") as error:
        lab.predict(data)
    assert error.value.hint == "Give at least one row to predict."


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (X[:, :2], "holds rows of 2 numbers; the model was trained on rows of 3 numbers"),
        (X[:, :, None].repeat(2, 2), "holds rows of 6 numbers"),
        (X[0], "trained on rows of 3 numbers"),
        (np.array([["a", "b", "c"]]), "dtype"),
        (pd.DataFrame(X), "The data lacks column 'x'."),
        (
            pd.DataFrame({"x": X[:, 0]}),
            "Column 'x' holds one number a row; the model was trained on rows of 3 numbers.",
        ),
    ],
)
def test_an_array_of_another_shape_is_refused(lab, data, said):
    lab.train(X, THREE)
    with pytest.raises(DataError) as error:
        lab.predict(data)
    assert said in error.value.message


@pytest.mark.parametrize(
    ("ref", "kind", "said"),
    [
        ("mm", ModelNotFound, "There is no model 'mm'."),
        ("m:7", ModelNotFound, "has no version 7"),
        ("m@best", ModelNotFound, "has no alias 'best'"),
        ("../m", InvalidName, "is not a valid model name"),
    ],
)
def test_a_model_that_is_not_there_is_named(lab, ref, kind, said):
    lab.train(X, THREE)
    with pytest.raises(kind, match=said) as error:
        lab.predict(X, ref)
    assert error.value.hint


def test_versions_and_aliases_answer_for_themselves(lab):
    lab.train(X, X[:, 0])
    lab.train(X, -X[:, 0], epochs=3)
    lab.session.backend.models.alias("m:1", "first")
    assert np.array_equal(lab.predict(X, "m@first"), lab.predict(X, "m:1"))
    assert np.array_equal(lab.predict(X), lab.predict(X, "m:2"))
    assert not np.array_equal(lab.predict(X), lab.predict(X, "m:1"))


@pytest.mark.parametrize(
    ("size", "exported"), [(1, False), (7, False), (59, False), (60, False), (1000, False), (7, True)]
)
def test_chunks_give_the_answers_of_one_go(lab, frame, exported, size):
    lab.train(frame, "label", epochs=2)
    if exported:
        lab.export()
    whole, parts = lab.predict(frame, batch_size=N), lab.predict(frame, batch_size=size)
    assert whole["prediction"].equals(parts["prediction"])
    assert np.allclose(whole.filter(like="prob"), parts.filter(like="prob"), atol=1e-6)


def test_a_file_is_answered_in_chunks_and_in_order(lab, tmp_path, rng):
    frame = pd.DataFrame({"a": rng.normal(size=30_000), "kind": rng.choice(["p", "q"], 30_000)})
    frame["y"] = frame["a"] * 3
    lab.train(frame[:500], "y", epochs=2)
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=7_001)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    expected = lab.predict(frame)["prediction"].to_numpy()
    for name in ("rows.parquet", "rows.csv"):
        assert np.allclose(lab.predict(tmp_path / name, batch_size=999)["prediction"], expected, atol=1e-4)


def test_many_rows_go_through_a_job_that_tells_its_progress(lab, rng):
    rows = pd.DataFrame(rng.normal(size=(25_000, 2)), columns=["a", "b"])
    lab.train(rows[:100].assign(y=np.arange(100) % 2), "y")
    before = {info.id for info in lab.session.backend.jobs()}
    assert len(lab.predict(rows)) == 25_000
    fresh: list[JobInfo] = [info for info in lab.session.backend.jobs() if info.id not in before]
    events = list(lab.session.backend.job(fresh[0].id).events(follow=False))
    done = [event.done for event in events if type(event).__name__ == "Progress"]
    assert done == sorted(done)
    assert done[-1] == 25_000


def test_answers_are_gathered_without_a_second_copy():
    rows, chunk = 400_000, 4_000

    def chunks():
        for start in range(0, rows, chunk):
            yield {"prediction": np.arange(start, start + chunk, dtype="float64"), "probabilities": np.ones((chunk, 4))}

    tracemalloc.start()
    try:
        found = gather(chunks(), rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = sum(values.nbytes for values in found.values())
    assert np.array_equal(found["prediction"], np.arange(rows))
    assert peak < size + 4 * size * chunk / rows


def test_labels_of_a_large_table_are_gathered_as_small_numbers_and_written_out_once(lab):
    """Text is a column of pandas' own kind: no object for each row on the way."""
    lab.train(pd.DataFrame({"a": X[:, 0], "y": THREE}), "y", epochs=1)
    frame = pd.DataFrame({"a": np.tile(X[:, 0], 3_000)})
    rows = frame.to_dict("list")["a"][:N]
    tracemalloc.start()
    try:
        found = lab.predict(frame)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found["prediction"].dtype == pd.Series(["a"]).dtype
    assert found["prediction"].tolist()[:N] == lab.predict(pd.DataFrame({"a": rows}))["prediction"].tolist()
    assert peak < 8 * len(frame) + 4 * 3 * len(frame), "an object array of labels alone would take the first of these"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("sizes", [[5], [2, 3], [1, 1, 1, 2]])
def test_chunks_are_joined_in_order_and_progress_is_told(known, sizes):
    told = []
    parts = np.split(np.arange(5), np.cumsum(sizes)[:-1])
    found = gather(({"p": part} for part in parts), 5 if known else None, lambda *done: told.append(done))
    assert found["p"].tolist() == [0, 1, 2, 3, 4]
    assert told == [(int(done), 5 if known else 0) for done in np.cumsum(sizes)]


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("mlp", "label"),
        ("mlp", ["size", "count"]),
        ("tabm", "label"),
        ("tabm", ["size", "count"]),
        ("linear", "count"),
        ("linear", "flag"),
        ("linear", "kind"),
        ("linear", ["flag", "many"]),
    ],
)
def test_the_export_answers_as_torch_does_for_every_kind_of_column(lab, frame, asked, model, target):
    table = frame.assign(
        many=frame["count"] > 40, size=frame["size"].fillna(0) if isinstance(target, list) else frame["size"]
    )
    lab.train(table, target, model=model, epochs=2)
    rows = asked.assign(label="yes", many=True)
    before = lab.predict(rows)
    lab.export()
    assert lab.session.backend.loader.predictor("m").engine is not None
    after = lab.predict(rows)
    assert list(before.columns) == list(after.columns)
    for name in before:
        if before[name].dtype.kind == "f":
            assert np.allclose(before[name], after[name], rtol=1e-4, atol=1e-4)
        else:
            assert before[name].equals(after[name])


@pytest.mark.parametrize("exported", [False, True])
def test_an_infinite_or_missing_number_an_unseen_text_and_an_old_date_get_answers(lab, asked, exported):
    if exported:
        lab.export()
    answers = lab.predict(asked)
    assert np.isfinite(answers.filter(like="probability")).all(axis=None)
    assert set(answers["prediction"]) <= {"yes", "no"}


def test_a_module_answers_through_its_export_as_through_torch(lab):
    images = np.abs(np.sin(np.arange(N * 64))).reshape(N, 8, 8).astype("float32")
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    lab.train(images, THREE, model=net, epochs=2)
    lab.export()
    assert lab.session.backend.loader.predictor("m").engine is not None
    with torch.no_grad():
        expected = torch.softmax(lab.net()(torch.from_numpy(images)), dim=1).numpy()
    for data in (images, images.astype("float64"), torch.from_numpy(images)):
        assert np.allclose(lab.predict(data, probabilities=True), expected, atol=1e-5)
    assert np.array_equal(lab.predict(images), np.array(["a", "b", "c"])[expected.argmax(1)])


def test_evaluate_scores_the_target_the_model_knows(lab, frame):
    lab.train(frame, "label", epochs=2)
    scored = lab.evaluate(frame)
    right = (lab.predict(frame)["prediction"] == frame["label"]).mean()
    assert scored["accuracy"] == pytest.approx(right)
    assert scored.classes == ("no", "yes")
    assert lab.evaluate(frame.rename(columns={"label": "truth"}), "truth").values == scored.values
    with pytest.raises(DataError, match="The data has no column 'label' to be the target"):
        lab.evaluate(frame.drop(columns="label"))
    with pytest.raises(DataError, match="'maybe', a label the model was not trained on"):
        lab.evaluate(frame.assign(label="maybe"))
    with pytest.raises(DataError, match="The data has no rows"):
        lab.evaluate(frame[:0])


IMAGES = np.random.default_rng(0).integers(0, 256, (30, 8, 6, 3)).astype("uint8")


@pytest.mark.parametrize(
    ("asked", "said", "hint"),
    [
        (IMAGES / 255, "The array holds float64", "(255 * x).round().astype('uint8')"),
        (IMAGES.astype("float32"), "The array holds float32", "Convert it: .astype('uint8')"),
        (IMAGES - 0.25, "The array holds float64", "Convert it: .round().astype('uint8')"),
        (IMAGES[0], "The array has shape (8, 6, 3)", "x[None]"),
        (IMAGES.transpose(0, 3, 1, 2), "The array holds arrays of shape (3, 8, 6)", "x.transpose(0, 2, 3, 1)"),
        (IMAGES.reshape(30, -1), "The array holds arrays of shape (144,)", "x.reshape(-1, 8, 6, 3)"),
        (IMAGES[:, :5], "The array holds arrays of shape (5, 6, 3)", "Give arrays of shape (n, 8, 6, 3)."),
    ],
)
def test_an_image_that_does_not_fit_is_told_what_mends_it(lab, asked, said, hint):
    lab.train(IMAGES, IMAGES[:, 0, 0, 0].astype(float), model="cnn")
    with pytest.raises(DataError) as error:
        lab.predict(asked)
    assert error.value.message.startswith(said) and error.value.hint.endswith(hint)
    if ".reshape" not in hint and ".transpose" not in hint and "(n," not in hint:
        x, typed = asked, hint.removeprefix("Convert it: ")
        mended = eval(typed if typed.startswith(("(", "x")) else f"x{typed}", {"x": x})
        assert len(lab.predict(mended)) == (1 if asked.ndim == 3 else 30)


def test_a_row_of_another_width_is_told_whether_it_is_one_row(lab):
    lab.train(IMAGES, IMAGES[:, 0, 0, 0].astype(float), model="mlp")
    with pytest.raises(DataError) as error:
        lab.predict(IMAGES[0])
    assert error.value.hint == "One row is x[None]."
