"""Texts that were meant as dates or numbers are named, with what to type where the rows came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from maas_magics.api.errors import DataError, OptionError
from maas_magics.core.data.looks import look
from maas_magics.core.data.origin import came_from
from maas_magics.core.data.sources import open_source

DAYS = pd.date_range("2024-01-01", periods=60)
N = np.arange(60)

DATES = {
    "%d.%m.%Y": "%d.%m.%Y",
    "%m/%d/%Y": "%m/%d/%Y",
    "%d-%m-%Y": "%d-%m-%Y",
    "%Y/%m/%d": "%Y/%m/%d",
    "%d/%m/%y": "%d/%m/%y",
    "%d.%m.%Y %H:%M": "%d.%m.%Y %H:%M",
    "%m/%d/%Y %I:%M:%S %p": "%m/%d/%Y %I:%M:%S %p",
    "%d %b %Y": "%d %b %Y",
    "%d-%b-%Y": "%d-%b-%Y",
    "%B %d, %Y": "%B %d, %Y",
}
NUMBERS = {
    "German": ["1.234,50", "12.345,00", "1,5", "-999", "1.234.567"],
    "English": ["1,234.50", "12,345", "1.5", "-999", "1,234,567"],
    "Swiss": ["1'234.50", "12’345", "1.5"],
    "French": ["1 234,50", "12\u202f345", "1\u00a0000,5"],
}
ORDINARY = {
    "versions": ["1.2.3", "2.3.4", "10.0.1", "2.12.2024"],
    "versions like dates": ["31.12.20", "32.13.21", "1.2.3"],
    "addresses": ["192.168.100.200", "10.0.0.1", "127.0.0.1"],
    "fractions": ["1/2", "3/4", "5/8"],
    "scores": ["3-1", "2-0", "10-2"],
    "prices": ["1.234", "x", "2.345,1"],
    "codes": ["007", "123", "1e3"],
    "pairs": ["1,2", "3,4", "5,6"],
    "parts": ["12-34-5678", "99-99-1234", "01-02-2020x"],
    "words": ["May", "March 3rd", "12 months 2024"],
    "no dates": ["31.02.2024", "01.01.2024", "02.01.2024"],
    "telephones": ["555-1234", "555-2345", "555-3456"],
    "one of many": ["01.02.2024", "01.03.2024", "some day"],
}


@pytest.mark.parametrize("pattern", DATES)
def test_dates_in_usual_spellings_are_known(pattern):
    came_from(open_source(pd.DataFrame({"a": [1]})))
    texts = list(DAYS.strftime(pattern))
    found = look("when", texts)
    assert found is not None and found.what == "dates" and found.example == texts[0]
    assert found.fix == f"df['when'] = pd.to_datetime(df['when'], format={pattern!r})"
    frame = pd.DataFrame({"when": texts})
    exec(found.fix, {"df": frame, "pd": pd})
    assert (frame["when"] == DAYS).all()


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_with_their_thousands_set_apart_are_known(kind):
    came_from(open_source(pd.DataFrame({"a": [1]})))
    found = look("price", NUMBERS[kind])
    assert found is not None and found.example == NUMBERS[kind][0]
    if kind in ("German", "English"):
        frame = pd.DataFrame({"price": NUMBERS[kind]})
        exec(found.fix, {"df": frame, "pd": pd})
        assert frame["price"].tolist()[0] == 1234.5 and frame["price"].tolist()[-1] == 1234567


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_texts_are_just_texts(kind):
    assert look("x", ORDINARY[kind]) is None


def test_days_and_months_that_cannot_be_told_apart_are_said_to_be(lab):
    found = look("when", ["01/02/2024", "03/04/2024", "05/06/2024"])
    assert found is not None and "the month may as well" in found.fix


def _rows(texts: Any) -> pd.DataFrame:
    return pd.DataFrame({"when": texts, "n": N % 7, "y": N / 3})


def _as(kind: str, rows: pd.DataFrame, folder: Path) -> Any:
    match kind:
        case "pandas":
            return rows
        case "polars":
            return pl.from_pandas(rows)
        case "dict":
            return {name: rows[name].to_numpy() for name in rows}
        case "csv":
            rows.to_csv(folder / "rows.csv", index=False)
            return str(folder / "rows.csv")
    rows.to_parquet(folder / "rows.parquet")
    return str(folder / "rows.parquet")


FIXES = {
    "pandas": "pd.to_datetime",
    "polars": "str.to_datetime('%d.%m.%Y')",
    "dict": "datetime64",
    "csv": "--csv dates=dmy",
    "parquet": "Write 'when' to the file",
}


@pytest.mark.parametrize("kind", FIXES)
@pytest.mark.parametrize("often", [1, 20])
def test_one_note_says_what_a_column_looks_like_what_became_of_it_and_what_to_type(lab, tmp_path, kind, often):
    texts = list(DAYS[: 60 // often].strftime("%d.%m.%Y")) * often
    lab.train(_as(kind, _rows(texts), tmp_path), "y")
    told = [text for text in lab.messages if "'when'" in text]
    assert len(told) == 1 and told[0].startswith("Column 'when' holds dates as texts (such as '")
    assert ("and is left out" in told[0]) == (often == 1) and ("one category" in told[0]) == (often > 1)
    assert FIXES[kind] in told[0] and ("df" in told[0]) == (kind in ("pandas", "polars"))


@pytest.mark.parametrize("stream", [False, True])
def test_the_order_of_day_and_month_can_be_said_of_a_file(lab, tmp_path, stream):
    path = _as("csv", _rows(list(DAYS.strftime("%d.%m.%Y"))), tmp_path)
    lab.train(path, "y", csv="dates=dmy", stream=stream)
    assert lab.columns["when"] == "timestamp"
    found = lab.predict(path, csv="dates=dmy")
    assert found.to_numpy() == pytest.approx(lab.predict(_rows(DAYS)).to_numpy())
    with pytest.raises(DataError, match="text that is not a date") as error:
        lab.predict(path)
    assert error.value.hint == "--csv dates=dmy"
    with pytest.raises(OptionError, match="not an order of day"):
        lab.predict(path, csv="dates=dym")


@pytest.mark.parametrize(
    ("order", "texts", "days"),
    [
        ("dmy", ["31.12.24", "1.2.2023"], ["2024-12-31", "2023-02-01"]),
        ("mdy", ["12/31/2024 10:20", "2/1/2023 1:02:03"], ["2024-12-31 10:20", "2023-02-01 01:02:03"]),
        ("ymd", ["2024/12/31", "2023-02-01"], ["2024-12-31", "2023-02-01"]),
    ],
)
def test_orders_of_dates_in_files(tmp_path, order, texts, days):
    (tmp_path / "rows.csv").write_text("when\n" + "\n".join(texts) + "\n")
    found = open_source(str(tmp_path / "rows.csv"), f"dates={order}").table()["when"].to_pylist()
    assert pd.to_datetime(found).tolist() == pd.to_datetime(days, format="mixed").tolist()


def test_sentences_that_are_left_out_are_told_once(lab):
    rows = _rows([f"this is sentence number {i} of many" for i in N])
    lab.train(rows, "y")
    told = [text for text in lab.messages if "'when'" in text]
    assert len(told) == 1 and "and is left out" in told[0] and "one category" not in told[0]
    with pytest.raises(
        DataError, match="No column is usable as a feature. Column 'when' holds dates as texts"
    ) as error:
        lab.train(_rows(list(DAYS.strftime("%d.%m.%Y")))[["when", "y"]], "y")
    assert "pd.to_datetime" in error.value.hint


@pytest.mark.parametrize("kind", ["pandas", "polars", "csv", "parquet", "dict", "cell"])
def test_hints_are_about_where_the_rows_came_from(lab, tmp_path, kind):
    """One column of numbers that is asked with texts."""
    lab.train(pd.DataFrame({"n": N % 7, "when": DAYS, "y": N / 3}), "y")
    if kind == "cell":
        asked: Any = lab.session.read_rows("n,when\nmany,2024-01-01\n", "m")
    else:
        asked = _as(kind, pd.DataFrame({"n": ["many", "few"], "when": DAYS[:2]}), tmp_path)
    with pytest.raises(DataError, match=r"holds text \('many'\)") as error:
        lab.predict(asked)
    expected = {
        "pandas": "Convert it: df['n'] = pd.to_numeric(df['n'])",
        "polars": "Convert it: df = df.with_columns(pl.col('n').cast(pl.Float64))",
        "csv": 'Say how the file writes numbers, or what means missing: --csv "decimal=, missing=NA"',
        "parquet": "Write 'n' to the file as numbers.",
        "dict": "Convert it: .astype('float64')",
        "cell": "Type a number for 'n', or nothing where there is none.",
    }
    assert error.value.hint == expected[kind]


@pytest.mark.parametrize("kind", ["pandas", "polars", "csv", "parquet"])
def test_what_to_do_about_words_for_missing_is_about_where_the_rows_came_from(lab, tmp_path, kind):
    rows = pd.DataFrame({"kind": ["NA", "a", "b"] * 20, "n": 2 * N, "y": N / 3})
    lab.train(_as(kind, rows, tmp_path), "y")
    (told,) = (text for text in lab.messages if "missing" in text)
    assert ("--csv missing=NA" in told) == (kind == "csv") and ("replace('NA', None)" in told) == (
        kind[0] == "p" and kind != "parquet"
    )
