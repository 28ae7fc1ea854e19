"""CSV, Parquet, JSON lines and Arrow files, by path or URL."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa

from maas_magics.api.errors import DataError, did_you_mean
from maas_magics.core.data.sources import Answers, as_arrow, as_pandas, plain, sources

FORMATS = {
    "csv": "csv",
    "tsv": "csv",
    "txt": "csv",
    "parquet": "parquet",
    "pq": "parquet",
    "jsonl": "json",
    "ndjson": "json",
    "json": "json",
    "arrow": "ipc",
    "feather": "ipc",
    "ipc": "ipc",
}
"""Dataset format of each file ending."""


BUFFER = 2**20
"""Bytes read at a time of each column of a Parquet file."""

COMPRESSED = 4
"""How many times larger text is taken to be once it is unpacked."""

WIDER = {pa.null(): pa.int64(), pa.int64(): pa.float64()}
"""What a column of a CSV file is read as when a value does not fit its type; text where nothing is named."""


class FileSource:
    """A file, or a folder of files of one format, read in chunks."""

    arrays = False
    rows: int | None = None

    def __init__(self, path: str) -> None:
        self._path = path
        filesystem, inner = _filesystem(path)
        ending = _ending(inner)
        if ending not in FORMATS:
            ending = next((found for name in _inside(filesystem, inner) if (found := _ending(name)) in FORMATS), ending)
        if ending not in FORMATS:
            if filesystem.get_file_info(inner).type.name == "NotFound":
                raise self._absent(path)
            raise DataError(f"Cannot tell the format of {path!r} from its ending.", did_you_mean(ending, FORMATS))
        import pyarrow.csv
        import pyarrow.dataset

        kind: Any = FORMATS[ending]
        if kind == "csv":
            kind = pyarrow.dataset.CsvFileFormat(
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter="\t" if ending == "tsv" else ",", newlines_in_values=True
                ),
                convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True),
            )
        try:
            self._open = partial(pyarrow.dataset.dataset, inner, format=kind, filesystem=filesystem)
            self._dataset = self._open()
        except FileNotFoundError:
            raise self._absent(path) from None
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path!r} cannot be read: {_first_line(error)}") from None

    @staticmethod
    def _absent(path: str) -> DataError:
        return DataError(f"There is no file {path!r}.", f"The working folder is {os.getcwd()!r}.")

    def table(self) -> pa.Table:
        """All rows."""
        while True:
            try:
                return plain(self._dataset.to_table())
            except pa.ArrowInvalid as error:
                self._widen(error)

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """All rows, at most ``rows`` at a time; only a few chunks are ever in memory."""
        done, finished = 0, False
        while not finished:
            seen = 0
            try:
                for batch in self._batches(rows):
                    fresh = batch.slice(min(max(done - seen, 0), batch.num_rows))
                    seen += batch.num_rows
                    done += fresh.num_rows
                    if fresh.num_rows:
                        yield plain(pa.Table.from_batches([fresh]))
                finished = True
            except pa.ArrowInvalid as error:
                self._widen(error)
            except OSError as error:
                raise DataError(f"{self._path!r} cannot be read: {_first_line(error)}") from None

    def _batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Batches in the order of the rows. A scan holds whole row groups of Parquet, which may be a whole file."""
        if self._dataset.format.default_extname != "parquet":
            yield from self._dataset.to_batches(batch_size=rows, batch_readahead=1, fragment_readahead=1)
            return
        import pyarrow.parquet

        schema = self._dataset.schema
        for fragment in self._dataset.get_fragments():
            with (
                fragment.open() as opened,
                pyarrow.parquet.ParquetFile(opened, buffer_size=BUFFER, pre_buffer=False) as file,
            ):
                columns = [name for name in schema.names if name in file.schema_arrow.names]
                for batch in file.iter_batches(rows, columns=columns):
                    yield batch if batch.schema.equals(schema) else _conform(batch, schema)

    def size(self) -> int:
        """Bytes that all rows take in memory, told from the files' sizes, and of Parquet from its metadata."""
        total = 0
        for fragment in self._dataset.get_fragments():
            if self._dataset.format.default_extname == "parquet":
                total += _unpacked(fragment.metadata, self._dataset.schema)
                continue
            packed = fragment.path.lower().endswith((".gz", ".bz2", ".zst"))
            total += self._dataset.filesystem.get_file_info(fragment.path).size * (COMPRESSED if packed else 1)
        return total

    def _widen(self, error: pa.ArrowInvalid) -> None:
        """Take a wider type for a column of a CSV file, whose types were told from its first megabyte.

        Raises
        ------
        DataError
            If that is not what ``error`` is about.
        """
        schema = self._dataset.schema
        found = re.search(r"CSV column #(\d+):.*conversion error", str(error))
        number = int(found[1]) if found is not None else -1
        field = schema.field(number)
        if number < 0 or pa.types.is_string(field.type):
            raise DataError(f"{self._path!r} cannot be read: {_first_line(error)}") from None
        wider = WIDER.get(field.type, pa.string())
        self._dataset = self._open(schema=schema.set(number, field.with_type(wider)))

    def restore(self, columns: Answers) -> Any:
        """Answers as a pandas table where pandas is installed, else as an Arrow table."""
        from importlib.util import find_spec

        return as_arrow(columns) if find_spec("pandas") is None else as_pandas(columns)


def _conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch of one file of several in the types of the first, with nothing where a column is absent."""
    there = batch.schema.names
    columns = [
        batch.column(field.name).cast(field.type) if field.name in there else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _unpacked(metadata: Any, schema: pa.Schema) -> int:
    """Bytes of a Parquet file's rows in memory: texts as they are stored, which may repeat one another."""
    wide = 0
    for field in schema:
        kind = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
        try:
            wide += max(1, kind.bit_width // 8)
        except ValueError:
            wide += kind.list_size * 8 if pa.types.is_fixed_size_list(kind) else 16
    stored = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return max(int(metadata.num_rows) * wide, int(stored))


def _filesystem(path: str) -> tuple[Any, str]:
    from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

    if "://" not in path:
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(path))
    import fsspec

    try:
        filesystem, inner = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise DataError(f"{path!r} cannot be opened: {_first_line(error)}") from None
    return PyFileSystem(FSSpecHandler(filesystem)), inner


def _ending(path: str) -> str:
    """Ending of a file's name, without that of its compression."""
    name = path.partition("?")[0].rstrip("/").rpartition("/")[2].lower()
    for compression in (".gz", ".bz2", ".zst"):
        name = name.removesuffix(compression)
    return name.rpartition(".")[2] if "." in name else ""


def _inside(filesystem: Any, folder: str) -> list[str]:
    """Files of a folder, sorted; none where it is no folder."""
    from pyarrow.fs import FileSelector

    if filesystem.get_file_info(folder).type.name != "Directory":
        return []
    return sorted(info.path for info in filesystem.get_file_info(FileSelector(folder, recursive=True)) if info.is_file)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@sources.register("files")
class Files:
    """Opens paths and URLs."""

    @staticmethod
    def accepts(data: Any) -> bool:
        """Strings and path objects."""
        return isinstance(data, (str, os.PathLike))

    @staticmethod
    def open(data: Any) -> FileSource:
        """Path or URL as a source."""
        return FileSource(os.fspath(data))
