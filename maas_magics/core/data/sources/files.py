"""CSV, Parquet, JSON and Arrow files, by path or URL; folders of them, patterns of their names, and lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.files.columnar import Ipc, Parquet
from maas_magics.core.data.files.delimited import Delimited, head_of, other_format
from maas_magics.core.data.files.dialect import read_dialect
from maas_magics.core.data.files.documents import Documents
from maas_magics.core.data.files.places import Place, find, first_line, looks_like_files, names_of
from maas_magics.core.data.files.schemas import conform, key_types, unified
from maas_magics.core.data.media import PICTURES, SOUNDS, files_of_pattern, folder_of_files, is_path
from maas_magics.core.data.sources import ARRAY, Answers, Source, as_arrow, as_pandas, plain, sources
from maas_magics.core.data.sources.arrays import ArraySource
from maas_magics.core.data.sources.frames import FrameSource


class Reader(Protocol):
    """What reads the files of one format."""

    def notes(self, places: list[Place]) -> list[str]:
        """Notes on what was inferred from the files."""

    def schema(self, place: Place) -> pa.Schema:
        """Columns of a file."""

    def table(self, place: Place, schema: pa.Schema) -> pa.Table:
        """All rows of a file."""

    def batches(self, place: Place, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
        """Rows of a file, at most ``rows`` at a time."""

    def size(self, place: Place, schema: pa.Schema) -> int:
        """Bytes that the rows take in memory, estimated without reading them."""

    def wider(self, error: pa.ArrowInvalid, place: Place, schema: pa.Schema) -> pa.Schema | None:
        """Columns in wider types after a value did not fit; None if ``error`` is about something else."""


class FileSource:
    """Files of one format, read in chunks, with the columns that their folders name.

    Parameters
    ----------
    data : path, URL, pattern of names, folder, or a list of them
        Files of one format; a folder stands for all files below it.
    csv : str, optional
        How CSV files are written; see `maas_magics.core.data.files.dialect.read_dialect`.

    Raises
    ------
    DataError
        If they cannot be read.
    """

    arrays = False
    rows: int | None = None

    def __init__(self, data: Any, csv: str | None = None) -> None:
        said = read_dialect(csv)
        self._places, self.notes = find(data)
        kind = self._places[0].kind
        if csv and kind != "csv":
            raise DataError(f"{names_of(self._places)} is not CSV, which csv={csv!r} is for.", "Leave it out.")
        readers: dict[str, Callable[[], Reader]] = {
            "csv": lambda: Delimited(said),
            "json": Documents,
            "parquet": Parquet,
            "ipc": Ipc,
        }
        self.origin = "csv" if kind == "csv" else "file"
        self._reader = readers[kind]()
        self._now = self._places[0]
        self._folders: set[str] = set()
        self.schema = self._read_schema()
        self.notes = [*self.notes, *self._reader.notes(self._places)]

    def _read_schema(self) -> pa.Schema:
        schemas = []
        for place in self._places:
            self._now = place
            try:
                schemas.append(self._reader.schema(place))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, OSError, UnicodeError) as error:
                raise self._unreadable(error) from None
            if len(set(schemas[-1].names)) < len(schemas[-1].names):
                doubled = next(name for name in schemas[-1].names if schemas[-1].names.count(name) > 1)
                raise DataError(f"{place.name!r} has more than one column named {doubled!r}.", "Rename one of them.")
        schema = unified(schemas)
        for name, type_ in key_types([place.keys for place in self._places]).items():
            if name not in schema.names:
                schema = schema.append(pa.field(name, type_))
                self._folders.add(name)
        return schema

    @property
    def _own(self) -> pa.Schema:
        """Columns that stand in the files themselves."""
        return pa.schema([field for field in self.schema if field.name not in self._folders])

    def _unreadable(self, error: BaseException) -> DataError:
        """Why the current file cannot be read: what it really is, or what the reader says."""
        place = self._now
        if isinstance(error, FileNotFoundError):
            return DataError(f"There is no file {place.path!r}.")
        what = ""
        if place.kind in ("csv", "json") and not place.packed:
            what = other_format(head_of(place))
        if what:
            return DataError(f"{place.name!r} is not {place.ending.upper()}: it is {what}.", "Give it its own ending.")
        if isinstance(error, UnicodeError) or "invalid UTF8" in str(error):
            return DataError(f"{place.name!r} is not in the encoding it was read in.", 'csv="encoding=latin-1"')
        if isinstance(self._reader, Delimited) and (found := self._reader.misshapen(error, place)) is not None:
            return DataError(f"{place.name!r} {found[0]}.", found[1])
        return DataError(f"{place.name!r} cannot be read: {first_line(error)[:300]}")

    def typed(self, texts: Collection[str]) -> FileSource:
        """Read columns that are known to be texts as such, letter for letter."""
        for at, field in enumerate(self.schema):
            loose = isinstance(self._reader, (Delimited, Documents)) or all(field.name in p.keys for p in self._places)
            number = isinstance(self._reader, Documents) and not pa.types.is_timestamp(field.type)
            if field.name in texts and loose and not number:
                self.schema = self.schema.set(at, field.with_type(pa.string()))
        return self

    def table(self) -> pa.Table:
        """All rows."""
        while True:
            try:
                parts = []
                for place in self._places:
                    self._now = place
                    parts.append(conform(self._reader.table(place, self._own), self.schema, place.keys))
                return plain(pa.concat_tables(parts) if len(parts) > 1 else parts[0], whole=True)
            except pa.ArrowInvalid as error:
                self._widen(error)
            except (pa.ArrowNotImplementedError, OSError, UnicodeError) as error:
                raise self._unreadable(error) from None

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """All rows, at most ``rows`` at a time; only a few chunks are ever in memory."""
        done, finished = 0, False
        while not finished:
            seen = 0
            try:
                for place in self._places:
                    self._now = place
                    for part in self._reader.batches(place, self._own, rows):
                        fresh = part.slice(min(max(done - seen, 0), len(part)))
                        seen += len(part)
                        done += len(fresh)
                        if len(fresh):
                            yield plain(conform(fresh, self.schema, place.keys))
                finished = True
            except pa.ArrowInvalid as error:
                self._widen(error)
            except (pa.ArrowNotImplementedError, OSError, UnicodeError) as error:
                raise self._unreadable(error) from None

    def _widen(self, error: pa.ArrowInvalid) -> None:
        """Take a wider type for a column, whose type was inferred from the first bytes of a file.

        Raises
        ------
        DataError
            If that is not what ``error`` is about.
        """
        wider = self._reader.wider(error, self._now, self._own)
        if wider is None:
            raise self._unreadable(error) from None
        for field in wider:
            at = self.schema.get_field_index(field.name)
            self.schema = self.schema.append(field) if at < 0 else self.schema.set(at, field)

    def size(self) -> int:
        """Bytes that all rows take in memory, estimated from the files' sizes, and of Parquet from its metadata."""
        return sum(self._reader.size(place, self._own) for place in self._places)

    def restore(self, columns: Answers) -> Any:
        """Answers as a pandas table where pandas is installed, else as an Arrow table."""
        from importlib.util import find_spec

        return as_arrow(columns) if find_spec("pandas") is None else as_pandas(columns)


class SeveralFiles(FrameSource):
    """A row for each file, by its path; the answer to each goes by it, too."""

    def restore(self, columns: Answers) -> Any:
        """Answers as a pandas table, by the paths of the files, where pandas is installed, else as an Arrow table."""
        from importlib.util import find_spec

        return as_arrow(columns) if find_spec("pandas") is None else as_pandas(columns, self.table()[0].to_pylist())


@sources.register("files")
class Files:
    """Opens paths and URLs."""

    @staticmethod
    def accepts(data: Any) -> bool:
        """Strings, path objects, and lists of them."""
        return isinstance(data, (str, os.PathLike)) or looks_like_files(data)

    @staticmethod
    def open(data: Any, csv: str | None = None) -> Source:
        """Path or URL as a source; a picture or a sound as one row, a folder or pattern of them as a table of paths."""
        if isinstance(data, (str, os.PathLike)) and is_path(str(data), (*PICTURES, *SOUNDS)):
            return ArraySource({ARRAY: np.array([str(data)], dtype=object)})
        files = None
        if isinstance(data, (str, os.PathLike)):
            files = folder_of_files(str(data)) or files_of_pattern(str(data))
        return FileSource(data, csv) if files is None else SeveralFiles(files)
