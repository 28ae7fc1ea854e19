"""Files as people have them: parts in folders, lists and patterns, CSV of any dialect, JSON as pandas writes it."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from maas_magics.api.errors import DataError, OptionError
from maas_magics.core.data.sources import open_source


def _rows(n: int = 40) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "a": np.arange(n) / 4,
            "b": np.arange(n) % 5,
            "c": np.resize(["x", "y; z", "ü"], n),
            "y": np.resize(["p", "q"], n),
        }
    )


def _read(data: Any, csv: str | None = None) -> pd.DataFrame:
    source = open_source(data, csv)
    whole = source.table().to_pandas()
    parts = pa.concat_tables(source.chunks(7)).to_pandas()
    pd.testing.assert_frame_equal(whole, parts)
    return whole


def _write(frame: pd.DataFrame, path: pathlib.Path) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".parquet":
            frame.to_parquet(path, index=False)
        case ".csv":
            frame.to_csv(path, index=False)
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True)
        case ".arrow":
            pyarrow.feather.write_feather(pa.Table.from_pandas(frame, preserve_index=False), str(path))
    return path


# --- folders ---


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "arrow"])
def test_the_folders_of_a_partition_are_columns(lab, tmp_path, ending):
    frame = _rows().assign(year=np.resize([2023, 2024], 40), kind=np.resize(["a b", "c/d", None, "e"], 40))
    for (year, kind), part in frame.groupby(["year", "kind"], dropna=False):
        folder = (
            "__HIVE_DEFAULT_PARTITION__"
            if kind is None or kind != kind
            else kind.replace("/", "%2F").replace(" ", "%20")
        )
        _write(part.drop(columns=["year", "kind"]), tmp_path / f"t/year={year}/kind={folder}/part-0.{ending}")
    found = _read(tmp_path / "t").sort_values("a").reset_index(drop=True)
    assert found["year"].tolist() == frame["year"].tolist()
    assert (
        found["kind"].where(found["kind"].notna(), None).tolist()
        == frame["kind"].where(frame["kind"].notna(), None).tolist()
    )
    for data in (f"{tmp_path}/t/*/*/*.{ending}", sorted((tmp_path / "t").glob("*/*/*"))):
        assert sorted(_read(data)["year"].tolist()) == sorted(frame["year"].tolist())
    one = _read(tmp_path / "t/year=2024")
    assert set(one["year"]) == {2024} and len(one) == 20
    lab.train(tmp_path / "t", "year", epochs=2)
    assert lab.session.backend.models.get("m").classes == ("2023", "2024")
    lab.train(tmp_path / "t", "kind")
    assert set(lab.session.backend.models.get("m").classes) == {"a b", "c/d", "e"}
    lab.train(tmp_path / "t", "y", stream=True)
    assert lab.columns["year"] == "number" and lab.columns["kind"] == "category"


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "arrow"])
@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ([1, 2], [0.5, 1.5], [1.0, 2.0, 0.5, 1.5]),
        ([0.5, 1.5], [1, 2], [0.5, 1.5, 1.0, 2.0]),
        ([None, None], [1, 2], [None, None, 1.0, 2.0]),
        ([1, 2], [None, None], [1.0, 2.0, None, None]),
        ([None, None], ["s", "t"], [None, None, "s", "t"]),
        ([1, 2], ["s", "t"], ["1", "2", "s", "t"]),
        (["s", "t"], [1.5, 2.5], ["s", "t", "1.5", "2.5"]),
        ([True, False], [2, 3], [1.0, 0.0, 2.0, 3.0]),
        ([2**53 + 1, 1], [0.5, 1.5], [2.0**53, 1.0, 0.5, 1.5]),
    ],
)
def test_parts_of_other_types_are_one_column(tmp_path, ending, first, second, wanted):
    for number, values in enumerate((first, second)):
        _write(pd.DataFrame({"k": [number] * 2, "v": values}), tmp_path / f"p{number}.{ending}")
    if ending == "csv" and first[0] is True:
        wanted = ["True", "False", "2", "3"]  # in a text, these are of two kinds
    found = _read(tmp_path)["v"].replace("", None).tolist()
    same = [a == b or (pd.isna(a) and b is None) or str(a) == str(b) for a, b in zip(found, wanted, strict=True)]
    assert all(same), found


def test_columns_that_only_some_parts_have_are_missing_in_the_others(tmp_path):
    _write(pd.DataFrame({"a": [1], "b": ["x"]}), tmp_path / "p0.parquet")
    _write(pd.DataFrame({"c": [1.5], "a": [2]}), tmp_path / "p1.parquet")
    table = open_source(tmp_path).table()
    assert table.to_pylist() == [{"a": 1, "b": "x", "c": None}, {"a": 2, "b": None, "c": 1.5}]


def test_what_lies_beside_the_parts_is_not_read_and_said_so(lab, tmp_path):
    for number in range(3):
        _write(_rows(), tmp_path / f"part-{number}.csv")
    for name in (
        "README.txt",
        ".ipynb_checkpoints/part-0-checkpoint.csv",
        "_SUCCESS",
        "notes.md",
        "picture.png",
        ".part-0.csv.crc",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x00\xff some words, and\nothers")
    (tmp_path / "empty.csv").touch()
    lab.train(tmp_path, "y")
    assert any("3 parts are read; not read: " in text and "README.txt" in text for text in lab.messages)
    assert len(lab.predict(tmp_path)) == 120


def test_a_folder_of_plain_text_is_read_where_nothing_else_is_there(tmp_path):
    _rows().to_csv(tmp_path / "a.txt", index=False)
    assert len(_read(tmp_path)) == 40


def test_a_folder_without_rows_says_what_would_be_read(tmp_path):
    (tmp_path / "notes.md").write_text("words")
    with pytest.raises(DataError, match="holds no file of rows") as error:
        open_source(tmp_path)
    assert "parquet" in error.value.hint


# --- lists and patterns ---


def test_lists_of_files_and_patterns_are_read_as_one(lab, tmp_path, monkeypatch):
    paths = [_write(_rows().assign(a=lambda f, i=i: f["a"] + i), tmp_path / f"data/p{i}.csv") for i in range(3)]
    monkeypatch.chdir(tmp_path)
    wanted = pd.concat([_rows().assign(a=lambda f, i=i: f["a"] + i) for i in range(3)], ignore_index=True)
    for data in (paths, [str(path) for path in paths], tuple(paths), "data/*.csv", "data/p[0-2].csv", "**/p?.csv",
                 f"file://{tmp_path}/data/*.csv", [tmp_path / "data"]):  # fmt: skip
        pd.testing.assert_frame_equal(_read(data), wanted, check_dtype=False)
    lab.train(paths, "y", name="list")
    lab.train("data/*.csv", "y", name="glob", stream=True)
    assert len(lab.predict("data/p?.csv", "list")) == 120
    assert lab.evaluate(["data/p0.csv", "data/p1.csv"], model="glob").rows == 80
    lab.train(paths[0], "y", validation=paths[1:])
    assert lab.last is not None


def test_lists_of_files_that_cannot_be_one_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two = _write(_rows(), tmp_path / "a.csv"), _write(_rows(), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="of several formats: csv, parquet"):
        open_source([one, two])
    with pytest.raises(DataError, match="No file matches 'none"):
        open_source("none*.csv")
    with pytest.raises(DataError, match="There is no file 'c.csv'"):
        open_source(["a.csv", "c.csv"])


def test_a_list_of_texts_is_no_list_of_files(lab):
    lab.train(["good", "bad"] * 20, [1, 0] * 20)
    assert lab.columns == {"x": "category"}


# --- CSV ---

DIALECTS: dict[str, dict[str, Any]] = {
    "semicolon": {"sep": ";"},
    "semicolon and decimal comma": {"sep": ";", "decimal": ","},
    "tab": {"sep": "\t"},
    "tab and decimal comma": {"sep": "\t", "decimal": ","},
    "pipe": {"sep": "|"},
    "latin-1": {"encoding": "latin-1"},
    "cp1252 and semicolon": {"encoding": "cp1252", "sep": ";"},
    "utf-16": {"encoding": "utf-16"},
    "utf-16-le and tab": {"encoding": "utf-16-le", "sep": "\t"},
    "utf-8 with a mark": {"encoding": "utf-8-sig"},
    "carriage returns": {"lineterminator": "\r\n", "sep": ";"},
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_csv_file_of_any_dialect_is_read_and_told(lab, tmp_path, dialect):
    options = DIALECTS[dialect]
    _rows().to_csv(tmp_path / "rows.csv", index=False, **options)
    pd.testing.assert_frame_equal(_read(tmp_path / "rows.csv"), _rows(), check_dtype=False)
    lab.train(tmp_path / "rows.csv", "y")
    told = [text for text in lab.messages if "is read with" in text]
    assert bool(told) == ("sep" in options or options["encoding"] not in ("utf-8-sig",))
    assert lab.columns == {"a": "number", "b": "number", "c": "category"}
    assert len(lab.predict(tmp_path / "rows.csv")) == 40


@pytest.mark.parametrize(("ending", "packing"), [("gz", "gzip"), ("bz2", "bz2"), ("zst", "zstd")])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_compressed_files_are_unpacked(lab, tmp_path, ending, packing, kind):
    text = {
        "csv": lambda: _rows().to_csv(index=False, sep=";"),
        "jsonl": lambda: _rows().to_json(orient="records", lines=True),
        "json": lambda: _rows().to_json(),
    }[kind]()
    path = tmp_path / f"rows.{kind}.{ending}"
    with pa.CompressedOutputStream(str(path), packing) as file:
        file.write(text.encode())
    pd.testing.assert_frame_equal(_read(path), _rows(), check_dtype=False)
    lab.train(path, "y", stream=True)


def test_what_is_said_of_a_csv_file_counts(lab, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a;b|c\n1;x|2\n3;y|4\n" * 1)
    assert _read(path, "sep=|").columns.tolist() == ["a;b", "c"]
    assert _read(path, "sep=;").columns.tolist() == ["a", "b|c"]
    path.write_text("a;c\n1,5;NA\n2,5;x\n")
    assert _read(path)["c"].tolist() == ["NA", "x"]
    assert _read(path, "missing=NA")["c"].isna().tolist() == [True, False]
    assert _read(path, "sep=; decimal=.")["a"].tolist() == ["1,5", "2,5"]
    path.write_bytes("a,c\n1,\xe4\n".encode("cp850"))
    assert _read(path, "encoding=cp850")["c"].tolist() == ["ä"]
    _rows().to_csv(path, sep=";", index=False)
    assert len(_read(path, "sep=").columns) == 4  # what is left of sep=; at the end of a line
    _rows().to_csv(path, sep="|", index=False)
    lab.train(path, "y", csv="sep=|")
    assert not any("is read with" in text for text in lab.messages)
    assert len(lab.predict(path, csv="sep=|")) == lab.evaluate(path, csv="sep=|").rows == 40


@pytest.mark.parametrize(
    ("csv", "said"),
    [
        ("sep", "'sep' is not a setting of CSV files"),
        ("separator=;", "is not a setting of CSV files"),
        ("sep=ab", "is not one character"),
        ("encoding=klingon", "'klingon' is not an encoding"),
        ("sep=, decimal=,", "same character"),
    ],
)
def test_what_makes_no_sense_of_a_csv_file_is_refused(tmp_path, csv, said):
    _write(_rows(), tmp_path / "a.csv")
    with pytest.raises(OptionError, match=said) as error:
        open_source(tmp_path / "a.csv", csv)
    assert error.value.hint
    with pytest.raises(DataError, match="is about CSV files"):
        open_source(_rows(), "sep=;")


def test_a_letter_that_is_no_utf8_may_come_late(tmp_path):
    path = tmp_path / "late.csv"
    path.write_bytes(b"k,v\n" + b"abc,1\n" * 400_000 + "m\xfcll,2\n".encode("latin-1"))
    source = open_source(path)
    assert sum(len(part) for part in source.chunks(50_000)) == 400_001
    assert source.table().column("k")[-1].as_py() == "müll"


def test_a_line_for_spreadsheets_and_cells_with_delimiters_and_lines_in_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('sep=;\na;b\n1,5;"x;\ny"\n2,5;z\n')
    assert _read(path).to_dict("list") == {"a": [1.5, 2.5], "b": ["x;\ny", "z"]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\x03\x04rest of a workbook", "is not CSV: it is a ZIP archive, such as an Excel workbook"),
        (b"PAR1rest", "is not CSV: it is a Parquet file"),
        (b"", "Empty CSV file"),
    ],
)
def test_what_is_no_csv_is_refused_for_its_true_reason(tmp_path, data, said):
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(DataError, match=said):
        open_source(tmp_path / "a.csv").table()


def test_doubled_columns_of_a_csv_file_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("a,a\n1,2\n")
    with pytest.raises(DataError, match="more than one column named 'a'"):
        open_source(tmp_path / "a.csv")


# --- JSON ---


@pytest.mark.parametrize("orient", ["records", "columns", "index", "split", "table", "lines", "lists"])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_as_pandas_writes_it_in_every_orient(lab, tmp_path, orient, indent):
    path = tmp_path / "rows.json"
    frame = _rows()
    if orient == "lists":
        path.write_text(json.dumps(frame.to_dict("list"), indent=indent))
    elif orient == "lines":
        path.write_text(frame.to_json(orient="records", lines=True))
    else:
        frame.to_json(path, orient=orient, indent=indent)
    pd.testing.assert_frame_equal(_read(path), frame, check_dtype=False)
    lab.train(path, "y")
    assert len(lab.predict(path)) == 40


def test_json_of_bare_rows_gets_numbers_for_names(tmp_path):
    (tmp_path / "a.json").write_text("[[1, 2.5], [3, null]]")
    assert open_source(tmp_path / "a.json").table().to_pydict() == {"0": [1, 3], "1": [2.5, None]}


def test_json_lines_whose_values_are_of_several_kinds_are_read(tmp_path):
    lines = [{"a": i, "b": i / 2, "c": "x"} for i in range(30)] + [{"a": "late", "b": True, "c": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    table = open_source(tmp_path / "a.jsonl").table()
    assert table.column("a").to_pylist()[-2:] == ["29", "late"]
    assert table.column("b").to_pylist()[-2:] == [14.5, 1.0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a": 1', "cannot be read"),
        (b'["a", 1]', "is JSON, but not a table"),
        (b"3", "is JSON, but not a table"),
        (b"[[1, 2], [3]]", "differ in length"),
        ('[{"a": "m\xfcll"}]'.encode("latin-1"), "is not UTF-8"),
        (b"[]", "has no rows"),
        (b"PK\x03\x04", "is not JSON: it is a ZIP archive"),
    ],
)
def test_json_that_is_no_table_is_refused_for_its_true_reason(tmp_path, data, said):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DataError, match=said):
        open_source(tmp_path / "a.json").table()


def test_json_in_utf_16_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(_rows().to_json(orient="records").encode("utf-16"))
    pd.testing.assert_frame_equal(_read(tmp_path / "a.json"), _rows(), check_dtype=False)


def test_a_parquet_part_of_many_row_groups_is_read_a_chunk_at_a_time(tmp_path):
    pq.write_table(pa.table({"a": range(100)}), tmp_path / "a.parquet", row_group_size=9)
    assert [len(part) for part in open_source(tmp_path).chunks(40)] == [40, 40, 20]
