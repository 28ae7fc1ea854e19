"""What each kind of column becomes, and what happens to a column that is different when a model is asked."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from maas_magics.api.errors import DataError
from maas_magics.core.batches.rows import VALIDATION_SHARE
from maas_magics.core.data.split import split
from maas_magics.core.features.modalities.category import MOST_CATEGORIES

N = 60
GONE = np.arange(N) % 5 == 0
KINDS = np.resize(["p", "q", "r"], N)
DAYS = pd.Series(pd.date_range("2020-01-01", periods=N, freq="7h"))


def _missing(values: Any, none: Any = None) -> list[Any]:
    return [none if gone else value for value, gone in zip(values, GONE, strict=True)]


COLUMNS: dict[str, tuple[Any, str]] = {
    "float": (np.linspace(-1, 1, N), "number"),
    "float with NaN": (np.where(GONE, np.nan, np.linspace(-1, 1, N)), "number"),
    "float16": (np.linspace(-1, 1, N).astype("float16"), "number"),
    "uint64": (np.arange(N).astype("uint64"), "number"),
    "nullable integer": (pd.array(_missing(range(N)), dtype="Int64"), "number"),
    "nullable float": (pd.array(_missing(np.linspace(0, 1, N)), dtype="Float64"), "number"),
    "nullable boolean": (pd.array(_missing([True, False] * 30), dtype="boolean"), "number"),
    "booleans and None": (pd.Series(_missing([True, False] * 30), dtype=object), "number"),
    "numbers and None": (pd.Series(_missing(range(N)), dtype=object), "number"),
    "arrow integer": (pd.array(_missing(range(N)), dtype="int64[pyarrow]"), "number"),
    "arrow boolean": (pd.array(_missing([True, False] * 30), dtype="bool[pyarrow]"), "number"),
    "decimal": ([Decimal(i) / 10 for i in range(N)], "number"),
    "decimal and None": (_missing([Decimal(i) / 10 for i in range(N)]), "number"),
    "sparse": (pd.arrays.SparseArray(np.arange(N) % 3), "number"),
    "length of time": (pd.to_timedelta(np.arange(N), unit="h"), "number"),
    "length of time and NaT": (pd.Series(pd.to_timedelta(np.arange(N), unit="h")).mask(GONE), "number"),
    "time of day": ([dt.time(i % 24, i) for i in range(N)], "number"),
    "text": (KINDS, "category"),
    "text and None": (_missing(KINDS), "category"),
    "text and empty text": (_missing(KINDS, ""), "category"),
    "text as string": (pd.array(_missing(KINDS), dtype="string"), "category"),
    "text as arrow string": (pd.array(_missing(KINDS), dtype="string[pyarrow]"), "category"),
    "mixed": ([1, "two", 3.0, None, True] * 12, "category"),
    "category": (pd.Categorical(KINDS), "category"),
    "category and NaN": (pd.Categorical(_missing(KINDS)), "category"),
    "category of integers": (pd.Categorical(np.arange(N) % 3), "category"),
    "category of floats": (pd.Categorical(np.arange(N) % 3 / 2), "category"),
    "category of booleans": (pd.Categorical(np.arange(N) % 2 == 0), "category"),
    "ordered category": (pd.Categorical(KINDS, ["r", "q", "p"], ordered=True), "category"),
    "interval": (pd.cut(np.linspace(0, 1, N), 4), "category"),
    "moment": (DAYS, "timestamp"),
    "moment and NaT": (DAYS.mask(GONE), "timestamp"),
    "moment with a zone": (DAYS.dt.tz_localize("Europe/Paris"), "timestamp"),
    "moment with a zone and NaT": (DAYS.dt.tz_localize("Asia/Tokyo").mask(GONE), "timestamp"),
    "arrow moment": (DAYS.astype("timestamp[us][pyarrow]"), "timestamp"),
    "date": ([dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(N)], "timestamp"),
    "period": (pd.period_range("2020-01", periods=N, freq="D"), "timestamp"),
    "dates as text": (DAYS.astype(str).mask(GONE), "timestamp"),
    "dates with a zone as text": (DAYS.dt.tz_localize("Europe/Paris").map(pd.Timestamp.isoformat), "timestamp"),
}


def _frame(values: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"base": np.sin(np.arange(N)), "c": values})
    frame["y"] = np.arange(N) % 3 * 1.5 + 0.1 * np.arange(N)
    return frame


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_of_each_kind_is_learnt_from(lab, kind):
    values, expected = COLUMNS[kind]
    frame = _frame(values)
    lab.train(frame, "y", epochs=2)
    assert lab.columns == {"base": "number", "c": expected}
    answers = lab.predict(frame)["prediction"]
    shuffled = frame.assign(c=frame["c"].iloc[::-1].to_numpy())
    assert np.isfinite(answers).all()
    assert not np.allclose(answers, lab.predict(shuffled)["prediction"])


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_that_is_missing_in_every_row_asked_still_gets_answers(lab, kind):
    frame = _frame(COLUMNS[kind][0])
    lab.train(frame, "y")
    whole = lab.predict(frame.assign(c=frame["c"].mask(np.ones(N, bool))))["prediction"]
    untyped = lab.predict(frame.assign(c=pd.Series([None] * N, dtype=object)))["prediction"]
    assert np.isfinite(whole).all()
    assert np.array_equal(whole, untyped)


@pytest.mark.parametrize("kind", COLUMNS)
def test_one_row_gets_the_answer_it_gets_among_others(lab, kind):
    frame = _frame(COLUMNS[kind][0])
    lab.train(frame, "y")
    together = lab.predict(frame)["prediction"].to_numpy()
    assert np.allclose(together[:7], [lab.predict(frame[i : i + 1])["prediction"].iloc[0] for i in range(7)], atol=1e-5)


def test_moments_are_read_alike_in_every_unit_and_zone(lab):
    frame = _frame(DAYS)
    lab.train(frame, "y")
    expected = lab.predict(frame)["prediction"]
    paris = DAYS.dt.tz_localize("UTC").dt.tz_convert("Europe/Paris")
    for values in (
        DAYS.astype("datetime64[s]"),
        DAYS.astype("datetime64[ns]"),
        paris,
        DAYS.astype(str),
        DAYS.dt.to_pydatetime(),
    ):
        assert np.array_equal(expected, lab.predict(frame.assign(c=values))["prediction"])


def test_integers_that_are_missing_only_when_asked_keep_their_meaning(lab):
    frame = _frame(np.arange(N) % 4)
    lab.train(frame, "y")
    expected = lab.predict(frame)["prediction"]
    holey = frame.assign(c=frame["c"].where(~GONE))
    assert holey["c"].dtype == "float64"
    found = lab.predict(holey)["prediction"]
    assert np.array_equal(expected[~GONE], found[~GONE])
    assert np.isfinite(found).all()


def test_categories_of_integers_keep_their_meaning_as_floats_and_as_text(lab):
    whole = np.arange(N) % 3
    frame = _frame(pd.Categorical(whole))
    lab.train(frame, "y", epochs=2)
    expected = lab.predict(frame)["prediction"]
    for values in (whole, whole.astype(float), whole.astype(str), pd.Categorical(whole.astype(float))):
        assert np.array_equal(expected, lab.predict(frame.assign(c=values))["prediction"])


def test_an_unseen_category_is_answered_like_a_missing_one(lab):
    frame = _frame(_missing(KINDS))
    for model in ("linear", "mlp"):
        lab.train(frame, "y", model=model, epochs=2)
        unseen, missing = (lab.predict(frame.assign(c=value))["prediction"] for value in ("never", None))
        assert np.array_equal(unseen, missing)
        assert not np.array_equal(unseen, lab.predict(frame.assign(c="p"))["prediction"])


def test_empty_text_is_missing(lab):
    frame = _frame(_missing(KINDS, ""))
    lab.train(frame, "y")
    empty, none = (lab.predict(frame.assign(c=value))["prediction"] for value in ("", None))
    assert np.array_equal(empty, none)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (7, "Column 'c' has one value only and is left out."),
        ("same", "Column 'c' has one value only and is left out."),
        (True, "Column 'c' has one value only and is left out."),
        (pd.Timestamp("2020-01-01"), "Column 'c' has one value only and is left out."),
        (pd.Categorical(["a"] * N, ["a", "b"]), "Column 'c' has one value only and is left out."),
        (None, "Column 'c' is empty and is left out."),
        ("", "Column 'c' is empty and is left out."),
        (np.nan, "Column 'c' is empty and is left out."),
        (pd.NaT, "Column 'c' is empty and is left out."),
    ],
)
def test_a_column_of_no_use_is_left_out_with_a_word(lab, values, said):
    frame = _frame(values)
    lab.train(frame, "y")
    assert said in lab.messages
    assert lab.columns == {"base": "number"}
    assert len(lab.predict(frame.drop(columns="c"))) == N


def test_a_text_that_names_every_row_is_left_out_with_a_word(lab):
    lab.train(_frame([f"id-{i}" for i in range(N)]), "y", validation=0)
    assert "Column 'c' has 60 different texts in 60 rows and is left out." in lab.messages
    assert lab.columns == {"base": "number"}


@pytest.mark.parametrize("values", [[5.0, None] * 30, ["same", None] * 30, [True, None] * 30])
def test_one_value_that_is_sometimes_missing_is_something_to_learn_from(lab, values):
    lab.train(_frame(values), "y")
    assert "c" in lab.columns


def test_many_different_texts_are_cut_to_the_most_frequent(lab, rng):
    n = 5_000
    frame = pd.DataFrame({"c": [f"w{i}" for i in rng.integers(0, 1_500, n)], "y": rng.random(n)})
    lab.train(frame, "y")
    assert any(f"the {MOST_CATEGORIES:,} most frequent of" in text for text in lab.messages)
    assert len(lab.session.backend.loader.predictor("m").processor.features[0].values) == MOST_CATEGORIES


def test_columns_may_come_in_any_order_and_with_others(lab, frame):
    lab.train(frame, "label", epochs=2)
    expected = lab.predict(frame)
    turned = frame[frame.columns[::-1]].assign(more=1, again=[[1]] * 60)
    assert lab.predict(turned).equals(expected)


def test_a_missing_column_is_named_with_the_nearest_there_is(lab, frame):
    lab.train(frame, "label")
    with pytest.raises(DataError) as error:
        lab.predict(frame.rename(columns={"count": "counts"}))
    assert error.value.message == "The data lacks column 'count'."
    assert error.value.hint == "Did you mean 'counts'?"
    with pytest.raises(DataError) as error:
        lab.predict(frame[["size"]])
    assert error.value.message == "The data lacks columns 'count', 'flag', 'kind', 'when'."
    assert error.value.hint == "The model takes: size, count, flag, kind, when."
    with pytest.raises(DataError) as error:
        lab.predict(frame[["size", "flag"]].assign(other=1))
    assert error.value.hint == "There is: size, flag, other."
    with pytest.raises(DataError) as error:
        lab.predict(np.ones((2, 3)))
    assert error.value.hint == "The model takes: size, count, flag, kind, when."


@pytest.mark.parametrize(
    ("column", "values", "said", "hint"),
    [
        ("size", "big", "Column 'size' holds text ('big'); the model was trained on numbers.", "pd.to_numeric"),
        ("size", pd.Timestamp("2020"), "holds timestamp[", "pd.to_numeric"),
        ("flag", "yes", "holds text ('yes'); the model was trained on numbers.", "pd.to_numeric"),
        ("when", 5, "Column 'when' holds int64; the model was trained on dates.", "pd.to_datetime"),
        ("when", "soon", "holds text that is not a date; the model was trained on dates.", "pd.to_datetime"),
        ("kind", [[1, 2]] * 60, "Column 'kind' holds list<", "Give one text a row."),
    ],
)
def test_a_column_of_another_kind_than_in_training_is_refused(lab, frame, column, values, said, hint):
    lab.train(frame, "label")
    with pytest.raises(DataError) as error:
        lab.predict(frame.assign(**{column: values}))
    assert said in error.value.message
    assert hint in error.value.hint


@pytest.mark.parametrize(
    "values",
    [[["p", "q"]] * N, [{"a": 1}] * N, [b"raw"] * N, [("p",), ("q", "r")] * 30],
    ids=["list", "dict", "bytes", "tuple"],
)
def test_a_column_that_no_model_takes_is_refused_with_the_way_to_drop_it(lab, values):
    with pytest.raises(DataError, match="Column 'c' holds .*, which no model here takes") as error:
        lab.train(_frame(pd.Series(values)), "y")
    assert error.value.hint.endswith("leave it out: --drop c")


def test_infinite_features_are_refused_with_the_way_to_mark_them(lab):
    values = np.where(np.arange(N) < 3, [np.inf], np.linspace(0, 1, N))
    with pytest.raises(DataError, match=r"Column 'c' holds \d infinite values?\.") as error:
        lab.train(_frame(values), "y")
    assert error.value.hint == "Mark them as missing: df = df.replace([np.inf, -np.inf], np.nan)"


def test_infinite_features_asked_are_answered_like_missing_ones(lab):
    frame = _frame(np.where(GONE, np.nan, np.linspace(0, 1, N)))
    lab.train(frame, "y")
    infinite, missing = (lab.predict(frame.assign(c=value))["prediction"] for value in (np.inf, np.nan))
    assert np.array_equal(infinite, missing)


def test_features_of_no_use_at_all_are_an_error(lab):
    with pytest.raises(DataError, match="No column is usable as a feature"):
        lab.train(pd.DataFrame({"a": [1] * 20, "b": [None] * 20, "y": [0, 1] * 10}), "y")


def test_figures_of_the_preprocessing_come_from_the_training_rows_alone(lab, frame):
    held = frame.sample(20, random_state=1)
    rest = frame.drop(held.index)
    wild = held.assign(size=1e6, count=10**9, kind="never", flag=True, when=pd.Timestamp("1970-01-01"))
    lab.train(rest, "label", validation=held, name="a")
    lab.train(rest, "label", validation=wild, name="b")
    one, two = (lab.session.backend.loader.model(name, 1).processor for name in "ab")
    assert one == two
    assert lab.predict(frame, "a").equals(lab.predict(frame, "b"))


def test_rows_held_out_by_share_do_not_touch_the_preprocessing(lab, rng):
    train, held = split(200, VALIDATION_SHARE, 3, None)
    x = rng.normal(size=200)
    fitted = []
    for part, value in ((held, 1e6), (held, -1e6), (train[:1], 1e6)):
        changed = x.copy()
        changed[part] = value
        lab.train(pd.DataFrame({"x": changed, "y": np.sin(x)}), "y", seed=3)
        fitted.append(lab.session.backend.loader.model("m", len(fitted) + 1).processor)
    assert fitted[0] == fitted[1]
    assert fitted[0] != fitted[2]
