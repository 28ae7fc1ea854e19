"""CSV, Parquet, JSON lines and Arrow files, by path or URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError, did_you_mean
from maas_magics.core.data.sources import sources

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


class FileSource:
    """A file, or a folder of files of one format, read in chunks."""

    arrays = False
    rows: int | None = None

    def __init__(self, path: str) -> None:
        self._path = path
        ending = path.rstrip("/").removesuffix(".gz").rpartition(".")[2].lower()
        filesystem, inner = _filesystem(path)
        if filesystem is None and os.path.isdir(inner):
            ending = next((name.rpartition(".")[2].lower() for name in sorted(os.listdir(inner)) if "." in name), "")
        if ending not in FORMATS:
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
            self._dataset = pyarrow.dataset.dataset(inner, format=kind, filesystem=filesystem)
        except FileNotFoundError:
            raise DataError(f"There is no file {path!r}.", f"The working folder is {os.getcwd()!r}.") from None
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path!r} cannot be read: {_first_line(error)}") from None

    def table(self) -> pa.Table:
        """All rows."""
        try:
            return self._dataset.to_table()
        except pa.ArrowInvalid as error:
            raise DataError(f"{self._path!r} cannot be read: {_first_line(error)}") from None

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """All rows, at most ``rows`` at a time; only a few chunks are ever in memory."""
        try:
            for batch in self._dataset.to_batches(batch_size=rows, batch_readahead=1, fragment_readahead=1):
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])
        except pa.ArrowInvalid as error:
            raise DataError(f"{self._path!r} cannot be read: {_first_line(error)}") from None

    def restore(self, columns: dict[str, np.ndarray[Any, Any]]) -> Any:
        """Answers as a pandas table where pandas is installed, else as an Arrow table."""
        from importlib.util import find_spec

        if find_spec("pandas") is None:
            return pa.table(columns)
        import pandas as pd

        return pd.DataFrame(columns)


def _filesystem(path: str) -> tuple[Any, str]:
    if "://" not in path:
        return None, os.path.expanduser(path)
    import fsspec
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    try:
        filesystem, inner = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise DataError(f"{path!r} cannot be opened: {_first_line(error)}") from None
    return PyFileSystem(FSSpecHandler(filesystem)), inner


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
