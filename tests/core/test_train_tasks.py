"""What a target is taken for, and how its answers come back."""

from __future__ import annotations

import decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maas_magics.api.errors import DataError, NotFound
from maas_magics.core.data.split import split
from maas_magics.core.tasks.fit import restored

N = 60
X = np.sin(np.arange(N * 2.0)).reshape(N, 2)
TWO = np.arange(N) % 2
THREE = np.arange(N) % 3


def _table(target: Any) -> pd.DataFrame:
    return pd.DataFrame(X, columns=["a", "b"]).assign(y=target)


LABELS: dict[str, tuple[Any, str, list[Any], type]] = {
    "two texts": (np.array(["no", "yes"])[TWO], "binary", ["no", "yes"], str),
    "booleans": (TWO == 1, "binary", [False, True], bool),
    "nullable booleans": (pd.array(TWO == 1, dtype="boolean"), "binary", [False, True], bool),
    "zero and one": (TWO, "binary", [0, 1], int),
    "zero and one as floats": (TWO.astype(float), "binary", [0, 1], float),
    "two whole numbers": (TWO * 4 - 1, "binary", [-1, 3], int),
    "two texts as a category": (pd.Categorical(np.array(["u", "v"])[TWO]), "binary", ["u", "v"], str),
    "three texts": (np.array(["a", "b", "c"])[THREE], "multiclass", ["a", "b", "c"], str),
    "three whole numbers": (THREE * 10, "multiclass", [0, 10, 20], int),
    "small unsigned numbers": (THREE.astype("uint8"), "multiclass", [0, 1, 2], int),
    "whole numbers as floats": (THREE * 10.0, "multiclass", [0, 10, 20], float),
    "whole numbers as a category": (pd.Categorical(THREE), "multiclass", [0, 1, 2], int),
    "nullable whole numbers": (pd.array(THREE, dtype="Int64"), "multiclass", [0, 1, 2], int),
    "decimals": ([decimal.Decimal(int(i)) for i in THREE], "multiclass", [0, 1, 2], decimal.Decimal),
    "texts and numbers": (np.array([1, "one", "uno"], dtype=object)[THREE], "multiclass", ["1", "one", "uno"], str),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_recognised_and_come_back_with_their_own_type(lab, kind):
    target, task, classes, python = LABELS[kind]
    info = lab.train(_table(target), "y").info
    assert info.task == task
    assert info.classes == tuple(map(str, classes))
    answers = lab.predict(_table(target))
    assert list(answers.columns) == ["prediction", *(f"probability_{label}" for label in classes)]
    assert set(answers["prediction"]) <= set(classes)
    assert all(isinstance(label, python) for label in answers["prediction"].tolist())
    assert np.allclose(answers.filter(like="probability").sum(axis=1), 1, atol=1e-6)
    likeliest = np.array(classes, dtype=object)[answers.filter(like="probability").to_numpy().argmax(axis=1)]
    assert answers["prediction"].tolist() == likeliest.tolist()


QUANTITIES = {
    "floats": np.linspace(0, 1, N),
    "many whole numbers": np.arange(N) * 3,
    "two fractions": np.where(TWO, 0.5, 1.5),
    "decimals": [decimal.Decimal(i) / 7 for i in range(N)],
    "nullable floats": pd.array(np.linspace(0, 1, N), dtype="Float64"),
    "few rows of different whole numbers": np.repeat(np.arange(N // 2), 2),
}


@pytest.mark.parametrize("kind", QUANTITIES)
def test_quantities_are_recognised_and_answered_in_one_column(lab, kind):
    info = lab.train(_table(QUANTITIES[kind]), "y").info
    assert (info.task, info.classes) == ("regression", ())
    answers = lab.predict(_table(0))
    assert list(answers.columns) == ["prediction"]
    assert answers["prediction"].dtype == "float64"


def test_several_columns_of_zero_and_one_are_labels_of_their_own(lab):
    frame = _table(TWO).assign(z=(THREE == 0), w=TWO * 1.0)
    assert lab.train(frame, ["y", "z", "w"]).info.task == "multilabel"
    answers = lab.predict(frame)
    assert list(answers.columns) == [f"{what}_{name}" for what in ("prediction", "probability") for name in "yzw"]
    assert answers["prediction_y"].dtype == bool
    assert np.array_equal(answers["prediction_z"], answers["probability_z"] >= 0.5)


def test_several_columns_of_quantities_are_answered_side_by_side(lab):
    frame = _table(np.linspace(5, 6, N)).assign(z=np.linspace(-300, 300, N))
    info = lab.train(frame, ["y", "z"], epochs=20).info
    assert info.task == "regression"
    answers = lab.predict(frame)
    assert list(answers.columns) == ["prediction_y", "prediction_z"]
    assert answers["prediction_y"].between(4, 7).all()


@pytest.mark.parametrize(
    ("target", "task", "shape"),
    [
        (np.stack([TWO, 1 - TWO], 1), "multilabel", (N, 2)),
        (np.stack([TWO == 1, TWO == 0], 1), "multilabel", (N, 2)),
        (np.linspace(0, 1, 3 * N).reshape(N, 3), "regression", (N, 3)),
        (np.linspace(0, 1, N).reshape(N, 1), "regression", (N,)),
        (TWO.reshape(N, 1), "binary", (N,)),
    ],
)
def test_arrays_of_two_axes_are_targets_too(lab, target, task, shape):
    assert lab.train(X, target).info.task == task
    assert lab.predict(X).shape == shape


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (THREE, "regression"),
        (TWO, "regression"),
        (np.arange(N) // 2, "multiclass"),
        (np.linspace(0, 1, N).round(1), "multiclass"),
        (TWO, "multiclass"),
        (TWO == 1, "regression"),
    ],
)
def test_the_task_can_be_chosen(lab, target, task):
    assert lab.train(_table(target), "y", task=task).info.task == task
    answers = lab.predict(_table(0))["prediction"]
    assert answers.dtype == ("float64" if task == "regression" else target.dtype)


@pytest.mark.parametrize(
    ("target", "task", "said", "hint"),
    [
        (THREE, "binary", "The target 'y' has 3 classes, not two.", "--task multiclass"),
        (np.array(["a", "b"])[TWO], "regression", "holds text, which is not a quantity", "--task multiclass learns"),
        (TWO, "multilabel", "several columns of 0 and 1", "--target a,b,c"),
        (np.zeros(N), None, "The target 'y' has one class only: 0.", "Give rows of at least two classes."),
        (np.array(["same"] * N), None, "has one class only: 'same'", "at least two classes"),
        ([None] * N, None, "The target 'y' is missing in every row.", "Give rows with the answers."),
        (np.full(N, np.nan), None, "The target 'y' is missing in every row.", "Give rows with the answers."),
        (np.where(TWO, np.inf, 1.5), None, "The target 'y' holds infinite values.", "Drop those rows."),
        (pd.date_range("2020", periods=N), None, "holds dates", "Turn them into numbers"),
        (pd.Series([[1, 2]] * N), None, "has the value 1 in every row", "varies"),
        (pd.Series([{"a": 1}] * N), None, "holds struct<", "Give labels or numbers."),
        (np.full(N, 3.5), None, "has the value 3.5 in every row", "varies"),
    ],
)
def test_a_target_that_cannot_be_learnt_says_why(lab, target, task, said, hint):
    with pytest.raises(DataError) as error:
        lab.train(_table(target), "y", task=task)
    assert said in error.value.message
    assert hint in error.value.hint
    assert lab.session.model_names() == []


@pytest.mark.parametrize(
    ("data", "target", "said", "hint"),
    [
        (_table(TWO), "yy", "The data has no column 'yy' to be the target.", "Did you mean 'y'?"),
        (_table(TWO), ["y", "bb"], "The data has no column 'bb' to be the target.", "Did you mean 'b'?"),
        (_table(TWO), None, "No target was named.", "--target COLUMN, one of: a, b, y"),
        (_table(TWO)[["y"]], "y", "The data has no column beside the target.", "at least one column of features"),
        (_table(TWO)[:0], "y", "The data has no rows.", "a few rows"),
        (_table(TWO)[:1], "y", "The data has one row only.", "a few rows"),
        (X, TWO[:50], "The data has 60 rows and the target 50.", "one target for each row"),
        (X[:0], TWO[:0], "The data has no rows.", "a few rows"),
        (X, np.full((N, 2), np.nan), "is missing in every row", "Give rows with the answers."),
        (X, [], "The data has 60 rows and the target 0.", "one target for each row"),
        (X, 3.5, "The target 3.5 is neither a column's name nor an array.", "--target COLUMN"),
    ],
)
def test_a_target_that_is_not_there_says_what_is(lab, data, target, said, hint):
    with pytest.raises(DataError) as error:
        lab.train(data, target)
    assert said in error.value.message
    assert hint in error.value.hint


@pytest.mark.parametrize("library", ["pandas", "polars", "numpy"])
def test_rows_without_an_answer_are_left_out(lab, library):
    target = np.where(THREE == 0, np.nan, TWO)
    kept = THREE != 0
    lab.train(X[kept], TWO[kept], name="reference")
    match library:
        case "pandas":
            lab.train(_table(target), "y")
        case "polars":
            lab.train(pl.from_pandas(_table(target)), "y")
        case "numpy":
            lab.train(X, target)
    asked = X if library == "numpy" else pd.DataFrame(X, columns=["a", "b"])
    assert np.array_equal(np.asarray(lab.predict(asked, probabilities=True))[..., -1] > 0, np.ones(N, bool))
    assert lab.session.backend.loader.model("m", 1).manifest.info.classes == ("0", "1")
    if library == "numpy":
        assert np.array_equal(lab.predict(X, probabilities=True), lab.predict(X, "reference", probabilities=True))


def test_an_empty_text_is_no_label(lab):
    assert lab.train(_table(np.array(["", "a", "b"])[THREE]), "y").info.classes == ("a", "b")


def test_a_label_that_only_the_validation_rows_have_is_refused(lab):
    with pytest.raises(DataError, match="'new', a label the model was not trained on") as error:
        lab.train(_table(np.array(["a", "b"])[TWO]), "y", validation=_table(np.array(["a", "new"])[TWO]))
    assert error.value.hint == "It knows: 'a', 'b'."


@pytest.mark.parametrize("share", [1.5, 1.0, -0.1, float("nan")])
def test_a_share_that_cannot_be_held_out_is_refused(lab, share):
    with pytest.raises(DataError, match="cannot be held out") as error:
        lab.train(_table(TWO), "y", validation=share)
    assert "--validation 0.2" in error.value.hint


@pytest.mark.parametrize("held", ["pair", "table", "table beside", "file"])
def test_validation_rows_of_their_own_are_used(lab, tmp_path, held):
    frame, other = _table(TWO), _table(1 - TWO)
    match held:
        case "pair":
            result = lab.train(X, TWO, validation=(X, 1 - TWO))
        case "table":
            result = lab.train(frame, "y", validation=other)
        case "table beside":
            result = lab.train(frame[["a", "b"]], frame["y"], validation=(other[["a", "b"]], other["y"]))
        case "file":
            other.to_csv(tmp_path / "held.csv", index=False)
            result = lab.train(frame, "y", validation=tmp_path / "held.csv")
    scored = lab.evaluate((X, 1 - TWO) if held == "pair" else other, None if held == "pair" else "y")
    assert scored.rows == N
    assert scored["accuracy"] == result.metrics["accuracy"]


def test_nothing_held_out_lets_the_training_rows_choose(lab):
    result = lab.train(_table(TWO), "y", validation=0)
    assert list(result.metrics) == ["loss"]
    assert list(lab.train(X[:2], [0, 1]).metrics) == ["loss"]
    assert any("too few rows to hold any out" in text for text in lab.messages)


@pytest.mark.parametrize(("target", "held", "lost"), [(TWO, [1, 1, 1], "auc"), (np.linspace(0, 1, N), [0.5] * 3, "r2")])
def test_a_metric_that_few_rows_cannot_tell_is_left_out_of_the_published_ones(lab, target, held, lost):
    result = lab.train(X, target, validation=(X[:3], held))
    assert np.isnan(result.history[f"val_{lost}"]).all()
    assert lost not in lab.session.backend.models.get("m").metrics
    assert len(lab.predict(X)) == N


@settings(deadline=None, max_examples=80)
@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=300),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 5),
)
def test_a_stratified_split_parts_every_row_once_and_keeps_the_shares(labels, share, seed):
    values = np.array(labels)
    train, held = split(len(values), share, seed, values)
    assert sorted([*train, *held]) == list(range(len(values)))
    for label, size in zip(*np.unique(values, return_counts=True), strict=True):
        assert abs((values[held] == label).sum() - size * share) <= 1
        assert (values[train] == label).any()
    again = split(len(values), share, seed, values)
    assert np.array_equal(train, again[0])
    assert np.array_equal(held, again[1])


@settings(deadline=None, max_examples=50)
@given(rows=st.integers(2, 500), share=st.floats(0.001, 0.999), seed=st.integers(0, 5))
def test_a_plain_split_leaves_rows_on_both_sides(rows, share, seed):
    train, held = split(rows, share, seed, None)
    assert sorted([*train, *held]) == list(range(rows))
    assert len(train) and len(held)
    assert abs(len(held) - share * rows) <= 1


def test_a_task_that_there_is_not_is_refused_with_those_that_there_are(lab: Any) -> None:
    with pytest.raises(NotFound, match="There is no task 'multi'") as caught:
        lab.train(pd.DataFrame({"a": [0.0, 1.0], "y": [0, 1]}), "y", task="multi")
    assert caught.value.hint == "Did you mean 'multiclass' or 'multilabel'?"


def test_what_is_written_down_of_a_task_that_is_not_installed_says_so() -> None:
    with pytest.raises(ValueError, match="There is no task 'ranks'.*not installed"):
        restored({"task": "ranks", "names": ["y"]})
