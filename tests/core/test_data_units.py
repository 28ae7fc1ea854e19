"""Numbers with units or signs, and a few texts among numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from maas_magics.core.data.looks import look
from maas_magics.core.features.modalities.number import Number

N = 340
VALUES = np.random.default_rng(0).uniform(10, 200, N).round(1)
WITH: dict[str, tuple[Any, str]] = {
    "a unit": (lambda v: f"{v} m²", "'m²' behind"),
    "a comma": (lambda v: f"{v:.2f} €".replace(".", ","), "'€' behind"),
    "a percent sign": (lambda v: f"{v}%", "'%' behind"),
    "a currency": (lambda v: f"${v}", "'$' in front"),
    "a code": (lambda v: f"EUR {v}", "'EUR' in front"),
    "a bound": (lambda v: "<20" if v < 20 else str(v), "'<' in front"),
    "thousands": (lambda v: f"{v / 100:.1f}k" if v > 100 else str(v), "'k' behind"),
    "a word": (lambda v: f"{v:.0f} rooms", "'rooms' behind"),
    "a temperature": (lambda v: f"{v - 100:.1f} °C", "'°C' behind"),
}
ORDINARY = {
    "ordinals": ["1st", "2nd", "3rd", "4th"],
    "places": ["4th", "5th", "6th"],
    "codes": ["A1", "A2", "A3", "A4"],
    "rooms": ["Room 12", "Room 13", "Room 4"],
    "ages": ["<18", "18-25", "25-35", ">35"],
    "classes": ["<5", "5", "6", "7", ">7"],
    "seats": ["12A", "12B", "13A"],
    "streets": ["12 Main St", "13 Oak Rd", "5 Elm Ave"],
    "clocks": ["12:30", "12:45", "13:00"],
    "halves": ["3 pm", "4 am", "5 pm"],
    "numbers": ["1", "2", "3"],
    "terms": ["36 months", "60 months"],
}
ODD = ["k.A.", "Summe", "[V]", "3,5"]


@pytest.mark.parametrize("kind", WITH)
def test_numbers_with_something_around_them_are_named(lab, kind):
    make, told = WITH[kind]
    rows = pd.DataFrame({"size": [make(v) for v in VALUES], "b": VALUES**0.5, "y": VALUES})
    lab.train(rows, "y")
    found = [text for text in lab.messages if "'size'" in text]
    assert len(found) == 1 and told in found[0] and "df['size'] = df['size'].str" in found[0]
    if kind != "thousands" and kind != "a bound":  # what it says is right
        fix = found[0][found[0].index("df['size'] =") :]
        space = {"df": rows.copy()}
        exec(fix, space)
        assert space["df"]["size"].dtype == float and space["df"]["size"].notna().all()


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_texts_have_no_unit(kind):
    assert look("a", ORDINARY[kind]) is None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("word", ODD)
def test_one_odd_cell_of_a_file_makes_no_text_of_its_numbers(lab, tmp_path: Path, word, stream):
    cells = [str(value) for value in VALUES]
    cells[N // 2] = f'"{word}"'
    path = tmp_path / "rows.csv"
    path.write_text("a,b,y\n" + "".join(f"{cell},{v},{v}\n" for cell, v in zip(cells, VALUES, strict=True)))
    lab.train(str(path), "y", stream=stream, validation=0)
    assert lab.columns == {"a": "number", "b": "number"}
    assert [text for text in lab.messages if f"({word!r})" in text and "missing" in text]
    assert len(lab.predict(str(path)).values) == N
    lab.train(str(path), "y", stream=stream)  # the odd one may be held out
    assert lab.columns == {"a": "number", "b": "number"}


@pytest.mark.parametrize("word", ODD)
def test_one_odd_cell_makes_no_labels_of_quantities(lab, tmp_path: Path, word):
    cells = [str(value) for value in VALUES]
    cells[7] = f'"{word}"'
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n" + "".join(f"{v},{cell}\n" for cell, v in zip(cells, VALUES, strict=True)))
    assert lab.train(str(path), "y").info.task == "regression"
    assert any(f"({word!r})" in text and "left out" in text for text in lab.messages)
    assert lab.evaluate(str(path), "y").values["r2"] > -5
    assert lab.train(str(path), "y", task="multiclass").info.task == "multiclass"
    assert any("all but 1 of its" in text for text in lab.messages)
    assert lab.train(str(path), "y", stream=True).info.task == "multiclass"
    assert any("all but 1 of its" in text for text in lab.messages)


@pytest.mark.parametrize("share", [0.1, 0.003])
def test_in_memory_texts_stay_texts_and_are_named(lab, share):
    texts = [str(v) if i >= share * N else "k.A." for i, v in enumerate(VALUES)]
    lab.train(pd.DataFrame({"a": texts * 9, "b": np.tile(VALUES, 9), "y": np.tile(VALUES, 9)}), "y")
    assert any("all but" in text and "'k.A.'" in text and "to_numeric" in text for text in lab.messages)
    assert lab.columns["a"] == "category"


def test_codes_of_a_file_stay_texts(lab, tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b,y\n" + "".join(f"{'x' if i == 3 else f'{i % 40:03}'},{i},{i}\n" for i in range(N)))
    lab.train(str(path), "y", drop=["b"])
    assert lab.columns == {"a": "category"}


def test_a_fitted_column_keeps_that_texts_stood_in_it(lab, tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n" + "".join(f"{'k.A.' if i == 3 else v},{v}\n" for i, v in enumerate(VALUES)))
    lab.train(str(path), "y")
    column = lab.session.backend.loader.predictor("m").processor.features[0]
    assert isinstance(column, Number) and column.texts
