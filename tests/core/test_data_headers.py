"""Names of a file's columns, and rows above them or of another length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from maas_magics.api.errors import DataError, OptionError
from maas_magics.core.data.sources import open_source
from maas_magics.magics.words import Names

HEADERS = {
    " a ; b ;k ; y ": ["a", "b", "k", "y"],
    '"a";" b ";k;y': ["a", " b ", "k", "y"],
    ' "a" ; b;"k ";\ty': ["a", "b", "k ", "y"],
    "a; a;b;y": ["a", " a", "b", "y"],
}


def _file(folder: Path, text: str) -> str:
    path = folder / "rows.csv"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("header", HEADERS)
def test_names_have_no_spaces_around_them_unless_quoted(tmp_path, header):
    rows = "".join(f"{i}; {i}.5;x;{i % 2}\n" for i in range(30))
    source = open_source(_file(tmp_path, header + "\n" + rows))
    assert source.table().column_names == HEADERS[header]
    assert next(iter(source.chunks(10))).column_names == HEADERS[header]


def test_a_type_that_is_wider_further_down_is_that_of_a_stripped_name(tmp_path):
    rows = "".join(f"{i};{i}\n" for i in range(300_000))
    source = open_source(_file(tmp_path, " a ; b \n" + rows + "1.5;x\n"))
    table = source.table()
    assert table.column("a").to_pylist()[-1] == 1.5 and table.column("b").to_pylist()[-1] == "x"


def test_a_column_of_the_file_is_meant_and_no_variable(tmp_path):
    words = Names({"y": np.zeros(3), "q": np.zeros(3)})

    def read(_: Any) -> list[str]:
        return [" a ", " y ", "Q"]

    assert words.target("y", "rows.csv", read) == " y "
    assert words.target("q", "rows.csv", read) == "q"
    assert isinstance(words.target("q", "rows.csv", lambda _: ["a"]), np.ndarray)


def test_a_name_that_nearly_is_one_is_offered(lab, tmp_path):
    with pytest.raises(DataError) as error:
        lab.train(pd.DataFrame({" a ": range(30), " Y ": range(30)}), "y")
    assert error.value.hint == "Did you mean ' Y '?"


def test_a_model_of_spaced_names_takes_bare_ones_and_the_other_way(lab, tmp_path):
    rows = pd.DataFrame({"a": np.linspace(0, 1, 60), "b": [1.0, 2.0] * 30, "y": np.linspace(0, 3, 60)})
    lab.train(rows, "y")
    bare = lab.predict(rows).values
    assert np.array_equal(lab.predict(rows.rename(columns={"a": " a ", "b": "b "})).values, bare)


def test_a_file_without_a_header_is_told_and_read(tmp_path):
    path = _file(tmp_path, "1.5;2;0\n2.5;3;1\n3.5;4;0\n")
    assert "header=no" in " ".join(open_source(path).notes)
    source = open_source(path, "header=no")
    assert source.table().to_pydict() == {"0": [1.5, 2.5, 3.5], "1": [2, 3, 4], "2": [0, 1, 0]}
    assert "header=no" not in " ".join(source.notes)


@pytest.mark.parametrize(
    ("text", "told", "hint"),
    [
        ("# made today\n# by x, y\na;b\n1;2\n3;4\n5;6\n", "row 3", "--csv skip=2"),
        ("Report\n\na,b,c\n1,2,3\n3,4,5\n3,4,5\n3,4,5\n", "row 3", "--csv skip=2"),
        ("a;b\n1;2\n3;4;5\n5;6\n", "row 3 has 3 cells, where the header has 2", "quotes"),
        ("sep=;\na;b\n1;2\n3\n5;6\n", "row 4 has 1 cells, where the header has 2", "quotes"),
    ],
)
def test_rows_above_the_header_and_rows_of_another_length_are_named(tmp_path, text, told, hint):
    with pytest.raises(DataError) as error:
        open_source(_file(tmp_path, text)).table()
    assert told in str(error.value) and hint in str(error.value.hint)


def test_lines_above_the_header_are_left_out_where_it_is_said(tmp_path):
    path = _file(tmp_path, "# made, today\n\n# by x\na;b\n1,5;2\n3;4\n")
    assert open_source(path, "skip=3").table().to_pydict() == {"a": [1.5, 3.0], "b": [2, 4]}
    for word in ("skip=x", "header=maybe"):
        with pytest.raises(OptionError):
            open_source(path, word)
