"""Data that are told apart without all of them being read."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

from maas_magics.api.errors import MaasError
from maas_magics.core.data.sources import Rereadable, is_files, open_source

ENDS = 10_000
"""Rows at the beginning and at the end that are looked at."""


def digest_of(data: Any, target: Any = None, csv: str | None = None) -> str:
    """Digest of how rows begin and end, and of how many there are; of loaders and datasets only what they are.

    Parameters
    ----------
    data : Any
        What the user gave as data; empty for none.
    target : Any
        Counts where it is an array.
    csv : str, optional
        How CSV files are written.
    """
    if data is None:
        return ""
    parts = list(data) if isinstance(data, tuple) and len(data) == 2 and not is_files(data) else [data]
    parts += [target] if hasattr(target, "shape") else []
    digest = hashlib.sha256()
    for part in parts:
        try:
            source = open_source(part, csv if is_files(part) else None)
            if isinstance(source, Rereadable):  # the end of which is not read for this
                ends, size = [next(iter(source.chunks(ENDS)), pa.table({}))], source.size()
            else:
                table = source.table()
                ends, size = [table.slice(0, ENDS), table.slice(max(0, len(table) - ENDS))], len(table)
        except MaasError:
            digest.update(type(part).__name__.encode())
            continue
        digest.update(str(size).encode())
        for end in ends:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, end.schema) as writer:
                writer.write_table(end)
            digest.update(sink.getvalue())
    return digest.hexdigest()[:16]
