"""Values as they come: what is masked is missing, numbers are numbers, and a moment is the one that numpy means."""

from __future__ import annotations

import contextlib
import datetime as dt
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import numpy as np
import numpy.ma.mrecords
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from maas_magics.api.errors import DataError
from maas_magics.core.data.sources import open_source
from maas_magics.core.data.target import part

N = 60
GONE = np.arange(N) % 7 == 3
TRUE = np.linspace(-1, 1, N)
SPOILT = np.where(GONE, -9999.0, TRUE)
EMPTY = np.where(GONE, np.nan, TRUE)


def _column(data: Any, name: str = "a") -> pa.ChunkedArray:
    return open_source(data).table().column(name)


def _structured(kind: str) -> Any:
    rows = np.ma.array(
        list(zip(SPOILT, range(N), strict=True)),
        dtype=[("a", "f8"), ("b", "i8")],
        mask=list(zip(GONE, [False] * N, strict=True)),
    )
    return rows if kind == "structured" else rows.view(numpy.ma.mrecords.MaskedRecords)


def _marked(kind: str) -> Any:
    """A table whose column ``a`` lacks the values of `GONE`."""
    values, base = SPOILT, np.arange(N)
    match kind:
        case "masked":
            return {"a": np.ma.array(values, mask=GONE), "b": base}
        case "masked constants":
            return {"a": [np.ma.masked if gone else float(x) for x, gone in zip(values, GONE, strict=True)], "b": base}
        case "structured" | "records":
            return _structured(kind)
        case "nullable":
            return pd.DataFrame({"a": pd.array(values, dtype="Float64"), "b": base}).assign(
                a=lambda f: f["a"].mask(GONE)
            )
        case "rows with NA":
            return [{"a": pd.NA if gone else x, "b": i} for i, (x, gone) in enumerate(zip(values, GONE, strict=True))]
        case "arrow":
            return pa.table({"a": pa.array(values, mask=GONE), "b": base})
        case "dict of arrow":
            return {"a": pa.array(values, mask=GONE), "b": pa.chunked_array([pa.array(base)])}
        case "polars":
            return pl.DataFrame({"a": [None if gone else x for x, gone in zip(values, GONE, strict=True)], "b": base})
        case "dict of polars":
            return {"a": pl.Series([None if gone else x for x, gone in zip(values, GONE, strict=True)]), "b": base}
        case "duckdb":
            frame = pd.DataFrame({"a": values, "b": base, "gone": GONE})
            return duckdb.connect().execute("select case when gone then null else a end a, b from frame")
        case "fetchnumpy":
            frame = pd.DataFrame({"a": values, "b": base, "gone": GONE})  # noqa: F841
            found = duckdb.connect().execute("select case when gone then null else a end a, b from frame")
            return found.fetchnumpy()
    raise AssertionError(kind)


KINDS = (
    "masked", "masked constants", "structured", "records", "nullable", "rows with NA", "arrow", "dict of arrow",
    "polars", "dict of polars", "duckdb", "fetchnumpy",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_masked_is_missing_in_training_and_when_asked(lab, kind):
    assert _column(_marked(kind)).null_count == GONE.sum()
    y = 3 * TRUE
    plain = pd.DataFrame({"a": EMPTY, "b": np.arange(N)})
    lab.train((plain, y), name="plain", epochs=2)
    lab.train((_marked(kind), y), epochs=2)
    asked = [lab.predict(_marked(kind), name) for name in ("m", "plain")]
    for answers in (*asked, lab.predict(plain)):
        if isinstance(answers, duckdb.DuckDBPyRelation):
            answers = answers.to_arrow_table()
        assert np.allclose(np.asarray(answers["prediction"]), lab.predict(plain, "plain")["prediction"], atol=1e-6)


def test_masked_arrays_of_rows_are_missing_where_they_are_masked(lab, rng):
    x = rng.normal(size=(N, 3))
    y = x @ [1.0, -2.0, 0.5]
    mask = rng.random((N, 3)) < 0.2
    spoilt = np.ma.array(np.where(mask, -9999, x), mask=mask)
    lab.train(np.where(mask, np.nan, x), y, name="plain", model="mlp", epochs=2)
    lab.train(spoilt, y, model="mlp", epochs=2)
    wanted = lab.predict(np.where(mask, np.nan, x), "plain")
    assert np.array_equal(lab.predict(spoilt), wanted)
    assert np.array_equal(lab.predict(list(spoilt)), wanted)
    assert lab.evaluate(spoilt, y).values == lab.evaluate(np.where(mask, np.nan, x), y, "plain").values
    ranks = np.ma.array(np.arange(3 * N).reshape(N, 3), mask=mask)
    assert np.isnan(open_source(ranks).table().column(0).combine_chunks().to_numpy_ndarray()).sum() == mask.sum()


def test_a_masked_array_without_a_mask_stays_what_it_is():
    whole = np.ma.array(np.arange(6, dtype="int16").reshape(3, 2))
    assert open_source(whole).table().schema.types[0].value_type == pa.int16()


def test_a_masked_array_for_a_module_is_refused_like_missing_numbers(lab):
    net = torch.nn.Linear(2, 1)
    with pytest.raises(DataError, match="missing values"):
        lab.train(np.ma.array(np.ones((8, 2)), mask=np.eye(8, 2)), np.arange(8.0), model=net)


@pytest.mark.parametrize("kind", ["masked", "masked column", "column", "arrow", "polars", "nullable", "object"])
def test_masked_targets_are_no_answers_to_learn(lab, kind):
    masked = np.ma.array(np.where(GONE, -9999.0, 4 * TRUE), mask=GONE)
    frame = pd.DataFrame({"x": TRUE})
    gone = np.where(GONE, None, 4 * TRUE)
    data, target = {
        "masked": (frame, masked),
        "masked column": (frame, masked[:, None]),
        "column": ({"x": TRUE, "y": masked}, "y"),
        "arrow": (frame, pa.array(masked.data, mask=GONE)),
        "polars": (frame, pl.Series(gone.tolist())),
        "nullable": (frame, pd.array(gone, dtype="Float64")),
        "object": (frame, gone.tolist()),
    }[kind]
    assert len(part(data, target)[2]) == N - GONE.sum()
    lab.train(data, target, epochs=3)
    assert np.abs(lab.predict(frame)["prediction"]).max() < 10
    score = lab.evaluate(data, None if kind == "column" else target)
    assert score.rows == N - GONE.sum()
    assert score["rmse"] < 10


def test_rows_that_lack_one_of_several_answers_are_left_out():
    both = np.ma.array(np.ones((N, 2)), mask=np.column_stack([GONE, np.zeros(N, bool)]))
    assert part(pd.DataFrame({"x": TRUE}), both)[2].shape == (N - GONE.sum(), 2)


def test_masked_labels_of_text_are_missing(lab):
    labels = np.ma.array(np.resize(["p", "q", "N/A"], N), mask=np.resize([0, 0, 1], N))
    lab.train(pd.DataFrame({"x": TRUE}), labels)
    assert lab.session.backend.models.get("m").classes == ("p", "q")


def test_an_arrow_tensor_with_gaps_has_missing_numbers(lab):
    kind = pa.fixed_shape_tensor(pa.float32(), (2,))
    rows = pa.FixedSizeListArray.from_arrays(pa.array([1.0, None, 3.0, 4.0], pa.float32()), 2)
    table = pa.table({"v": pa.ExtensionArray.from_storage(kind, rows), "y": [0, 1]})
    lab.train(table.take([0, 1] * 20), "y", model="linear")
    assert np.isfinite(np.asarray(lab.predict(table)["probability_1"])).all()


@pytest.mark.filterwarnings("ignore:The PyTorch API of (MaskedTensors|nested tensors)")
def test_tensors_of_torch_that_are_no_plain_arrays(lab, rng):
    x = rng.normal(size=(40, 3)).astype("float32")
    y = x @ [1.0, 2.0, -1.0]
    lab.train(x, y, model="mlp")
    shown = torch.ones(40, 3, dtype=torch.bool)
    shown[:, 1] = False
    hidden = torch.masked.masked_tensor(torch.from_numpy(x), shown)
    gaps = np.where(shown.numpy(), x, np.nan)
    assert np.allclose(lab.predict(hidden), lab.predict(gaps), equal_nan=True)
    assert np.allclose(lab.predict(torch.from_numpy(x).to_sparse()), lab.predict(x), atol=1e-6)
    assert np.allclose(lab.predict(torch.from_numpy(x).bfloat16()), lab.predict(x), atol=0.1)
    with pytest.raises(DataError, match="nested tensor") as error:
        lab.train(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), [0, 1])
    assert error.value.hint.startswith("Pad them")


# --- numbers that are objects ---


NUMBERS: dict[str, list[Any]] = {
    "a boolean among floats": [*TRUE.tolist()[:-1], True],
    "a boolean first": [True, *TRUE.tolist()[1:]],
    "a boolean among whole numbers": [True, *range(1, N)],
    "a float among decimals": [Decimal(i) / 8 for i in range(N - 1)] + [0.5],
    "fractions": [Fraction(i, 7) for i in range(N)],
    "fractions and None": [None if i % 9 == 0 else Fraction(i, 7) for i in range(N)],
    "scalars of numpy": [np.float32(i) if i % 2 else np.int8(i) for i in range(N)],
    "numpy's booleans and numbers": [np.bool_(True) if i % 4 == 0 else np.int64(i) for i in range(N)],
    "every missing there is": [None, np.nan, pd.NA, pd.NaT, np.ma.masked, Decimal("NaN"), *range(N - 6)],
    "huge whole numbers": [2**70 + i * 2**60 for i in range(N)],
    "a huge one among floats": [2**53 + 1, *TRUE.tolist()[1:]],
    "texts that are numbers": [str(i) if i % 5 == 0 else i + 0.5 for i in range(N)],
    "scalars of torch": [torch.tensor(float(i)) for i in range(N)],
}


@pytest.mark.parametrize("form", ["series", "list", "rows", "polars"])
@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_are_numbers_whatever_objects_they_are(kind, form):
    values = NUMBERS[kind]
    objects = np.empty(N, dtype=object)
    objects[:] = values
    data = {
        "series": lambda: pd.DataFrame({"a": pd.Series(objects, dtype=object)}),
        "list": lambda: {"a": values},
        "rows": lambda: [{"a": value} for value in values],
        "polars": lambda: pl.DataFrame({"a": pl.Series(values, dtype=pl.Object)}),
    }[form]()
    found = _column(data)
    missing = sum(value is None or isinstance(value, type(pd.NA)) or value is np.ma.masked or bool(value != value)
                  for value in values)  # fmt: skip
    assert found.null_count == missing
    wanted = [
        float(value)
        for value in values
        if not (value is None or value is pd.NA or value is np.ma.masked or value != value)
    ]
    assert np.allclose([float(value) for value in found.drop_null().to_pylist()], wanted)
    assert not pa.types.is_string(found.type)


def test_an_array_of_objects_that_are_numbers_trains(lab):
    x = np.array([[i, i % 2 == 0, None if i % 5 == 0 else i / 2] for i in range(N)], dtype=object)
    lab.train(x, np.arange(N) / 7, model="mlp")
    assert np.isfinite(lab.predict(x[:3])).all()


def test_texts_among_many_numbers_are_missing_and_said_so(lab):
    values = [*TRUE.tolist()[:-3], "n/a", "-", True]
    lab.train(pd.DataFrame({"a": pd.Series(values, dtype=object), "y": 2 * TRUE}), "y", epochs=3)
    assert lab.columns == {"a": "number"}
    assert "Column 'a' holds texts among its numbers ('n/a', '-'); they count as missing." in lab.messages
    asked = [0.25, "n/a", None, "never seen", "0.25"]
    first, *rest = lab.predict({"a": asked})["prediction"]
    assert rest[0] == rest[1] == rest[2]
    assert rest[3] == first
    for row, answer in zip(asked, [first, *rest], strict=True):
        assert lab.predict([{"a": row}])["prediction"][0] == pytest.approx(answer)
    assert lab.export().verification.max_abs_diff < 1e-4


def test_mixed_values_of_few_kinds_are_texts_and_said_so(lab):
    lab.train({"a": [1, "two", 3.0, None, True] * 12, "y": [0, 1] * 30}, "y")
    assert lab.columns == {"a": "category"}
    assert "Column 'a' holds texts and numbers; each is taken as a text." in lab.messages
    values = lab.session.backend.loader.predictor("m").processor.features[0].values
    assert values == ("1", "3", "true", "two")


def test_texts_where_only_numbers_were_learnt_are_refused_by_name(lab):
    lab.train({"a": TRUE, "y": TRUE}, "y")
    assert lab.predict({"a": ["0.5", "1e-3"]})["prediction"].tolist() == pytest.approx(
        lab.predict({"a": [0.5, 1e-3]})["prediction"].tolist()
    )
    with pytest.raises(DataError, match=r"Column 'a' holds text \('soon'\); the model was trained on numbers."):
        lab.predict({"a": ["0.5", "soon"]})


# --- time ---

UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")


@pytest.mark.parametrize("count", [1, 3, 10])
@pytest.mark.parametrize("unit", UNITS)
def test_a_moment_of_any_unit_is_the_one_that_numpy_means(unit, count):
    values = np.array([5, 6, 7, 100], dtype=f"datetime64[{count}{unit}]")
    values[1] = "NaT"
    wanted = values.astype("datetime64[us]")
    masked = np.ma.array(values, mask=[0, 0, 1, 0])
    table = open_source({"a": values, "b": masked, "c": values.astype(object).tolist() if unit in UNITS[:9] else values,
                         "d": list(values)}).table()  # fmt: skip
    for name in "acd":
        column = table.column(name)
        found = column.cast(pa.timestamp("us"), safe=False).to_numpy().astype("datetime64[us]")
        assert np.array_equal(found, wanted, equal_nan=True), name
    assert table.column("b").null_count == 2
    record = np.array([(v,) for v in values], dtype=[("a", values.dtype)])
    assert (
        _column(record)
        .cast(pa.timestamp("us"), safe=False)
        .equals(table.column("a").cast(pa.timestamp("us"), safe=False))
    )


@pytest.mark.parametrize("count", [1, 3, 10])
@pytest.mark.parametrize("unit", UNITS)
def test_a_length_of_time_of_any_unit_is_its_seconds_or_refused(lab, unit, count):
    values = np.arange(40).astype(f"timedelta64[{count}{unit}]")
    values[3] = "NaT"
    data = {"a": values, "y": np.arange(40) / 3}
    if unit in "YM":
        with pytest.raises(DataError, match="'a': The lengths of time are in months or years") as error:
            lab.train(data, "y")
        assert error.value.hint == "Give days or seconds: .astype('timedelta64[D]')"
        return
    lab.train(data, "y")
    encoded = lab.session.backend.loader.predictor("m").processor.encode(open_source(data).table())[0].ravel()
    second = np.timedelta64(1, "s") / np.timedelta64(count, unit) if unit not in ("ps", "fs", "as") else (
        {"ps": 1e12, "fs": 1e15, "as": 1e18}[unit] / count
    )  # fmt: skip
    wanted = np.where(np.isnat(values), np.nan, np.arange(40) / second)
    assert np.allclose(encoded, wanted, rtol=1e-12, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.arange(8).astype("m8"), "'a': The lengths of time have no unit"),
        (np.arange(8).astype("M8[D]").view("M8"), "'a': The dates have no unit"),
        (np.array([10**12] * 8, "M8[D]"), "'a': A date of datetime64\\[D\\] is too far away"),
        (np.array(["400000"] * 8, "M8[Y]"), "is too far away"),
        (np.arange(10**17, 10**17 + 8).astype("M8[s]"), "is too far away"),
    ],
)
def test_times_that_mean_nothing_are_refused_in_two_lines(lab, values, said):
    with pytest.raises(DataError, match=said) as error:
        lab.train({"a": values, "b": np.arange(8), "y": [0, 1] * 4}, "y")
    assert error.value.hint


def test_moments_without_a_unit_that_are_all_missing_are_an_empty_column(lab):
    lab.train({"a": np.array(["NaT"] * 8, "M8"), "b": np.arange(8), "y": [0, 1] * 4}, "y")
    assert lab.columns == {"b": "number"}


def test_dates_and_times_together_lose_nothing(lab):
    day = dt.date(2020, 1, 1)
    values = [day, dt.datetime(2020, 1, 1, 13), np.datetime64("2021-05"), pd.Timestamp("2022-01-01 06:00")]
    found = _column({"a": values}).to_pylist()
    assert found == [
        dt.datetime(2020, 1, 1),
        dt.datetime(2020, 1, 1, 13),
        dt.datetime(2021, 5, 1),
        dt.datetime(2022, 1, 1, 6),
    ]
    east = dt.datetime(2020, 1, 1, 13, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert [value.hour for value in _column({"a": [day, east]}).to_pylist()] == [0, 11]
    assert _column({"a": [dt.timedelta(hours=1), np.timedelta64(2, "D")]}).to_pylist() == [3600.0, 172800.0]


@pytest.mark.parametrize("kind", [">f4", ">f8", ">i4", ">i8", ">u2", ">M8[s]", ">m8[ms]", "<U2", ">U2"])
def test_the_order_of_bytes_changes_no_answer(lab, kind):
    """Files of other machines (FITS, netCDF, IDX) come in the other order."""
    swapped = (np.arange(40) % 7).astype("i8").astype(np.dtype(kind).newbyteorder("=")).astype(kind)
    plain = swapped.astype(swapped.dtype.newbyteorder("="))
    target = np.arange(40) % 7 > 3
    lab.train({"a": swapped, "b": np.arange(40.0)}, target, epochs=2)
    answers = [lab.predict({"a": a, "b": np.arange(40.0)})["prediction"].tolist() for a in (swapped, plain)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("width", [3, 1])
def test_a_target_of_another_width_is_refused(lab, rng, width):
    x = rng.normal(size=(40, 4)).astype("float32")
    for target in (rng.normal(size=(40, 2)), rng.integers(0, 2, (40, 2))):
        lab.train(x, target)
        other = np.zeros((40, width), target.dtype)
        with pytest.raises(DataError, match="The target has .* a row; the model was trained on 2 values a row"):
            lab.evaluate(x, other)


def test_columns_of_polars_that_arrow_has_no_type_for_are_read(lab):
    wide = [10**20 + i % 5 * 10**19 for i in range(40)]
    frame = pl.DataFrame({"a": pl.Series(wide, dtype=pl.Int128), "y": [i % 5 > 2 for i in range(40)]})
    lab.train(frame, "y", epochs=3)
    assert "a" in lab.columns and lab.predict(frame.drop("y")).height == 40


@pytest.mark.parametrize(
    "column",
    [
        pa.array([pa.MonthDayNano([1, i % 3, 0]) for i in range(40)]),
        pa.array([b"a", b"\xff"] * 20),
        pa.DictionaryArray.from_arrays(pa.array([0, 1] * 20), pa.array([b"\xfe", b"b"])),
    ],
    ids=["months", "bytes", "categories of bytes"],
)
def test_what_arrow_cannot_spell_is_answered_or_refused(lab, column):
    texts = pa.table({"a": ["p", "q"] * 20, "x": range(40), "y": [0, 1] * 20})
    lab.train(texts, "y", epochs=1)
    for table in (texts.set_column(0, "a", column), texts.set_column(2, "y", column)):
        with contextlib.suppress(DataError):
            lab.train(table, "y", "n", epochs=1)
        with contextlib.suppress(DataError):
            assert lab.predict(table.drop_columns(["y"])).num_rows == 40


def test_rows_of_no_values_are_refused(lab):
    for data in (np.empty((12, 0)), {"a": np.arange(12), "b": np.empty((12, 0))}, np.empty((12, 3, 0), bool)):
        with pytest.raises(DataError, match="has rows of no values"):
            lab.train(data, np.arange(12) % 2)


def test_labels_of_several_a_row_are_refused_where_one_was_learnt(lab, rng):
    x = rng.normal(size=(40, 4)).astype("float32")
    lab.train(x, np.arange(40) % 3)
    with pytest.raises(DataError, match="The target has 2 values a row; the model was trained on one value a row"):
        lab.evaluate(x, np.zeros((40, 2), int))
