"""Parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from maas_magics.core.data.files.places import Place

BUFFER = 2**20
"""Bytes read at a time of each column of a Parquet file."""


class Parquet:
    """Reads Parquet files."""

    def notes(self, places: list[Place]) -> list[str]:
        """Nothing: the files say what they are."""
        return []

    def _opened(self, place: Place, whole: bool = False) -> Any:
        import pyarrow.parquet

        source = place.filesystem.open_input_file(place.path)
        return pyarrow.parquet.ParquetFile(source, buffer_size=0 if whole else BUFFER, pre_buffer=whole)

    def schema(self, place: Place) -> pa.Schema:
        """Columns of a file."""
        with self._opened(place) as file:
            return file.schema_arrow.remove_metadata()

    def table(self, place: Place, schema: pa.Schema) -> pa.Table:
        """All rows of a file."""
        with self._opened(place, whole=True) as file:
            return file.read(columns=_there(file.schema_arrow, schema)).replace_schema_metadata(None)

    def batches(self, place: Place, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
        """Rows of a file, at most ``rows`` at a time; a scan would hold whole row groups, which may be a whole file."""
        with self._opened(place) as file:
            for batch in file.iter_batches(rows, columns=_there(file.schema_arrow, schema)):
                yield pa.Table.from_batches([batch]).replace_schema_metadata(None)

    def size(self, place: Place, schema: pa.Schema) -> int:
        """Bytes of the rows in memory: texts as they are stored, which may repeat one another."""
        with self._opened(place) as file:
            metadata = file.metadata
        wide = 0
        for field in schema:
            kind = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
            try:
                wide += max(1, kind.bit_width // 8)
            except ValueError:
                wide += kind.list_size * 8 if pa.types.is_fixed_size_list(kind) else 16
        stored = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        return max(int(metadata.num_rows) * wide, int(stored))

    def wider(self, error: pa.ArrowInvalid, place: Place, schema: pa.Schema) -> pa.Schema | None:
        """Nothing: their types are written in them."""
        return None


class Ipc:
    """Reads Arrow files, also such as are compressed, and streams."""

    def notes(self, places: list[Place]) -> list[str]:
        """Nothing: the files say what they are."""
        return []

    def _opened(self, place: Place) -> Any:
        try:
            return pa.ipc.open_file(place.filesystem.open_input_file(place.path))
        except pa.ArrowInvalid as error:
            try:
                return pa.ipc.open_stream(place.filesystem.open_input_stream(place.path, compression=None))
            except pa.ArrowInvalid:
                raise error from None

    def schema(self, place: Place) -> pa.Schema:
        """Columns of a file."""
        return self._opened(place).schema.remove_metadata()

    def table(self, place: Place, schema: pa.Schema) -> pa.Table:
        """All rows of a file."""
        return self._opened(place).read_all().replace_schema_metadata(None)

    def batches(self, place: Place, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
        """Rows of a file, at most ``rows`` at a time."""
        opened = self._opened(place)
        each = (
            (opened.get_batch(i) for i in range(opened.num_record_batches))
            if hasattr(opened, "num_record_batches")
            else opened
        )
        for batch in each:
            whole = pa.Table.from_batches([batch]).replace_schema_metadata(None)
            for start in range(0, len(whole), rows):
                yield whole.slice(start, rows)

    def size(self, place: Place, schema: pa.Schema) -> int:
        """Bytes of the file, which are those in memory unless it is compressed."""
        return place.size

    def wider(self, error: pa.ArrowInvalid, place: Place, schema: pa.Schema) -> pa.Schema | None:
        """Nothing: their types are written in them."""
        return None


def _there(columns: pa.Schema, schema: pa.Schema) -> list[str]:
    return [name for name in schema.names if name in columns.names]
