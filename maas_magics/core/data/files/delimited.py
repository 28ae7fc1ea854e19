"""Delimited text: CSV, TSV and their like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from maas_magics.core.data.files.dialect import HEAD, WORDS, Dialect, patterns, sniff
from maas_magics.core.data.files.header import all_numbers, clean_names, misshapen
from maas_magics.core.data.files.places import Place

BLOCK = 2**20
"""Bytes that types are inferred from, and that are read at a time."""

WHOLE = pa.decimal128(38, 0)
"""Type of whole numbers that 64 bits do not hold."""

LONG = re.compile(rb"\d{19}")
PADDED = re.compile(rb"(?<![\d.])0\d")

WIDER = {pa.null(): pa.int64(), pa.int64(): pa.float64(), WHOLE: pa.float64()}
"""What a column is read as when a value does not fit its type; text where nothing is named."""

OTHER_FORMATS = {
    b"PK\x03\x04": "a ZIP archive, such as an Excel workbook",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x1f\x8b": "compressed by gzip",
    b"BZh": "compressed by bzip2",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard",
    b"SQLite format 3": "an SQLite database",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"%PDF": "a PDF document",
}
"""What a file is whose bytes begin so."""


def head_of(place: Place) -> bytes:
    """The first bytes of a file, unpacked."""
    with place.stream() as stream:
        data: bytes = stream.read(HEAD)
    return data


def other_format(head: bytes) -> str:
    """What a file of text really is, if not text."""
    return next((what for magic, what in OTHER_FORMATS.items() if head.startswith(magic)), "")


def options(dialect: Dialect, types: Mapping[str, pa.DataType] | None) -> dict[str, Any]:
    """Options of Arrow's reader for a file."""
    return {
        "read_options": pyarrow.csv.ReadOptions(
            block_size=BLOCK,
            skip_rows=dialect.skip,
            encoding=dialect.encoding.replace("utf-8-sig", "utf-8"),
            autogenerate_column_names=not dialect.header,
        ),
        "parse_options": pyarrow.csv.ParseOptions(delimiter=dialect.separator, newlines_in_values=True),
        "convert_options": pyarrow.csv.ConvertOptions(
            null_values=[*WORDS, *dialect.missing],
            strings_can_be_null=False,
            decimal_point=dialect.decimal,
            column_types=dict(types or {}),
            timestamp_parsers=[pyarrow.csv.ISO8601, *patterns(dialect)],
        ),
    }


class Delimited:
    """Reads files of delimited text, a block at a time.

    Parameters
    ----------
    said : Dialect
        What the caller gave about them.
    """

    def __init__(self, said: Dialect) -> None:
        self.said = said
        self.dialects: dict[str, Dialect] = {}
        self._raw: dict[str, dict[str, str]] = {}
        """What Arrow calls the columns of a file, by their names."""

    def dialect(self, place: Place) -> Dialect:
        """How one of them is written."""
        if place.path not in self.dialects:
            self.dialects[place.path] = sniff(head_of(place), place.ending, self.said)
        return self.dialects[place.path]

    def notes(self, places: list[Place]) -> list[str]:
        """What was inferred from the files, where it is not what their ending says."""
        found: dict[str, str] = {}
        for place in places:
            dialect = self.dialect(place)
            usual = "\t" if place.ending == "tsv" else ","
            expected = {"separator": usual, "decimal": ".", "encoding": "utf-8"}
            if any(getattr(dialect, key) != value for key, value in expected.items() if key not in dialect.told):
                found.setdefault(str(dialect), place.name)
        told = [
            f'{name!r} is read with {dialect}; csv="sep=," (--csv sep=,) says otherwise.'
            for dialect, name in found.items()
        ]
        first, names = places[0], list(self._raw.get(places[0].path, {}))
        if self.dialect(first).header and "header" not in self.dialect(first).told and all_numbers(names):
            shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
            told.append(
                f"The first row of {first.name!r} is taken for names of columns, though it is numbers ({shown}). "
                'Where the file has no header, csv="header=no" (--csv header=no) says so; its columns are 0, 1, … then.'
            )
        return told

    def schema(self, place: Place) -> pa.Schema:
        """Columns of a file, as its first block shows them."""
        with place.stream() as stream:
            data = stream.read(2 * BLOCK)  # not the stream itself, which the reader would continue to read
        dialect = self.dialect(place)
        found = pyarrow.csv.open_csv(BytesIO(data), **options(dialect, None)).schema
        found = _with_long(found, data, dialect) if LONG.search(data) else found
        found = _with_padded(found, data, dialect) if PADDED.search(data) else found
        names = clean_names(found.names, self._text(data[:HEAD], dialect, dialect.skip), dialect)
        self._raw[place.path] = dict(zip(names, found.names, strict=True))
        return pa.schema([field.with_name(name) for field, name in zip(found, names, strict=True)])

    @staticmethod
    def _text(data: bytes, dialect: Dialect, skip: int = 0) -> str:
        text = data.decode(dialect.encoding, errors="replace").lstrip("\ufeff")
        return "".join(text.splitlines(keepends=True)[skip:]) if skip else text

    def misshapen(self, error: BaseException, place: Place) -> tuple[str, str] | None:
        """What is wrong with a row that is longer or shorter than the header, as `header.misshapen` has it."""
        dialect = self.dialect(place)
        return misshapen(self._text(head_of(place), dialect), dialect, str(error))

    def _types(self, place: Place, schema: pa.Schema) -> dict[str, pa.DataType]:
        raw = self._raw.get(place.path, {})
        return {raw.get(field.name, field.name): field.type for field in schema}

    def table(self, place: Place, schema: pa.Schema) -> pa.Table:
        """All rows of a file."""
        dialect = self.dialect(place)
        with place.stream() as stream:
            table = pyarrow.csv.read_csv(stream, **options(dialect, self._types(place, schema)))
            return self._given(self._renamed(table, place), dialect)

    def batches(self, place: Place, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
        """Rows of a file, at most ``rows`` at a time."""
        dialect = self.dialect(place)
        with place.stream() as stream:
            for batch in pyarrow.csv.open_csv(stream, **options(dialect, self._types(place, schema))):
                whole = self._given(self._renamed(pa.Table.from_batches([batch]), place), dialect)
                for start in range(0, len(whole), rows):
                    yield whole.slice(start, rows)

    def _renamed(self, table: pa.Table, place: Place) -> pa.Table:
        names = list(self._raw.get(place.path, {}))
        return table.rename_columns(names) if len(names) == table.num_columns else table

    def _given(self, table: pa.Table, dialect: Dialect) -> pa.Table:
        """Rows whose texts that mean *missing* are null."""
        if not dialect.missing:
            return table
        words = pa.array(dialect.missing)
        for i, field in enumerate(table.schema):
            if pa.types.is_string(field.type):
                column = table.column(i)
                gone = pa.compute.is_in(column, words)
                table = table.set_column(i, field, pa.compute.if_else(gone, pa.scalar(None, pa.string()), column))
        return table

    def size(self, place: Place, schema: pa.Schema) -> int:
        """Bytes that the rows take in memory, estimated from the size of the file."""
        return place.size * (4 if place.packed else 1)

    def wider(self, error: pa.ArrowInvalid, place: Place, schema: pa.Schema) -> pa.Schema | None:
        """The columns with a wider type for the one that an error is about; None if it is about something else.

        A file that turns out not to be UTF-8 after its first block is read as Latin-1 from then on.
        """
        dialect = self.dialect(place)
        if "invalid UTF8" in str(error) and dialect.encoding == "utf-8" and "encoding" not in dialect.told:
            self.dialects[place.path] = replace(dialect, encoding="cp1252")
            return schema
        found = re.search(r"CSV column #(\d+):.*(?:conversion error|[Dd]ecimal)", str(error))
        if found is None:
            return None
        name = self.names(place)[int(found[1])]
        at = schema.get_field_index(name)
        if at < 0 or pa.types.is_string(schema.field(at).type):
            return None
        field = schema.field(at)
        return schema.set(at, field.with_type(WIDER.get(field.type, pa.string())))

    def names(self, place: Place) -> list[str]:
        """Columns of a file in its own order."""
        return list(self.schema(place).names)


def _with_long(schema: pa.Schema, data: bytes, dialect: Dialect) -> pa.Schema:
    """Columns of a file, those of whole numbers too long for 64 bits as such, which Arrow rounds to floats."""
    for at, field in enumerate(schema):
        if not pa.types.is_floating(field.type):
            continue
        try:
            pyarrow.csv.open_csv(BytesIO(data), **options(dialect, {field.name: WHOLE}))
        except pa.ArrowInvalid:
            continue
        schema = schema.set(at, field.with_type(WHOLE))
    return schema


def _with_padded(schema: pa.Schema, data: bytes, dialect: Dialect) -> pa.Schema:
    """Columns of a file, those of numbers with zeros in front, as postal codes have them, as texts."""
    whole = [field.name for field in schema if pa.types.is_integer(field.type)]
    if not whole:
        return schema
    texts = pyarrow.csv.open_csv(BytesIO(data), **options(dialect, dict.fromkeys(whole, pa.string()))).read_next_batch()
    for name in whole:
        at = schema.get_field_index(name)
        if at >= 0 and pc.any(pc.match_substring_regex(texts.column(name), r"^\s*0\d+\s*$")).as_py():
            schema = schema.set(at, schema.field(at).with_type(pa.string()))
    return schema
